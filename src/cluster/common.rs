//! What every node of a cluster shares.

use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{FailureKind, Member, NodeId, NodeState, SlowStart, gate::Gate, latency::Stamp, state::Term};
use crate::time::Clock;

/// Learns how requests end where that is news, and decides from it which nodes are ejected.
///
/// Called off the usual path only, from whatever thread the news comes up in.
pub(crate) trait Observer: Send + Sync {
    /// The nodes are those of a new version of the cluster.
    fn members(&self, generation: u64, members: &mut dyn Iterator<Item = &Arc<Member>>);

    /// Checks say something new of a node; `came_up` if it was down before and is up now.
    fn health_changed(&self, state: &NodeState, came_up: bool);

    /// A request failed that was sent in this term.
    fn failed(&self, state: &NodeState, term: Term, kind: FailureKind);

    /// A request succeeded that was sent in this term: the first one after others failed.
    fn recovered(&self, state: &NodeState, term: Term);

    /// It is [`sweep_at`](Attention::sweep_at), or later.
    fn sweep(&self);

    /// It is [`probe_at`](Attention::probe_at), or later: the node to send a request to, if one is due. Only this one, if
    /// one is named.
    fn claim(&self, only: Option<&NodeState>) -> Option<Permit>;

    /// A request is over that was sent by a permit of this term.
    fn probed(&self, state: &NodeState, term: Term, outcome: Probe);
}

/// The permission to send one request to a node that is ejected. What comes of it has to be
/// [said](Observer::probed).
#[derive(Debug)]
pub(crate) struct Permit {
    pub(crate) state: Arc<NodeState>,
    pub(crate) node: NodeId,
    pub(crate) term: Term,
}

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    Passed,
    Failed,
    /// Nothing was learned: another request may try.
    Void,
}

/// When an [`Observer`] wants to be called for the sake of time, in nanoseconds of the cluster's time. It has no timer of
/// its own: whoever has a request in hand looks.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) probe_at: AtomicU64,
    /// Asked for with each latency that is measured. Unless it is [`NEVER`], all are.
    pub(crate) sweep_at: AtomicU64,
    /// When the last node has warmed up; 0 if all have.
    ramps_until: AtomicU64,
}

pub(crate) const NEVER: u64 = u64::MAX;

impl Attention {
    /// Whether a node is ejected that may be tried some time.
    #[inline]
    pub(crate) fn is_probe_wanted(&self) -> bool {
        self.probe_at.load(Ordering::Relaxed) != NEVER
    }

    pub(crate) fn is_probe_due(&self, now: u64) -> bool {
        now >= self.probe_at.load(Ordering::Relaxed)
    }

    /// Whether a node may not have warmed up yet.
    #[inline]
    pub(crate) fn has_ramps(&self) -> bool {
        self.ramps_until.load(Ordering::Relaxed) != 0
    }

    /// As [`has_ramps`](Self::has_ramps) at `now`, and remembers it if there are none any more.
    pub(crate) fn has_ramps_at(&self, now: u64) -> bool {
        let until = self.ramps_until.load(Ordering::Relaxed);
        // Unless a node has returned meanwhile.
        now < until
            || self.ramps_until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed).is_err()
    }

    pub(super) fn await_ramp(&self, until: u64) {
        self.ramps_until.fetch_max(until, Ordering::Relaxed);
    }

    /// Whether latency is to be measured, whatever the policy.
    #[inline]
    pub(crate) fn wants_latency(&self) -> bool {
        self.sweep_at.load(Ordering::Relaxed) != NEVER
    }
}

impl Default for Attention {
    fn default() -> Self {
        let [probe_at, sweep_at] = [NEVER; 2].map(AtomicU64::new);
        Self { probe_at, sweep_at, ramps_until: AtomicU64::new(0) }
    }
}

pub(crate) struct Common {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) origin: Instant,
    /// Counts changes of health, so that what is derived from it knows when to look again.
    pub(super) health_epoch: AtomicU64,
    pub(crate) attention: Attention,
    pub(super) gate: Gate,
    pub(super) slow_start: Option<SlowStart>,
    /// Kept alive by the cluster.
    observer: OnceLock<Weak<dyn Observer>>,
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common").field("attention", &self.attention).finish_non_exhaustive()
    }
}

impl Common {
    pub(super) fn new(clock: Arc<dyn Clock>, slow_start: Option<SlowStart>) -> Self {
        Self {
            origin: clock.now(),
            clock,
            health_epoch: AtomicU64::new(0),
            attention: Attention::default(),
            gate: Gate::default(),
            slow_start,
            observer: OnceLock::new(),
        }
    }

    pub(crate) fn nanos_now(&self) -> u64 {
        nanos(self.clock.now().saturating_duration_since(self.origin))
    }

    pub(super) fn stamp(&self, now: Instant) -> Stamp {
        Stamp::since(self.origin, now)
    }

    /// The instant at which so much of the cluster's time has passed.
    pub(crate) fn instant(&self, nanos: u64) -> Instant {
        // 584 years are within what an instant can say, on systems that are known.
        self.origin.checked_add(Duration::from_nanos(nanos)).unwrap_or(self.origin)
    }

    pub(crate) fn observer(&self) -> Option<Arc<dyn Observer>> {
        self.observer.get().and_then(Weak::upgrade)
    }

    /// False if there is an observer already.
    pub(super) fn set_observer(&self, observer: Weak<dyn Observer>) -> bool {
        self.observer.set(observer).is_ok()
    }

    /// Has everybody look again who counts nodes that take traffic, or waits for one. Wakes tasks: under no lock.
    pub(crate) fn turn_health_over(&self) {
        self.health_epoch.fetch_add(1, Ordering::Release);
        self.gate.open();
    }
}

/// 584 years at most.
pub(crate) fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(span.subsec_nanos()))
}
