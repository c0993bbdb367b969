//! How a policy chooses: the two traits, and what a choice is told.

use std::{any::Any, cell::Cell, fmt::Debug, sync::Arc, time::Instant};

use super::Nodes;
use crate::{
    cluster::{Attention, Member, NodeId, NodeState, Stamp, nanos},
    placement::KeyHash,
    rng::Rng,
    time::Clock,
};

/// Builds a [`Picker`] for each set of nodes.
///
/// A policy is configuration: it runs when the membership changes, never on the path of a request.
///
/// ```
/// use buttress::balance::{Nodes, PickCx, Picker, Policy};
///
/// /// Always the first node that can take the request.
/// #[derive(Debug)]
/// struct First;
///
/// impl Policy for First {
///     fn picker(&self, _: &Nodes, _: Option<&dyn Picker>) -> Box<dyn Picker> {
///         Box::new(First)
///     }
/// }
///
/// impl Picker for First {
///     fn pick(&self, nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
///         (0..nodes.len()).find(|&index| cx.can_take(&nodes[index]))
///     }
/// }
/// ```
pub trait Policy: Debug + Send + Sync + 'static {
    /// Builds the picker for `nodes`.
    ///
    /// `previous` is the picker that it takes over from, for policies that go on where that one stood: downcast it
    /// through [`Any`], and keep what belongs to a node by its [slot](Member::slot).
    fn picker(&self, nodes: &Nodes, previous: Option<&dyn Picker>) -> Box<dyn Picker>;

    /// Whether it weighs how long nodes take. If not, latency is not measured, which saves two looks at the clock for
    /// each request.
    fn observes_latency(&self) -> bool {
        false
    }
}

impl<P: Policy + ?Sized> Policy for Arc<P> {
    fn picker(&self, nodes: &Nodes, previous: Option<&dyn Picker>) -> Box<dyn Picker> {
        (**self).picker(nodes, previous)
    }

    fn observes_latency(&self) -> bool {
        (**self).observes_latency()
    }
}

impl<P: Policy + ?Sized> Policy for Box<P> {
    fn picker(&self, nodes: &Nodes, previous: Option<&dyn Picker>) -> Box<dyn Picker> {
        (**self).picker(nodes, previous)
    }

    fn observes_latency(&self) -> bool {
        (**self).observes_latency()
    }
}

/// Chooses a node for one request.
pub trait Picker: Any + Debug + Send + Sync {
    /// The index in `nodes` of the one to use; these are the nodes that the picker was built for.
    ///
    /// Must not choose a node that [cannot take](PickCx::can_take) the request, and must find one if there is any. An
    /// index out of range counts as none.
    fn pick(&self, nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize>;

    /// A request went to the node at `index` without being asked about, because it [belongs](super::Affinity) there. A picker
    /// that keeps turns counts it as one (default: nothing happens).
    fn charge(&self, index: usize) {
        let _ = index;
    }
}

/// What is known about the request that a node is wanted for.
#[derive(Debug)]
pub struct PickCx<'a> {
    /// What the request is about, for policies that keep the same things at the same node.
    pub key: Option<KeyHash>,
    /// The random numbers that this choice may use.
    pub rng: Rng,
    clock: &'a dyn Clock,
    now: Cell<Option<Instant>>,
    /// Nanoseconds of the cluster's time, once asked for.
    nanos: Cell<Option<u64>>,
    tried: &'a [NodeId],
    /// The time, if nodes that have not warmed up by then are ruled out.
    spares_at: Option<u64>,
    /// Whether no node is ruled out.
    is_open: bool,
    panic: bool,
    /// What there is to mind beside the usual, as in [`Attention`].
    calls: u32,
}

impl<'a> PickCx<'a> {
    /// A choice that takes the time from `clock` and randomness from `rng`.
    pub fn new(clock: &'a dyn Clock, rng: Rng) -> Self {
        Self {
            key: None,
            rng,
            clock,
            now: Cell::new(None),
            nanos: Cell::new(None),
            tried: &[],
            spares_at: None,
            is_open: true,
            panic: false,
            calls: 0,
        }
    }

    /// Sets what the request is about.
    #[must_use]
    pub fn key(mut self, key: Option<KeyHash>) -> Self {
        self.key = key;
        self
    }

    /// Names the nodes that were tried before and shall not be chosen again.
    #[must_use]
    pub fn tried(mut self, tried: &'a [NodeId]) -> Self {
        self.tried = tried;
        self.is_open = tried.is_empty();
        self
    }

    /// Whether the node may be chosen now: healthy (or health is ignored because too few are), not tried before, and
    /// with room for one more request.
    #[inline]
    pub fn can_take(&self, member: &Member) -> bool {
        self.has_room(&member.state) && (self.is_open || !self.is_ruled_out(member))
    }

    /// As [`can_take`](Self::can_take), for the node at an index of `nodes`, which must be in range: one step faster.
    #[inline]
    pub(crate) fn can_take_at(&self, nodes: &Nodes, index: usize) -> bool {
        self.has_room(&nodes.states()[index]) && (self.is_open || !self.is_ruled_out(&nodes[index]))
    }

    /// Whether no node is ruled out for what is known of this choice, whatever its state: none was tried before.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    #[cold]
    fn is_ruled_out(&self, member: &Member) -> bool {
        self.was_tried(member) || self.spares_at.is_some_and(|now| member.state.ramp(now).is_some())
    }

    /// Rules nodes out, or no longer, that have not warmed up at `now`.
    pub(crate) fn spare_at(&mut self, now: Option<u64>) {
        self.spares_at = now;
        self.is_open = self.tried.is_empty() && now.is_none();
    }

    pub(crate) fn mind(&mut self, calls: u32) {
        self.calls = calls;
    }

    /// Whether latency is learned from the request, whatever the policy.
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        self.calls & Attention::LATENCY != 0
    }

    /// Whether some node may not have warmed up yet.
    #[inline]
    pub(crate) fn minds_ramps(&self) -> bool {
        self.calls & Attention::RAMPS != 0
    }

    #[inline]
    fn has_room(&self, state: &NodeState) -> bool {
        state.is_available(self.panic)
    }

    /// Whether failures in a row have put the node aside for now: [`can_take`](Self::can_take) lets it be chosen, but a
    /// policy that looks at load should do so only if all others are worse. Reads the clock only if the node failed its
    /// last request.
    #[inline]
    pub fn is_suspended(&self, state: &NodeState) -> bool {
        state.is_failing() && state.is_suspended(self.now())
    }

    /// The time of this choice, read from the clock once and only if asked for.
    #[inline]
    pub fn now(&self) -> Instant {
        self.now.get().unwrap_or_else(|| {
            let now = self.clock.now();
            self.now.set(Some(now));
            now
        })
    }

    pub(crate) fn stamp(&self, nodes: &Nodes) -> Stamp {
        Stamp::of(self.nanos_since(nodes.origin()))
    }

    /// The time of this choice, counted from the cluster's `origin`.
    #[inline]
    pub(crate) fn nanos_since(&self, origin: Instant) -> u64 {
        self.nanos.get().unwrap_or_else(|| {
            let nanos = nanos(self.now().saturating_duration_since(origin));
            self.nanos.set(Some(nanos));
            nanos
        })
    }

    pub(crate) fn set_panic(&mut self, panic: bool) {
        self.panic = panic;
    }

    pub(crate) fn in_panic(&self) -> bool {
        self.panic
    }

    pub(crate) fn was_tried(&self, member: &Member) -> bool {
        self.tried.contains(&member.node.id)
    }
}

/// One of the nodes that [can take](PickCx::can_take) the request, each as likely as the next. O(n).
///
/// For policies whose first choices all failed: no node is favoured for standing after one that is down.
pub(crate) fn any_eligible(nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
    let mut seen = 0;
    let mut chosen = None;
    for (index, member) in nodes.iter().enumerate() {
        if cx.can_take(member) {
            seen += 1;
            if cx.rng.below(seen) == 0 {
                chosen = Some(index);
            }
        }
    }
    chosen
}
