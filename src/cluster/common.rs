//! What every node of a cluster shares.

use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
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

    /// A request succeeded: the first one after others failed.
    fn recovered(&self, state: &NodeState);

    /// It is time to compare the nodes, or later.
    fn sweep(&self);

    /// It is time to try one, or later: the node to send a request to, if one is due. Only this one, if
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

/// What choosers have to mind beside the usual, and when: in nanoseconds of the cluster's time. There is no timer in it;
/// whoever has a request in hand looks.
#[derive(Debug)]
pub(crate) struct Attention {
    /// What there is to mind at all: one look tells a pick that there is nothing.
    calls: AtomicU32,
    /// When the [`Observer`] wants to be asked for a node to try.
    probe_at: AtomicU64,
    /// When it wants to compare nodes. Looked at with each latency that is measured.
    sweep_at: AtomicU64,
    /// When the last node has warmed up.
    ramps_until: AtomicU64,
}

pub(crate) const NEVER: u64 = u64::MAX;

impl Attention {
    /// A node is ejected that may be tried some time.
    pub(crate) const PROBES: u32 = 1;
    /// A node may not have warmed up.
    pub(crate) const RAMPS: u32 = 2;
    /// Latency is to be measured, whatever the policy.
    pub(crate) const LATENCY: u32 = 4;

    #[inline]
    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn set(&self, call: u32, is_on: bool) {
        if is_on {
            self.calls.fetch_or(call, Ordering::SeqCst);
        } else {
            self.calls.fetch_and(!call, Ordering::SeqCst);
        }
    }

    /// Sets when the observer is to be called, or [`NEVER`]. Of two calls at once either may win.
    pub(crate) fn call_observer(&self, probe_at: u64, sweep_at: u64) {
        self.probe_at.store(probe_at, Ordering::Relaxed);
        self.sweep_at.store(sweep_at, Ordering::Relaxed);
        self.set(Self::PROBES, probe_at != NEVER);
        self.set(Self::LATENCY, sweep_at != NEVER);
    }

    pub(crate) fn is_probe_due(&self, now: u64) -> bool {
        now >= self.probe_at.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn is_sweep_due(&self, now: u64) -> bool {
        now >= self.sweep_at.load(Ordering::Relaxed)
    }

    pub(super) fn await_ramp(&self, until: u64) {
        self.ramps_until.fetch_max(until, Ordering::SeqCst);
        self.set(Self::RAMPS, true);
    }

    /// Whether a node may not have warmed up at `now`. If none, nobody is called for that any more.
    pub(crate) fn has_ramps(&self, now: u64) -> bool {
        if now >= self.ramps_until.load(Ordering::Relaxed) {
            self.set(Self::RAMPS, false);
        }
        // Looked at again after that: a node may have returned in between.
        let has_ramps = now < self.ramps_until.load(Ordering::SeqCst);
        if has_ramps {
            self.set(Self::RAMPS, true);
        }
        has_ramps
    }
}

impl Default for Attention {
    fn default() -> Self {
        Self {
            calls: AtomicU32::new(0),
            probe_at: AtomicU64::new(NEVER),
            sweep_at: AtomicU64::new(NEVER),
            ramps_until: AtomicU64::new(0),
        }
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
