//! How a node is doing: what is in flight, how fast it answers, whether it fails.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
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
    fn nanos_now(&self) -> u64 {
        nanos(self.clock.now().saturating_duration_since(self.origin))
    }

    fn stamp(&self, now: Instant) -> Stamp {
        Stamp::since(self.origin, now)
    }
}

/// The live state of one node, kept under its id while its weight, zone or service change.
///
/// Counters are exact and lock-free. Padded to two cache lines, so that neighbours do not slow each other down.
// What a pick reads stands first, in one line.
#[repr(C, align(128))]
pub struct NodeState {
    in_flight: AtomicU32,
    /// What there is to consider beside latency and load.
    marks: AtomicU32,
    latency: Latency,
    limit: AtomicU32,
    finished: AtomicU64,
    failures: AtomicU64,
    cancelled: AtomicU64,
    common: Arc<Common>,
}

/// Checks found the node down.
const DOWN: u32 = 1;
/// The node has a limit of its own.
const LIMITED: u32 = 2;
/// Checks found the node up.
const UP: u32 = 4;

impl NodeState {
    pub(super) fn new(common: Arc<Common>, prior: Option<f32>) -> Self {
        let now = Stamp::of(common.nanos_now());
        Self {
            in_flight: AtomicU32::new(0),
            marks: AtomicU32::new(0),
            latency: Latency::new(prior, now),
            limit: AtomicU32::new(u32::MAX),
            finished: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            common,
        }
    }

    /// Requests that it has at the moment, streaming bodies included.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Requests sent to it since it joined.
    pub fn requests(&self) -> u64 {
        self.finished.load(Ordering::Relaxed) + u64::from(self.in_flight())
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
        match self.marks.load(Ordering::Relaxed) & (DOWN | UP) {
            0 => Health::Unknown,
            UP => Health::Up,
            _ => Health::Down,
        }
    }

    /// Sets what checks say of it. Picks follow at once.
    pub fn set_health(&self, health: Health) {
        let mark = match health {
            Health::Unknown => 0,
            Health::Up => UP,
            Health::Down => DOWN,
        };
        let set = |marks: u32| Some(marks & !(DOWN | UP) | mark);
        let before =
            self.marks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, set).unwrap_or_else(|marks| marks);
        if before & (DOWN | UP) != mark {
            self.common.health_epoch.fetch_add(1, Ordering::Release);
            self.common.gate.open();
        }
    }

    /// How long it takes to begin an answer, by the answers so far.
    pub fn latency(&self) -> Option<Duration> {
        self.latency.estimate().map(Duration::from_secs_f32)
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
        self.marks.load(Ordering::Relaxed) & LIMITED != 0
            && self.in_flight() >= self.limit.load(Ordering::Relaxed)
    }

    /// Whether it can take a request, or could but for its health if that is ignored.
    #[inline]
    pub(crate) fn is_available(&self, ignore_health: bool) -> bool {
        let marks = self.marks.load(Ordering::Relaxed);
        marks & (DOWN | LIMITED) == 0 || ((ignore_health || marks & DOWN == 0) && !self.is_full())
    }

    /// What one more request to it costs, in seconds.
    #[inline]
    pub(crate) fn cost(&self, now: Stamp) -> f32 {
        self.latency.cost(self.in_flight(), now)
    }

    /// What a request to it would cost if it had no other.
    #[inline]
    pub(crate) fn cost_alone(&self, now: Stamp) -> f32 {
        self.latency.expected(self.in_flight(), now)
    }

    pub(super) fn set_limit(&self, limit: Option<std::num::NonZeroU32>) {
        if let Some(limit) = limit {
            self.limit.store(limit.get(), Ordering::Relaxed);
            self.marks.fetch_or(LIMITED, Ordering::Release);
        } else {
            self.marks.fetch_and(!LIMITED, Ordering::Relaxed);
        }
    }

    /// Counts a request in, unless that would pass the limit.
    #[inline]
    fn try_start(&self) -> bool {
        if self.marks.load(Ordering::Acquire) & LIMITED == 0 {
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let limit = self.limit.load(Ordering::Relaxed);
        let step = |in_flight: u32| (in_flight < limit).then(|| in_flight + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok()
    }

    #[inline]
    fn finish(&self) {
        self.finished.fetch_add(1, Ordering::Relaxed);
        self.leave();
    }

    #[inline]
    fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Release);
        if self.marks.load(Ordering::Relaxed) & LIMITED != 0 {
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
    // Two words: it is moved around on every request.
    member: Arc<Member>,
    progress: Progress,
}

/// When the request was sent, in nanoseconds of the cluster's time, or one of the values below.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Progress(u64);

impl Progress {
    /// Not judged yet, and its latency is not asked for.
    const UNTIMED: Self = Self(u64::MAX);
    const JUDGED: Self = Self(u64::MAX - 1);
    const WITHDRAWN: Self = Self(u64::MAX - 2);

    fn sent_at(self) -> Option<u64> {
        (self.0 < Self::WITHDRAWN.0).then_some(self.0)
    }
}

impl LoadGuard {
    /// Counts a request in, or gives `None` if the node is full.
    #[inline]
    pub fn start(member: &Arc<Member>) -> Option<Self> {
        Self::begin(member, Progress::UNTIMED)
    }

    /// Counts a request in that is sent at `now`, so that its latency is learned; `None` if the node is full.
    #[inline]
    pub fn start_at(member: &Arc<Member>, now: Instant) -> Option<Self> {
        Self::begin(member, Progress(nanos(now.saturating_duration_since(member.state.common.origin))))
    }

    #[inline]
    fn begin(member: &Arc<Member>, progress: Progress) -> Option<Self> {
        member.state.try_start().then(|| Self { member: Arc::clone(member), progress })
    }

    /// The node that has the request.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Says what the answer was worth, as its head arrives. Only the first call counts.
    #[inline]
    pub fn judge(&mut self, verdict: Verdict) {
        let progress = std::mem::replace(&mut self.progress, Progress::JUDGED);
        if progress == Progress::JUDGED {
            return;
        }
        let state = &*self.member.state;
        match verdict {
            Verdict::Success => {
                if let Some(sent_at) = progress.sent_at() {
                    let now = state.common.nanos_now();
                    state.latency.succeeded(seconds(sent_at, now), Stamp::of(now));
                }
                state.latency.clear_streak();
            }
            Verdict::Failure(_) => self.fail(),
            Verdict::Neutral => {}
        }
    }

    /// Says that the answer broke after its head had been judged: its body ended early.
    pub fn break_off(&mut self) {
        self.progress = Progress::JUDGED;
        self.fail();
    }

    #[cold]
    fn fail(&self) {
        let state = &*self.member.state;
        state.failures.fetch_add(1, Ordering::Relaxed);
        state.latency.failed(Stamp::of(state.common.nanos_now()));
    }

    /// Takes the request back before the node has seen anything of it: it counts as if it had never been.
    pub(crate) fn withdraw(mut self) {
        self.progress = Progress::WITHDRAWN;
    }

    #[cold]
    fn cancel(&self) {
        let state = &*self.member.state;
        state.cancelled.fetch_add(1, Ordering::Relaxed);
        if let Some(sent_at) = self.progress.sent_at() {
            let now = state.common.nanos_now();
            // The true latency is at least what has passed.
            state.latency.at_least(seconds(sent_at, now), Stamp::of(now));
        }
    }
}

impl Drop for LoadGuard {
    #[inline]
    fn drop(&mut self) {
        if self.progress != Progress::JUDGED {
            if self.progress == Progress::WITHDRAWN {
                return self.member.state.leave();
            }
            self.cancel();
        }
        self.member.state.finish();
    }
}

impl fmt::Debug for LoadGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let judged = self.progress == Progress::JUDGED;
        f.debug_struct("LoadGuard").field("node", &self.member.node.id).field("judged", &judged).finish()
    }
}

fn seconds(from: u64, to: u64) -> f32 {
    to.saturating_sub(from) as f32 * 1e-9
}

/// 584 years at most.
fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(span.subsec_nanos()))
}
