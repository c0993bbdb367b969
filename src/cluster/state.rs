//! How a node is doing: what is in flight, how fast it answers, whether it fails.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Member,
    gate::Gate,
    latency::{Latency, Stamp},
};
use crate::time::Clock;

/// What is known of a node's health from checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// Nobody has looked yet, or nobody will. Takes traffic.
    #[default]
    Unknown,
    /// Takes traffic.
    Up,
    /// Takes no traffic, unless so few nodes are up that health is ignored (panic mode).
    Down,
}

impl Health {
    /// Whether a node in this state takes traffic.
    pub fn is_usable(self) -> bool {
        self != Self::Down
    }
}

/// What went wrong with a request, as far as balancing and retrying care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// No connection could be made: the node has seen nothing of the request.
    Connect,
    /// The connection broke, or what came back was not the protocol: the node may have acted on the request.
    Transport,
    /// No answer came in time: the node may have acted on the request.
    Timeout,
    /// The node answered that it failed (HTTP 500, 502, 504, …).
    Response,
    /// The node answered that it has too much to do and did not act on the request (HTTP 503, 429, …).
    Overloaded,
}

/// The judgement on one answer, made once and used by everything that learns from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The node did its work: its latency counts.
    Success,
    /// The node did not do its work: a fast failure must not look like a fast node.
    Failure(FailureKind),
    /// Says nothing about the node (a client's own mistake, for example).
    Neutral,
}

/// What every node of a cluster shares.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) origin: Instant,
    /// Counts changes of health, so that what is derived from it knows when to look again.
    pub(super) health_epoch: AtomicU64,
    pub(super) gate: Gate,
}

impl Common {
    pub(super) fn stamp(&self, now: Instant) -> Stamp {
        Stamp::since(self.origin, now)
    }
}

/// The live state of one node, kept under its id while its weight, zone or service change.
///
/// Counters are exact and lock-free. Padded to two cache lines, so that neighbours do not slow each other down.
#[repr(align(128))]
pub struct NodeState {
    /// In flight is `started - finished`: one atomic step at each end of a request buys the total as well.
    started: AtomicU64,
    finished: AtomicU64,
    latency: Latency,
    limit: AtomicU32,
    health: AtomicU8,
    failures: AtomicU64,
    cancelled: AtomicU64,
    common: Arc<Common>,
}

impl NodeState {
    pub(super) fn new(common: Arc<Common>, prior: Option<f32>) -> Self {
        Self {
            started: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            latency: Latency::new(prior),
            limit: AtomicU32::new(u32::MAX),
            health: AtomicU8::new(0),
            failures: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            common,
        }
    }

    /// Requests that it has at the moment, streaming bodies included.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        // `finished` first: it never passes `started`, so the difference cannot go below zero.
        let finished = self.finished.load(Ordering::Acquire);
        let started = self.started.load(Ordering::Relaxed);
        u32::try_from(started.wrapping_sub(finished)).unwrap_or(u32::MAX)
    }

    /// Requests sent to it since it joined.
    pub fn requests(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Requests that it failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Requests whose caller went away before an answer.
    pub fn cancelled(&self) -> u64 {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// What checks say of it.
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Unknown,
            1 => Health::Up,
            _ => Health::Down,
        }
    }

    /// Sets what checks say of it. Picks follow at once.
    pub fn set_health(&self, health: Health) {
        let code = match health {
            Health::Unknown => 0,
            Health::Up => 1,
            Health::Down => 2,
        };
        if self.health.swap(code, Ordering::Relaxed) != code {
            self.common.health_epoch.fetch_add(1, Ordering::Release);
            self.common.gate.open();
        }
    }

    /// How long it takes to begin an answer, as far as is known at `now`.
    pub fn latency(&self, now: Instant) -> Option<Duration> {
        let seconds = self.latency.estimate(self.common.stamp(now))?;
        Some(Duration::from_secs_f32(seconds))
    }

    /// Whether failures in a row have put it aside at `now`: load-aware policies use it only when all else is worse.
    pub fn is_suspended(&self, now: Instant) -> bool {
        self.latency.is_suspended(self.common.stamp(now), self.in_flight())
    }

    /// How many requests in a row it has failed.
    pub fn failure_streak(&self) -> u32 {
        self.latency.streak()
    }

    /// Whether it has as much in flight as it may.
    #[inline]
    pub fn is_full(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        limit != u32::MAX && self.in_flight() >= limit
    }

    #[inline]
    pub(crate) fn latency_cell(&self) -> &Latency {
        &self.latency
    }

    pub(super) fn set_limit(&self, limit: Option<std::num::NonZeroU32>) {
        self.limit.store(limit.map_or(u32::MAX, std::num::NonZeroU32::get), Ordering::Relaxed);
    }

    /// Counts a request in, unless that would pass the limit.
    #[inline]
    fn try_start(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == u32::MAX {
            self.started.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let mut started = self.started.load(Ordering::Relaxed);
        loop {
            // `finished` only grows: what is let in under an older value of it is within the limit under any later.
            let finished = self.finished.load(Ordering::Acquire);
            if started.wrapping_sub(finished) >= u64::from(limit) {
                // An old `started` may lie behind `finished`: look again before refusing.
                let fresh = self.started.load(Ordering::Relaxed);
                if fresh == started {
                    return false;
                }
                started = fresh;
                continue;
            }
            match self.started.compare_exchange_weak(started, started + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(current) => started = current,
            }
        }
    }

    fn finish(&self) {
        self.finished.fetch_add(1, Ordering::Release);
        if self.limit.load(Ordering::Relaxed) != u32::MAX {
            self.common.gate.release();
        }
    }
}

impl fmt::Debug for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeState")
            .field("in_flight", &self.in_flight())
            .field("requests", &self.requests())
            .field("failures", &self.failures())
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

/// One request in flight on a node.
///
/// Counts the request in when made and out when dropped, whatever ends it: an answer, an error, a dropped future, a
/// panic. It can be sent anywhere, so it can ride in a response body until the last byte. What the answer was worth
/// is said once with [`judge`](Self::judge); dropping an unjudged guard counts as cancelled.
#[must_use = "dropping the guard ends the request"]
pub struct LoadGuard {
    member: Arc<Member>,
    /// When the request was sent, where the policy wants to know how long it takes.
    started: Option<Instant>,
    judged: bool,
}

impl LoadGuard {
    /// Counts a request in, or gives `None` if the node is full.
    #[inline]
    pub fn start(member: &Arc<Member>) -> Option<Self> {
        Self::start_at(member, None)
    }

    /// Counts a request in that is sent at `now`, so that its latency is learned; `None` if the node is full.
    #[inline]
    pub fn start_at(member: &Arc<Member>, now: Option<Instant>) -> Option<Self> {
        member.state.try_start().then(|| Self { member: Arc::clone(member), started: now, judged: false })
    }

    /// The node that has the request.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Says what the answer was worth, as its head arrives. Only the first call counts.
    pub fn judge(&mut self, verdict: Verdict) {
        if std::mem::replace(&mut self.judged, true) {
            return;
        }
        let state = &*self.member.state;
        match verdict {
            Verdict::Success => {
                if let Some(started) = self.started {
                    let now = state.common.clock.now();
                    let elapsed = now.saturating_duration_since(started);
                    state.latency.succeeded(elapsed.as_secs_f32(), state.common.stamp(now));
                }
                state.latency.clear_streak();
            }
            Verdict::Failure(_) => self.fail(),
            Verdict::Neutral => {}
        }
    }

    /// Says that the answer broke after its head had been judged: its body ended early.
    pub fn break_off(&mut self) {
        self.judged = true;
        self.fail();
    }

    fn fail(&self) {
        let state = &*self.member.state;
        state.failures.fetch_add(1, Ordering::Relaxed);
        state.latency.failed(state.common.stamp(state.common.clock.now()));
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        let state = &*self.member.state;
        if !self.judged {
            state.cancelled.fetch_add(1, Ordering::Relaxed);
            if let Some(started) = self.started {
                let now = state.common.clock.now();
                // The true latency is at least what has passed.
                let elapsed = now.saturating_duration_since(started);
                state.latency.at_least(elapsed.as_secs_f32(), state.common.stamp(now));
            }
        }
        state.finish();
    }
}

impl fmt::Debug for LoadGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadGuard").field("node", &self.member.node.id).field("judged", &self.judged).finish_non_exhaustive()
    }
}
