//! Who is admitted, who waits, and who is turned away.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Priority, Reason, Terms};

const PRIORITIES: usize = Priority::ALL.len();

/// Longer than anybody lives to wait.
const AGES: Duration = Duration::from_secs(30 * 365 * 86_400);

/// How fast the time of a quick request follows slower ones: by this part of the difference each.
const QUICK_STEP: u32 = 64;

/// Where requests wait while the limit is reached, and for how long.
///
/// By default 1000 may wait, for 100 ms each, and for 5 ms under pressure.
///
/// Source: Maurer, "Fail at Scale", 2015: controlled delay and adaptive LIFO, with the same times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    limit: usize,
    patience: Duration,
    target: Duration,
}

impl Queue {
    /// A queue of at most `limit` requests, each of which waits for at most `patience`, and a twentieth of that under
    /// pressure.
    ///
    /// The patience should be well below the time after which callers give up: what they no longer wait for is not worth
    /// doing.
    pub const fn new(limit: usize, patience: Duration) -> Self {
        let target = match patience.checked_div(20) {
            Some(target) => target,
            None => Duration::ZERO,
        };
        Self { limit, patience, target }
    }

    /// Nobody waits: what exceeds the limit is turned away at once.
    pub const fn none() -> Self {
        Self::new(0, Duration::ZERO)
    }

    /// Sets how long those may wait who come under pressure: while there has been somebody waiting for as long as the
    /// patience, without a break. No longer than the patience.
    #[must_use]
    pub fn target(self, target: Duration) -> Self {
        Self { target: target.min(self.patience), ..self }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self::new(1000, Duration::from_millis(100))
    }
}

/// Admits requests up to a limit, and lets a bounded number wait: the core of a [`Limiter`](super::Limiter), for use where
/// there is no tokio, such as in a simulation.
///
/// `T` is what a waiting request is known by. Every operation is O(log n) in the number of those who wait. The rules:
///
/// - Never are more than the limit admitted. When the limit falls, those in flight go on.
/// - Room goes to those who matter most ([`Priority`]), among these to whoever came first; under pressure to whoever came
///   last, as those who came first have little time left.
/// - There is pressure on a priority while requests that matter as much or more have been waiting for as long as the
///   patience, without a break. Who comes then waits for a shorter time, so that a queue cannot stand.
/// - When the queue is full, a newcomer takes the place of the oldest of those who matter least, unless they all matter
///   more than it does.
/// - Nobody waits for longer than the patience, nor until there is less time left before its deadline than even a quick
///   request takes. So while those who matter more are too many, others get nothing at all, but they are told so soon.
///
/// ```
/// use std::time::Duration;
/// use buttress::{overload::{Admission, Arrival, Priority, Queue, Terms}, time::{Clock, ManualClock}};
///
/// let now = ManualClock::new().now();
/// let mut admission = Admission::new(1, Queue::new(10, Duration::from_secs(1)));
/// assert!(matches!(admission.arrive(Terms::default(), now, || "first"), Arrival::Admitted));
/// assert!(matches!(admission.arrive(Terms::default(), now, || "second"), Arrival::Waiting(_)));
/// let login = Terms::new(Priority::CriticalPlus);
/// assert!(matches!(admission.arrive(login, now, || "login"), Arrival::Waiting(_)));
///
/// admission.release(None);
/// assert_eq!(admission.next(now), Some(("login", Ok(()))));
/// assert_eq!(admission.next(now), None);
/// ```
#[derive(Debug)]
pub struct Admission<T> {
    limit: usize,
    in_flight: usize,
    queue: Queue,
    waiting: BTreeMap<Ticket, Waiter<T>>,
    next_number: u64,
    /// How many of each priority wait.
    counts: [usize; PRIORITIES],
    /// Since when there was always somebody waiting who matters as much, or more.
    standing: [Option<Instant>; PRIORITIES],
    /// What a quick request took of late.
    quick: Option<Duration>,
}

/// A place in the queue. Those who matter least come first, then those who came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    priority: Priority,
    number: u64,
}

#[derive(Debug)]
struct Waiter<T> {
    until: Instant,
    expiry: Reason,
    known_by: T,
}

/// What becomes of a request that arrives.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival<T> {
    /// It is in flight.
    Admitted,
    /// It waits.
    Waiting(Place<T>),
    /// It is turned away.
    Shed(Reason),
}

/// How a request waits.
#[derive(Debug, PartialEq, Eq)]
pub struct Place<T> {
    /// Where it stands.
    pub ticket: Ticket,
    /// When it is to [expire](Admission::expire).
    pub until: Instant,
    /// Whose place it took, if the queue was full.
    pub displaced: Option<T>,
}

impl<T> Admission<T> {
    /// Admits up to `limit` requests, and at least one; others wait in `queue`.
    pub fn new(limit: usize, queue: Queue) -> Self {
        Self {
            limit: limit.max(1),
            in_flight: 0,
            queue,
            waiting: BTreeMap::new(),
            next_number: 0,
            counts: [0; PRIORITIES],
            standing: [None; PRIORITIES],
            quick: None,
        }
    }

    /// How many may be in flight.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How many are in flight: more than the limit after it fell, until enough of them are over.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A request arrives `now`. If it is to wait, it is known by what `known_by` gives.
    pub fn arrive(&mut self, terms: Terms, now: Instant, known_by: impl FnOnce() -> T) -> Arrival<T> {
        if terms.deadline.is_some_and(|deadline| deadline <= now) {
            return Arrival::Shed(Reason::Deadline);
        }
        if self.waiting.is_empty() && self.in_flight < self.limit {
            self.in_flight += 1;
            return Arrival::Admitted;
        }
        self.queue_up(terms, now, known_by)
    }

    fn queue_up(&mut self, terms: Terms, now: Instant, known_by: impl FnOnce() -> T) -> Arrival<T> {
        if self.queue.limit == 0 {
            return Arrival::Shed(Reason::Full);
        }
        let latest = terms
            .deadline
            .map(|deadline| deadline.checked_sub(self.quick.unwrap_or_default()).unwrap_or(now));
        if latest.is_some_and(|latest| latest <= now) {
            return Arrival::Shed(Reason::Deadline);
        }
        let mut victim = None;
        if self.waiting.len() >= self.queue.limit {
            victim = self.waiting.first_key_value().map(|(&ticket, _)| ticket);
            if victim.is_none_or(|victim| victim.priority > terms.priority) {
                return Arrival::Shed(Reason::Full);
            }
        }
        let wait = if self.is_pressed(terms.priority, now) { self.queue.target } else { self.queue.patience };
        let end = now.checked_add(wait).unwrap_or_else(|| now + AGES);
        let (until, expiry) = match latest {
            Some(latest) if latest < end => (latest, Reason::Deadline),
            _ => (end, Reason::Waited),
        };
        let ticket = Ticket { priority: terms.priority, number: self.next_number };
        self.next_number += 1;
        self.waiting.insert(ticket, Waiter { until, expiry, known_by: known_by() });
        self.counts[ticket.priority as usize] += 1;
        for standing in &mut self.standing[..=ticket.priority as usize] {
            standing.get_or_insert(now);
        }
        // After the newcomer is in, so that there is always somebody who waits.
        let displaced = victim.and_then(|victim| self.take(victim)).map(|waiter| waiter.known_by);
        Arrival::Waiting(Place { ticket, until, displaced })
    }

    /// A request that was admitted is over; `served` is how long the service took to answer it, if it did. Ask who is
    /// [next](Self::next).
    pub fn release(&mut self, served: Option<Duration>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(served) = served {
            let quick = self.quick.map_or(served, |quick| quick + served.saturating_sub(quick) / QUICK_STEP);
            self.quick = Some(quick.min(served));
        }
    }

    /// Sets how many may be in flight, at least one. Ask who is [next](Self::next).
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// Who stops waiting `now`, because there is room, or no time left. Ask until there is nobody.
    pub fn next(&mut self, now: Instant) -> Option<(T, Result<(), Reason>)> {
        if self.in_flight >= self.limit {
            return None;
        }
        let (&newest, _) = self.waiting.last_key_value()?;
        let first = Ticket { number: 0, ..newest };
        let chosen = if self.is_pressed(newest.priority, now) {
            newest
        } else {
            self.waiting.range(first..).next().map_or(newest, |(&oldest, _)| oldest)
        };
        let Waiter { until, expiry, known_by } = self.take(chosen)?;
        if until <= now {
            return Some((known_by, Err(expiry)));
        }
        self.in_flight += 1;
        Some((known_by, Ok(())))
    }

    /// The time of one who waits is over. `None` if it no longer waits.
    pub fn expire(&mut self, ticket: Ticket) -> Option<(T, Reason)> {
        self.take(ticket).map(|waiter| (waiter.known_by, waiter.expiry))
    }

    /// One who waits loses interest. `None` if it no longer waits.
    pub fn leave(&mut self, ticket: Ticket) -> Option<T> {
        self.take(ticket).map(|waiter| waiter.known_by)
    }

    fn take(&mut self, ticket: Ticket) -> Option<Waiter<T>> {
        let waiter = self.waiting.remove(&ticket)?;
        self.counts[ticket.priority as usize] -= 1;
        for (count, standing) in self.counts.iter().zip(&mut self.standing).rev() {
            if *count > 0 {
                break;
            }
            *standing = None;
        }
        Some(waiter)
    }

    fn is_pressed(&self, priority: Priority, now: Instant) -> bool {
        let since = self.standing[priority as usize];
        since.is_some_and(|since| now.saturating_duration_since(since) >= self.queue.patience)
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests;
