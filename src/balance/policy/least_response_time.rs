//! Least response time: the node that is likely to answer first.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::{
    balance::{Nodes, PickCx, Picker, Policy, any_eligible},
    cluster::NodeState,
    rng::Rng,
};

/// Up to so many nodes, all are looked at.
const SCAN: usize = 64;
/// Beyond, the best nodes seen lately are remembered: this many of them.
const REMEMBERED: usize = 12;
/// Each pick looks at half of what is remembered and at two others.
const FROM_MEMORY: usize = 6;
const FRESH: usize = 2;

/// The node that is likely to answer first: the one with the least latency times requests in flight.
///
/// The policy to begin with. It adapts to nodes of different and changing speed with nothing to configure, and keeps the
/// slowest answers fast: see the simulation in the crate's tests. Latency is a time-weighted average of successful
/// answers, to their first byte. A node that fails is suspended for 100 ms, four times longer for each failure in a
/// row up to 30 s, and then tried by one request at a time; so a node that fails fast, which has nothing in flight and
/// might look the fastest of all, gets next to nothing. Weights divide the cost.
///
/// Up to 64 nodes, all are looked at. Beyond, eight are: two random ones and six of a shortlist of the fastest nodes seen
/// lately, which comes close to looking at all (Mitzenmacher, Prabhakar, Shah, "Load balancing with memory", 2002).
/// O(1) in the number of nodes from there on. Lock-free; reads the clock when a request starts and when it is answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastResponseTime;

impl LeastResponseTime {
    /// The policy; there is nothing to set.
    pub const fn new() -> Self {
        Self
    }
}

impl Policy for LeastResponseTime {
    fn picker(&self, nodes: &Nodes, _: Option<&dyn Picker>) -> Box<dyn Picker> {
        let mut weights = nodes.iter().map(|member| member.node.weight);
        let first = weights.next();
        let per_weight = if weights.all(|weight| Some(weight) == first) {
            Vec::new()
        } else {
            nodes.iter().map(|member| 1.0 / f32::from(member.node.weight.max(1))).collect()
        };
        if nodes.len() <= SCAN {
            return Box::new(Scan { per_weight });
        }
        let mut rng = Rng::from_thread();
        let mut all: Vec<u32> = (0_u32..).take(nodes.len()).collect();
        rng.shuffle(&mut all);
        let mut shortlist = all.into_iter().map(AtomicU32::new);
        let shortlist = std::array::from_fn(|_| shortlist.next().unwrap_or_default());
        Box::new(Shortlist { per_weight, shortlist })
    }

    fn observes_latency(&self) -> bool {
        true
    }
}

/// Looks at all nodes.
#[derive(Debug)]
struct Scan {
    /// The reciprocal of each weight; empty if all are the same.
    per_weight: Vec<f32>,
}

impl Picker for Scan {
    fn pick(&self, nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
        let now = cx.stamp(nodes);
        if self.per_weight.is_empty() {
            scan(nodes, cx, |_, state| state.cost(now))
        } else {
            scan(nodes, cx, |index, state| state.cost(now) * self.per_weight[index])
        }
    }
}

/// The cheapest node, from a random start: equal costs are rare, and none is favoured for standing first.
#[inline]
fn scan(nodes: &Nodes, cx: &mut PickCx<'_>, cost: impl Fn(usize, &NodeState) -> f32) -> Option<usize> {
    let start = cx.rng.below(nodes.len());
    let (before, after) = nodes.states().split_at(start);
    let (mut best, mut least) = (None, f32::INFINITY);
    let mut look = |from: usize, states: &[std::sync::Arc<NodeState>]| {
        for (index, state) in (from..).zip(states) {
            let cost = cost(index, state);
            if cost < least && cx.can_take_at(nodes, index) {
                (best, least) = (Some(index), cost);
            }
        }
    };
    look(start, after);
    look(0, before);
    best
}

/// Looks at some nodes, and remembers the fast ones.
#[derive(Debug)]
struct Shortlist {
    per_weight: Vec<f32>,
    /// Indices of nodes, all different but for a race. Threads overwrite each other's finds, which costs nothing but a
    /// find.
    shortlist: [AtomicU32; REMEMBERED],
}

impl Picker for Shortlist {
    fn pick(&self, nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
        let now = cx.stamp(nodes);
        let start = cx.rng.below(REMEMBERED);
        let fresh: [usize; FRESH] = std::array::from_fn(|_| cx.rng.below(nodes.len()));
        let request = &*cx;
        let per_weight = |index: usize| self.per_weight.get(index).copied().unwrap_or(1.0);
        let (mut best, mut least) = (None, f32::INFINITY);
        let mut look = |index: usize| {
            let cost = nodes.states()[index].cost(now) * per_weight(index);
            if cost < least && request.can_take_at(nodes, index) {
                (best, least) = (Some(index), cost);
            }
        };
        // The list leaves load aside: a fast node that is busy now is soon free again.
        let worth = |index: usize| {
            let state = &nodes.states()[index];
            if state.is_available(false) { state.cost_alone(now) * per_weight(index) } else { f32::INFINITY }
        };
        let (mut worst, mut worst_worth) = (0, -1.0);
        for step in 0..FROM_MEMORY {
            let place = (start + step * (REMEMBERED / FROM_MEMORY)) % REMEMBERED;
            let index = self.shortlist[place].load(Relaxed) as usize;
            look(index);
            let worth = worth(index);
            if worth > worst_worth {
                (worst, worst_worth) = (place, worth);
            }
        }
        for index in fresh {
            look(index);
            let worth = worth(index);
            if worth < worst_worth {
                self.remember(index, worst);
                worst_worth = worth;
            }
        }
        best.or_else(|| any_eligible(nodes, cx))
    }
}

impl Shortlist {
    #[allow(clippy::cast_possible_truncation, reason = "indices came from u32")]
    fn remember(&self, index: usize, place: usize) {
        let index = index as u32;
        if self.shortlist.iter().all(|known| known.load(Relaxed) != index) {
            self.shortlist[place].store(index, Relaxed);
        }
    }
}
