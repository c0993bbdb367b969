//! The handle that admits requests, and the permits that it gives.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::sleep};

use super::{
    Admission, Arrival, LimitAlgorithm, Outcome, Overloaded, Place, Queue, Reason, Sample, Terms, Ticket,
};
use crate::{
    balance::Guard,
    cluster::{FailureKind, Verdict},
    time::{Clock, TokioClock},
};

/// Admits as many requests at once as an algorithm finds good; others wait for a moment, or are turned away.
///
/// A cheap handle: clones share the limit. Put it around a service with [`Limit`](super::Limit), or take permits by hand,
/// for what is not a request and a response. Who waits, for how long, and who is turned away first is said at
/// [`Admission`].
///
/// ```
/// use buttress::{cluster::Verdict, overload::{Gradient, Limiter, Queue, Terms}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limiter = Limiter::new(Gradient::default(), Queue::default());
/// let mut permit = limiter.acquire(Terms::default()).await?;
/// assert_eq!(limiter.status().in_flight, 1);
/// permit.judge(Verdict::Success);
/// drop(permit);
/// assert_eq!(limiter.status().in_flight, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Limiter {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    /// The algorithm is the user's code: it has a lock of its own, which is taken before the other one.
    learning: Mutex<Learning>,
    core: Mutex<Core>,
}

struct Learning {
    algorithm: Box<dyn LimitAlgorithm>,
    /// What the core was told last.
    limit: usize,
}

struct Core {
    admission: Admission<Waiter>,
    admitted: u64,
    shed: [u64; Reason::COUNT],
}

/// How one who waits is told.
type Waiter = oneshot::Sender<Result<Permit, Reason>>;

/// What a [`Limiter`] does at the moment, and has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// How many requests may be in flight.
    pub limit: usize,
    /// How many are in flight.
    pub in_flight: usize,
    /// How many wait.
    pub waiting: usize,
    /// How many were admitted so far.
    pub admitted: u64,
    shed: [u64; Reason::COUNT],
}

impl Status {
    /// How many were turned away so far for this reason.
    pub fn shed(&self, reason: Reason) -> u64 {
        self.shed[reason.index()]
    }
}

impl Limiter {
    /// A limiter whose limit is found by `algorithm`.
    pub fn new(algorithm: impl LimitAlgorithm, queue: Queue) -> Self {
        Self::with_clock(algorithm, queue, TokioClock)
    }

    /// A limiter that reads this clock. It waits by tokio's all the same.
    pub fn with_clock(algorithm: impl LimitAlgorithm, queue: Queue, clock: impl Clock) -> Self {
        let limit = algorithm.limit();
        let core = Core { admission: Admission::new(limit, queue), admitted: 0, shed: [0; Reason::COUNT] };
        let learning = Learning { algorithm: Box::new(algorithm), limit };
        let shared =
            Shared { clock: Arc::new(clock), learning: Mutex::new(learning), core: Mutex::new(core) };
        Self { shared: Arc::new(shared) }
    }

    /// Waits for a permit.
    ///
    /// [Judge](Permit::judge) the permit, if only as [`Neutral`](Verdict::Neutral): dropped unjudged it counts as
    /// cancelled. Waiting needs a tokio runtime with its timer enabled. Dropping the future gives the place in the queue
    /// up.
    ///
    /// # Errors
    /// If there is too much to do.
    pub async fn acquire(&self, terms: Terms) -> Result<Permit, Overloaded> {
        match self.enter(terms) {
            Entry::Admitted(permit) => Ok(permit),
            Entry::Waiting(waiting) => waiting.permit().await,
            Entry::Shed(overloaded) => Err(overloaded),
        }
    }

    /// What it does at the moment.
    pub fn status(&self) -> Status {
        let core = self.shared.core();
        Status {
            limit: core.admission.limit(),
            in_flight: core.admission.in_flight(),
            waiting: core.admission.waiting(),
            admitted: core.admitted,
            shed: core.shed,
        }
    }

    /// A permit at once, a place in the queue, or neither.
    pub(super) fn enter(&self, terms: Terms) -> Entry {
        let now = self.shared.clock.now();
        let mut receiver = None;
        let mut core = self.shared.core();
        let arrival = core.admission.arrive(terms, now, || {
            let (sender, other) = oneshot::channel();
            receiver = Some(other);
            sender
        });
        match arrival {
            Arrival::Admitted => {
                core.admitted += 1;
                let in_flight = core.admission.in_flight();
                drop(core);
                Entry::Admitted(Permit::new(&self.shared, now, in_flight))
            }
            Arrival::Waiting(Place { ticket, until, displaced }) => {
                core.shed[Reason::Displaced.index()] += u64::from(displaced.is_some());
                drop(core);
                if let Some(displaced) = displaced {
                    let _ = displaced.send(Err(Reason::Displaced));
                }
                let receiver = receiver.expect("one who waits was given a sender");
                Entry::Waiting(Waiting { shared: Arc::clone(&self.shared), ticket, until, receiver })
            }
            Arrival::Shed(reason) => {
                core.shed[reason.index()] += 1;
                Entry::Shed(Overloaded::new(reason))
            }
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the algorithm know, and those who wait in case that the limit has grown.
    fn observe(self: &Arc<Self>, sample: Sample, now: Instant) {
        let mut learning = self.learning.lock().unwrap_or_else(PoisonError::into_inner);
        learning.algorithm.observe(sample, now);
        let limit = learning.algorithm.limit();
        if limit == learning.limit {
            return;
        }
        learning.limit = limit;
        // Before the other lock is given up, so that limits arrive in order.
        self.core().admission.set_limit(limit);
        drop(learning);
        self.admit_waiting(now);
    }

    fn release(self: &Arc<Self>, served: Option<Duration>) {
        let mut core = self.core();
        core.admission.release(served);
        if core.admission.waiting() > 0 {
            drop(core);
            self.admit_waiting(self.clock.now());
        }
    }

    /// Gives what room there is to those who wait.
    fn admit_waiting(self: &Arc<Self>, now: Instant) {
        let mut unwanted = false;
        loop {
            let mut core = self.core();
            if unwanted {
                core.admission.release(None);
                core.admitted -= 1;
            }
            let Some((waiter, verdict)) = core.admission.next(now) else { return };
            match verdict {
                Ok(()) => core.admitted += 1,
                Err(reason) => core.shed[reason.index()] += 1,
            }
            let in_flight = core.admission.in_flight();
            // Wakers are the user's code: they are called outside the lock.
            drop(core);
            let answer = verdict.map(|()| Permit::new(self, now, in_flight));
            unwanted = match waiter.send(answer) {
                Err(Ok(permit)) => {
                    permit.disarm();
                    true
                }
                _ => false,
            };
        }
    }
}

/// What becomes of a request that comes to a limiter.
pub(super) enum Entry {
    Admitted(Permit),
    Waiting(Waiting),
    Shed(Overloaded),
}

/// A place in the queue, given up when dropped.
pub(super) struct Waiting {
    shared: Arc<Shared>,
    ticket: Ticket,
    until: Instant,
    receiver: oneshot::Receiver<Result<Permit, Reason>>,
}

impl Waiting {
    pub(super) async fn permit(mut self) -> Result<Permit, Overloaded> {
        // The first poll may be long after the call.
        let patience = self.until.saturating_duration_since(self.shared.clock.now());
        let mut timeout = pin!(sleep(patience));
        let told = poll_fn(|cx| match Pin::new(&mut self.receiver).poll(cx) {
            Poll::Ready(told) => Poll::Ready(Some(told)),
            Poll::Pending => timeout.as_mut().poll(cx).map(|()| None),
        });
        let told = match told.await {
            Some(told) => told,
            None => match self.expire() {
                Some(reason) => Ok(Err(reason)),
                // Somebody is about to tell.
                None => (&mut self.receiver).await,
            },
        };
        told.unwrap_or(Err(Reason::Displaced)).map_err(Overloaded::new)
    }

    fn expire(&self) -> Option<Reason> {
        let mut core = self.shared.core();
        let (waiter, reason) = core.admission.expire(self.ticket)?;
        core.shed[reason.index()] += 1;
        drop(core);
        // It wakes whoever listens: outside the lock.
        drop(waiter);
        Some(reason)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let waiter = self.shared.core().admission.leave(self.ticket);
        // The channel, and the waker in it, are dropped outside the lock.
        drop(waiter);
    }
}

/// Leave for one request, given back when dropped.
#[must_use = "the permit is given back at once if it is not kept"]
pub struct Permit {
    shared: Option<Arc<Shared>>,
    start: Instant,
    in_flight: usize,
    is_judged: bool,
    /// How long the service took, once it did its work.
    served: Option<Duration>,
}

impl Permit {
    fn new(shared: &Arc<Shared>, start: Instant, in_flight: usize) -> Self {
        Self { shared: Some(Arc::clone(shared)), start, in_flight, is_judged: false, served: None }
    }

    /// Says what came of the request. Only the first time counts.
    ///
    /// The latency that the algorithm learns from ends here, while the permit may be kept for longer: a client that reads
    /// slowly does not look like a service that is slow.
    ///
    /// | verdict | the algorithm is told |
    /// |---|---|
    /// | success | success |
    /// | failure: overloaded, timeout | overloaded |
    /// | others | nothing |
    pub fn judge(&mut self, verdict: Verdict) {
        let outcome = match verdict {
            Verdict::Success => Some(Outcome::Success),
            Verdict::Failure(FailureKind::Overloaded | FailureKind::Timeout) => Some(Outcome::Overloaded),
            _ => None,
        };
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Option<Outcome>) {
        if std::mem::replace(&mut self.is_judged, true) {
            return;
        }
        let (Some(outcome), Some(shared)) = (outcome, &self.shared) else { return };
        let now = shared.clock.now();
        let latency = now.saturating_duration_since(self.start);
        self.served = (outcome == Outcome::Success).then_some(latency);
        shared.observe(Sample { latency, in_flight: self.in_flight, outcome }, now);
    }

    /// Drops it without giving anything back.
    fn disarm(mut self) {
        self.shared = None;
    }
}

impl Guard for Permit {}

impl Drop for Permit {
    fn drop(&mut self) {
        // Given back first: nothing that the algorithm does keeps others waiting.
        let Some(shared) = &self.shared else { return };
        shared.release(self.served);
        if !std::thread::panicking() {
            self.settle(Some(Outcome::Cancelled));
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("is_judged", &self.is_judged).finish_non_exhaustive()
    }
}
