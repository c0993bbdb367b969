//! Least response time: the node that is likely to answer first.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::sample::draw_two;
use crate::{
    balance::{Nodes, PickCx, Picker, Policy, any_eligible},
    cluster::Stamp,
    rng::Rng,
};

/// Up to so many nodes, all are looked at.
const SCAN: usize = 64;
/// Less than any cost that was measured, in seconds.
const TRIFLE: f32 = 1e-30;
/// Beyond, the best nodes seen lately are remembered: this many of them.
const REMEMBERED: usize = 12;
/// Each pick looks at half of what is remembered and at two others.
const FROM_MEMORY: usize = 6;
const FRESH: usize = 2;
/// A node is worth remembering if it takes less than this part of the time of the one that it replaces: among equals,
/// the list stays as it is.
const BETTER: f32 = 7.0 / 8.0;

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
/// O(1) in the number of nodes from there on. Lock-free. Reads the clock when a request starts, and again when it is
/// answered; of a node with an answer each millisecond, one request in four is timed.
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
        if self.per_weight.is_empty() {
            return scan(nodes, cx, |_, cost| cost);
        }
        let per_weight = &self.per_weight[..nodes.len()];
        scan(nodes, cx, |index, cost| cost * per_weight[index])
    }
}

/// The node that costs least. The loop has no branch that depends on costs, as they cannot be predicted.
#[inline]
fn scan(nodes: &Nodes, cx: &mut PickCx<'_>, weigh: impl Fn(usize, f32) -> f32) -> Option<usize> {
    // Equal costs are rare, and settled by the order that a random mask gives the indices.
    let mask = cx.rng.next_u64() & 0xffff_ffff;
    // Positive floats are in the order of their bits.
    let rank = |index: usize, cost: f32| u64::from(cost.to_bits()) << 32 | (index as u64 ^ mask);
    let mut least = u64::MAX;
    if cx.is_open() {
        for (index, state) in nodes.states().iter().enumerate() {
            let cost = state.plain_quote().map(|(alone, load)| alone * load);
            let cost = cost.unwrap_or_else(|| look_closer(nodes, cx, index));
            least = least.min(rank(index, weigh(index, cost)));
        }
        // Whether a node has been idle for so long that its estimate fades is asked of one in each pick.
        let index = cx.rng.below(nodes.len());
        least = least.min(rank(index, weigh(index, look_closer(nodes, cx, index))));
    } else {
        for index in 0..nodes.len() {
            least = least.min(rank(index, weigh(index, look_closer(nodes, cx, index))));
        }
    }
    #[allow(clippy::cast_possible_truncation, reason = "32 bits, of an index")]
    let chosen = ((least ^ mask) & 0xffff_ffff) as usize;
    (least >> 32 < u64::from(f32::INFINITY.to_bits())).then_some(chosen)
}

/// What a node costs that is new, failing, limited or idle; infinity if it cannot take the request.
#[cold]
fn look_closer(nodes: &Nodes, cx: &mut PickCx<'_>, index: usize) -> f32 {
    let cost = quote(nodes, cx, index, cx.stamp(nodes)).map_or(f32::INFINITY, |(alone, load)| alone * load);
    // To a client that has just begun all nodes are the same: whatever their number, each is as likely to come first.
    // (A part of the cost, which stays below that of nodes whose answers took no time at all.)
    let part = ((cx.rng.next_u64() >> 40) + 1) as f32 / (1 << 24) as f32;
    if cost < TRIFLE { cost * part } else { cost }
}

/// What a node costs alone and how many requests it would have, if it can take this one.
#[inline]
fn quote(nodes: &Nodes, cx: &PickCx<'_>, index: usize, now: Stamp) -> Option<(f32, f32)> {
    cx.can_take_at(nodes, index).then(|| nodes.states()[index].quote(now))
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
        let fresh: [usize; FRESH] = draw_two(nodes.len(), &mut cx.rng).into();
        let (mut best, mut least) = (None, f32::INFINITY);
        // Gives back what the node is worth with its load left aside: one that is fast but busy now is soon free again.
        let mut look = |index: usize, plain: Option<(f32, f32)>| {
            let Some((alone, load)) = plain.or_else(|| quote(nodes, cx, index, now)) else {
                return f32::INFINITY;
            };
            let alone = alone * self.per_weight.get(index).copied().unwrap_or(1.0);
            if alone * load < least {
                (best, least) = (Some(index), alone * load);
            }
            alone
        };
        let is_open = cx.is_open();
        let (mut worst, mut worst_worth) = (0, -1.0);
        let mut place = start;
        for _ in 0..FROM_MEMORY {
            place += REMEMBERED / FROM_MEMORY;
            place -= if place < REMEMBERED { 0 } else { REMEMBERED };
            let index = self.shortlist[place].load(Relaxed) as usize;
            let plain = if is_open { nodes.states()[index].plain_quote() } else { None };
            let worth = look(index, plain);
            if worth > worst_worth {
                (worst, worst_worth) = (place, worth);
            }
        }
        for index in fresh {
            // Only here does it matter whether the node has long been idle: those in the list are in use.
            let worth = look(index, None);
            if worth < worst_worth * BETTER {
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
