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
    common::{Common, nanos},
    latency::{Latency, Stamp},
    ramp::{Ramp, SlowStart},
};

/// What is known of a node's health from checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// Nobody has looked yet, or nobody will. Takes traffic.
    #[default]
    Unknown,
    /// Takes traffic.
    Up,
    /// Says of itself that it will go away: finishes what it has and serves clients that are pinned to it; gets no new
    /// picks, unless so few of the nodes that stay are up that health is ignored (panic mode).
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

/// As in `draining`.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Down => "down",
        })
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
    /// The node answered that it failed (HTTP 500 and others).
    Response,
    /// The node answered that what it depends on failed (HTTP 502, 504).
    Gateway,
    /// The node answered that it has too much to do or is not ready, and did not act on the request (HTTP 503).
    Overloaded,
    /// The node answered that this client asks too much, and did not act on the request (HTTP 429). The node is well.
    Throttled,
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
    slot: u32,
    /// When it returned last, in nanoseconds of the cluster's time; 0 if it never did.
    back_since: AtomicU64,
    pub(super) common: Arc<Common>,
}

const IN_FLIGHT: u64 = (1 << 32) - 1;
/// Checks found the node down.
const DOWN: u64 = 1 << 32;
/// The node has a limit of its own.
const LIMITED: u64 = 2 << 32;
/// The last request failed.
pub(super) const FAILING: u64 = 4 << 32;
/// Nothing is known of its latency.
pub(super) const NEW: u64 = 8 << 32;
/// Its traffic has put it out: but for a probe now and then it gets nothing.
const EJECTED: u64 = 16 << 32;
/// The node told checks that it drains.
const DRAINING: u64 = 1 << 62;
/// Checks found the node up. No reason to look closer.
const UP: u64 = 1 << 63;
const CHECKED: u64 = UP | DRAINING | DOWN;
/// What a node has none of that takes those who are pinned to it.
const UNFIT: u64 = DOWN | EJECTED;
/// What a node that takes traffic has none of.
const UNUSABLE: u64 = UNFIT | DRAINING;
const MARKED: u64 = UNUSABLE | LIMITED | FAILING | NEW;
/// Where the node's [`Term`] stands.
const TERM: u32 = 54;

/// How often a node has been ejected, modulo 16. A request belongs to the term that it began in: what comes of one that
/// began before an ejection says nothing about the time after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Term(u8);

impl Term {
    pub(crate) const fn next(self) -> Self {
        Self((self.0 + 1) % 16)
    }

    /// The term in a word that has it where a gauge has it.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "four bits")]
    pub(super) const fn of(word: u64) -> Self {
        Self((word >> TERM) as u8 % 16)
    }

    pub(super) const fn bits(self) -> u64 {
        (self.0 as u64) << TERM
    }

    pub(super) const MASK: u64 = 15 << TERM;
}

/// What a suspended node costs more than its latency, in seconds: only worse nodes make it worth a try.
const SUSPENDED_COST: f32 = 5.0;

impl NodeState {
    pub(super) fn new(common: Arc<Common>, slot: u32, prior: Option<f32>) -> Self {
        let now = Stamp::of(common.nanos_now());
        Self {
            gauge: AtomicU64::new(if prior.is_some() { 0 } else { NEW }),
            latency: Latency::new(prior, now),
            limit: AtomicU32::new(u32::MAX),
            finished: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            slot,
            back_since: AtomicU64::new(0),
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

    /// Requests sent to it whose caller has not gone away.
    pub(crate) fn sent(&self) -> u64 {
        self.requests().saturating_sub(self.cancelled())
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
        if let Ok(before) = self.gauge.fetch_update(Ordering::Relaxed, Ordering::Relaxed, set) {
            let is_usable = self.health().is_usable();
            // It may have been down before it drained.
            if before & (DOWN | DRAINING) != 0 && is_usable {
                self.begin_slowly(self.common.clock.now());
            }
            if let Some(observer) = self.common.observer() {
                observer.health_changed(self, before & DOWN != 0 && is_usable);
            }
            self.common.turn_health_over();
        }
    }

    /// Whether what came of its requests has put it out of the traffic: see
    /// [`OutlierDetection`](crate::health::OutlierDetection).
    pub fn is_ejected(&self) -> bool {
        self.gauge.load(Ordering::Relaxed) & EJECTED != 0
    }

    /// Whether it told checks that it drains.
    pub(crate) fn is_draining(&self) -> bool {
        self.gauge.load(Ordering::Relaxed) & DRAINING != 0
    }

    /// Whether it takes traffic, as far as checks and its traffic tell.
    pub(crate) fn is_usable(&self) -> bool {
        self.gauge.load(Ordering::Relaxed) & UNUSABLE == 0
    }

    /// Puts it out of the traffic for a new term. The caller has the epoch of health turned over.
    pub(crate) fn eject(&self, term: Term) {
        let set = |gauge: u64| Some(gauge & !Term::MASK | term.bits() | EJECTED);
        let _ = self.gauge.fetch_update(Ordering::Relaxed, Ordering::Relaxed, set);
    }

    /// Lets it back into the traffic. The caller has the epoch of health turned over.
    pub(crate) fn readmit(&self, now: u64) {
        self.warm_up_from(now);
        self.gauge.fetch_and(!EJECTED, Ordering::Relaxed);
    }

    /// Has it warm up from now on, if nodes do that here.
    pub(super) fn begin_slowly(&self, now: Instant) {
        self.warm_up_from(nanos(now.saturating_duration_since(self.common.origin)));
    }

    fn warm_up_from(&self, now: u64) {
        let Some(window) = self.common.slow_start.as_ref().map(SlowStart::window_nanos) else { return };
        // At first all are new.
        if now >= window {
            self.back_since.store(now, Ordering::Relaxed);
            self.common.attention.await_ramp(now.saturating_add(window));
        }
    }

    /// How far it has warmed up; `None` if that is done.
    pub(crate) fn ramp(&self, now: u64) -> Option<Ramp> {
        let back_since = self.back_since.load(Ordering::Relaxed);
        if back_since == 0 {
            return None;
        }
        self.common.slow_start.as_ref()?.ramp_at(now.saturating_sub(back_since))
    }

    /// Whether it has returned or joined so lately that it does not get its full share yet: see [`SlowStart`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use buttress::{cluster::{Cluster, Health, Node, SlowStart}, time::{Clock, ManualClock}};
    ///
    /// # fn main() -> Result<(), buttress::cluster::ClusterError> {
    /// let (clock, window) = (ManualClock::new(), Duration::from_secs(30));
    /// let cluster = Cluster::builder().clock(clock.clone()).slow_start(SlowStart::new(window)).build([(Node::new("a"), ())])?;
    /// clock.advance(window);
    /// cluster.set_health("a", Health::Down)?;
    /// cluster.set_health("a", Health::Up)?;
    /// let is_warming_up = || cluster.get("a").is_some_and(|node| node.member.state.is_warming_up(clock.now()));
    /// assert!(is_warming_up());
    /// clock.advance(window);
    /// assert!(!is_warming_up());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_warming_up(&self, now: Instant) -> bool {
        self.ramp(nanos(now.saturating_duration_since(self.common.origin))).is_some()
    }

    pub(crate) fn slot(&self) -> usize {
        self.slot as usize
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

    /// Whether it may serve those that are pinned to it: draining does not keep them away.
    #[inline]
    pub(crate) fn is_fit(&self) -> bool {
        self.gauge.load(Ordering::Relaxed) & UNFIT == 0
    }

    /// Whether a request that tries it by a permit of this term may still do so.
    pub(super) fn may_be_tried(&self, term: Term) -> bool {
        let gauge = self.gauge.load(Ordering::Relaxed);
        gauge & DOWN == 0 && Term::of(gauge) == term
    }

    /// Whether it can take a request, or could but for its health if that is ignored.
    #[inline]
    pub(crate) fn is_available(&self, ignore_health: bool) -> bool {
        (ignore_health || self.is_usable()) && !self.is_full()
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

    /// Counts a request in, unless that would pass the limit. Gives the gauge as it was.
    #[inline]
    pub(super) fn try_start(&self) -> Option<u64> {
        if self.gauge.load(Ordering::Acquire) & LIMITED == 0 {
            return Some(self.gauge.fetch_add(1, Ordering::Relaxed));
        }
        let limit = u64::from(self.limit.load(Ordering::Relaxed));
        let step = |gauge: u64| (gauge & IN_FLIGHT < limit).then(|| gauge + 1);
        self.gauge.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).ok()
    }

    #[inline]
    pub(super) fn is_marked(&self, marks: u64) -> bool {
        self.gauge.load(Ordering::Relaxed) & marks != 0
    }

    #[inline]
    pub(super) fn is_sampled_at(&self, now: Stamp) -> bool {
        self.latency.is_sampled_at(now)
    }

    /// A request that was sent `seconds` ago is answered well.
    #[inline]
    pub(super) fn learn(&self, seconds: f32, now: Stamp) {
        self.latency.succeeded(seconds, now);
    }

    /// Takes marks away after a success. Says whether the request before had failed.
    pub(super) fn recover(&self, marks: u64) -> bool {
        // In this order, a failure in between leaves at worst a mark too many; and who sees `NEW` gone, an estimate.
        let before = self.gauge.fetch_and(!marks, Ordering::Release);
        self.latency.clear_streak();
        before & FAILING != 0
    }

    pub(super) fn fail(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.latency.failed(Stamp::of(self.common.nanos_now()));
        self.gauge.fetch_or(FAILING, Ordering::Relaxed);
    }

    /// A request was given up: so many seconds after it was sent, and now, if that is known.
    pub(super) fn cancel(&self, sample: Option<(f32, Stamp)>) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
        if let Some((seconds, now)) = sample {
            // The true latency is at least what has passed.
            self.latency.at_least(seconds, now);
        }
    }

    #[inline]
    pub(super) fn finish(&self) {
        self.finished.fetch_add(1, Ordering::Relaxed);
        self.leave();
    }

    #[inline]
    pub(super) fn leave(&self) {
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
