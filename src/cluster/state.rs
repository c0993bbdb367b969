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
use crate::{rng::Rng, time::Clock};

/// What is known of a node's health from checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// Nobody has looked yet, or nobody will. Takes traffic.
    #[default]
    Unknown,
    /// Takes traffic.
    Up,
    /// Says of itself that it will go away: finishes what it has and serves clients that are pinned to it; gets no new
    /// picks, unless so few nodes are up that health is ignored (panic mode).
    Draining,
    /// Takes no traffic, unless so few nodes are up that health is ignored (panic mode).
    Down,
}

impl Health {
    /// Whether a node in this state takes new traffic.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Unknown | Self::Up)
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
    /// Requests in flight below, and above what else there is to consider: one look tells a pick both.
    gauge: AtomicU64,
    latency: Latency,
    limit: AtomicU32,
    finished: AtomicU64,
    failures: AtomicU64,
    cancelled: AtomicU64,
    common: Arc<Common>,
}

const IN_FLIGHT: u64 = (1 << 32) - 1;
/// Checks found the node down.
const DOWN: u64 = 1 << 32;
/// The node has a limit of its own.
const LIMITED: u64 = 2 << 32;
/// The last request failed.
const FAILING: u64 = 4 << 32;
/// Nothing is known of its latency.
const NEW: u64 = 8 << 32;
/// The node told checks that it drains.
const DRAINING: u64 = 1 << 62;
/// Checks found the node up. No reason to look closer.
const UP: u64 = 1 << 63;
const CHECKED: u64 = UP | DRAINING | DOWN;
const MARKED: u64 = DOWN | DRAINING | LIMITED | FAILING | NEW;

/// What a suspended node costs more than its latency, in seconds: only worse nodes make it worth a try.
const SUSPENDED_COST: f32 = 5.0;

impl NodeState {
    pub(super) fn new(common: Arc<Common>, prior: Option<f32>) -> Self {
        let now = Stamp::of(common.nanos_now());
        Self {
            gauge: AtomicU64::new(if prior.is_some() { 0 } else { NEW }),
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
    #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
    pub fn in_flight(&self) -> u32 {
        self.gauge.load(Ordering::Acquire) as u32
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
        match self.gauge.load(Ordering::Relaxed) & CHECKED {
            0 => Health::Unknown,
            UP => Health::Up,
            DRAINING => Health::Draining,
            _ => Health::Down,
        }
    }

    /// Sets what checks say of it. Picks follow at once.
    pub fn set_health(&self, health: Health) {
        let mark = match health {
            Health::Unknown => 0,
            Health::Up => UP,
            Health::Draining => DRAINING,
            Health::Down => DOWN,
        };
        self.mark_health(|before| (before != mark).then_some(mark));
    }

    /// Takes it for down, if nobody has looked yet.
    pub(crate) fn presume_down(&self) {
        self.mark_health(|before| (before == 0).then_some(DOWN));
    }

    fn mark_health(&self, mark: impl Fn(u64) -> Option<u64>) {
        let set = |gauge: u64| mark(gauge & CHECKED).map(|mark| gauge & !CHECKED | mark);
        if self.gauge.fetch_update(Ordering::Relaxed, Ordering::Relaxed, set).is_ok() {
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

    /// Whether its last request failed: unless so, it is not suspended.
    #[inline]
    pub(crate) fn is_failing(&self) -> bool {
        self.gauge.load(Ordering::Relaxed) & FAILING != 0
    }

    /// Whether it has as much in flight as it may.
    #[inline]
    pub fn is_full(&self) -> bool {
        let gauge = self.gauge.load(Ordering::Acquire);
        gauge & LIMITED != 0 && gauge & IN_FLIGHT >= u64::from(self.limit.load(Ordering::Relaxed))
    }

    /// Whether it can take a request, or could but for its health if that is ignored.
    #[inline]
    pub(crate) fn is_available(&self, ignore_health: bool) -> bool {
        (ignore_health || self.gauge.load(Ordering::Relaxed) & (DOWN | DRAINING) == 0) && !self.is_full()
    }

    /// As [`quote`](Self::quote), if there is nothing to consider but latency and load: with no look at the time.
    #[inline]
    pub(crate) fn plain_quote(&self) -> Option<(f32, f32)> {
        let gauge = self.gauge.load(Ordering::Acquire);
        (gauge & MARKED == 0).then(|| (self.latency.seconds(), ((gauge & IN_FLIGHT) + 1) as f32))
    }

    /// Requests that it has at the moment, if there is nothing else to consider but latency.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
    pub(crate) fn plain_load(&self) -> Option<u32> {
        let gauge = self.gauge.load(Ordering::Acquire);
        (gauge & (MARKED & !NEW) == 0).then_some(gauge as u32)
    }

    /// The seconds that a request is expected to take, and how many requests there would be with one more.
    #[inline]
    pub(crate) fn quote(&self, now: Stamp) -> (f32, f32) {
        let in_flight = self.in_flight();
        let mut seconds = self.latency.expected(in_flight, now);
        if self.is_failing() && self.latency.is_suspended(now, in_flight) {
            seconds += SUSPENDED_COST;
        }
        (seconds, (in_flight + 1) as f32)
    }

    pub(super) fn set_limit(&self, limit: Option<std::num::NonZeroU32>) {
        if let Some(limit) = limit {
            self.limit.store(limit.get(), Ordering::Relaxed);
            self.gauge.fetch_or(LIMITED, Ordering::Release);
        } else {
            self.gauge.fetch_and(!LIMITED, Ordering::Relaxed);
        }
    }

    /// Counts a request in, unless that would pass the limit.
    #[inline]
    fn try_start(&self) -> bool {
        if self.gauge.load(Ordering::Acquire) & LIMITED == 0 {
            self.gauge.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let limit = u64::from(self.limit.load(Ordering::Relaxed));
        let step = |gauge: u64| (gauge & IN_FLIGHT < limit).then(|| gauge + 1);
        self.gauge.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).is_ok()
    }

    #[cold]
    fn recover(&self, marks: u64) {
        // In this order, a failure in between leaves at worst a mark too many; and who sees `NEW` gone, an estimate.
        self.gauge.fetch_and(!marks, Ordering::Release);
        self.latency.clear_streak();
    }

    #[inline]
    fn finish(&self) {
        self.finished.fetch_add(1, Ordering::Relaxed);
        self.leave();
    }

    #[inline]
    fn leave(&self) {
        if self.gauge.fetch_sub(1, Ordering::Release) & LIMITED != 0 {
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
    /// Judged a failure: what else goes wrong with it is part of that.
    const FAILED: Self = Self(u64::MAX - 2);
    const WITHDRAWN: Self = Self(u64::MAX - 3);
    /// Beside the time: a success gives no sample, and only giving up tells something.
    const QUIET: u64 = 1 << 62;

    fn is_time(self) -> bool {
        self.0 < Self::WITHDRAWN.0
    }

    fn is_judged(self) -> bool {
        self == Self::JUDGED || self == Self::FAILED
    }

    fn sent_at(self) -> Option<u64> {
        self.is_time().then_some(self.0 & !Self::QUIET)
    }

    /// When the request was sent, if its latency is to be learned.
    fn sample_from(self) -> Option<u64> {
        (self.is_time() && self.0 & Self::QUIET == 0).then_some(self.0)
    }
}

impl LoadGuard {
    /// Counts a request in, or gives `None` if the node is full.
    #[inline]
    #[must_use]
    pub fn start(member: &Arc<Member>) -> Option<Self> {
        Self::begin(member, Progress::UNTIMED)
    }

    /// Counts a request in that is sent at `now`, so that its latency is learned; `None` if the node is full.
    #[inline]
    #[must_use]
    pub fn start_at(member: &Arc<Member>, now: Instant) -> Option<Self> {
        Self::begin(member, Progress(nanos(now.saturating_duration_since(member.state.common.origin))))
    }

    /// As [`start_at`](Self::start_at), so many nanoseconds into the cluster's time, with a latency that is learned only
    /// now and then while the node gives an answer each millisecond: each would have next to no weight.
    #[inline]
    pub(crate) fn start_after(member: &Arc<Member>, nanos: u64, rng: &mut Rng) -> Option<Self> {
        // By chance: a rule would miss those requests that always come right after an answer.
        let is_quiet = member.state.latency.is_sampled_at(Stamp::of(nanos)) && rng.next_u64() & 3 != 0;
        Self::begin(member, Progress(nanos | if is_quiet { Progress::QUIET } else { 0 }))
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
        let progress = self.progress;
        if progress.is_judged() {
            return;
        }
        self.progress = Progress::JUDGED;
        let state = &*self.member.state;
        match verdict {
            Verdict::Success => {
                let mut marks = FAILING;
                if let Some(sent_at) = progress.sample_from() {
                    let now = state.common.nanos_now();
                    state.latency.succeeded(seconds(sent_at, now), Stamp::of(now));
                    marks |= NEW;
                }
                if state.gauge.load(Ordering::Relaxed) & marks != 0 {
                    state.recover(marks);
                }
            }
            Verdict::Failure(_) => self.fail(),
            Verdict::Neutral => {}
        }
    }

    /// Says that the answer broke after its head had been judged: its body ended early. An answer that failed anyway
    /// fails no more.
    pub fn break_off(&mut self) {
        if self.progress != Progress::FAILED {
            self.fail();
        }
    }

    #[cold]
    fn fail(&mut self) {
        self.progress = Progress::FAILED;
        let state = &*self.member.state;
        state.failures.fetch_add(1, Ordering::Relaxed);
        state.latency.failed(Stamp::of(state.common.nanos_now()));
        state.gauge.fetch_or(FAILING, Ordering::Relaxed);
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
        if !self.progress.is_judged() {
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
        let judged = self.progress.is_judged();
        f.debug_struct("LoadGuard").field("node", &self.member.node.id).field("judged", &judged).finish()
    }
}

fn seconds(from: u64, to: u64) -> f32 {
    to.saturating_sub(from) as f32 * 1e-9
}

/// 584 years at most.
pub(crate) fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(span.subsec_nanos()))
}
