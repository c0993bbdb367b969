//! Choosing the cheapest of some nodes, or of all.

use crate::{
    balance::{Nodes, PickCx},
    cluster::NodeState,
    rng::Rng,
};

/// The most nodes that one sample can hold.
pub(super) const MAX_CHOICES: usize = 16;

/// How many samples are drawn before all nodes are looked at: ineligible ones take up places in a sample.
const ROUNDS: usize = 4;

/// The cheapest candidate so far. Equal costs are settled at random: first-come would send every client of a fleet to
/// the same node.
pub(super) struct Cheapest {
    /// The cost's bits above (those of positive floats are in their order), random ones below.
    rank: u64,
    index: usize,
    salt: u64,
}

impl Cheapest {
    #[inline]
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self { rank: u64::MAX, index: usize::MAX, salt: rng.next_u64() | 1 }
    }

    /// `cost` must not be negative.
    #[inline]
    pub(super) fn offer(&mut self, index: usize, cost: f32) {
        // The high half of an odd multiple: a different order of the indices for each salt.
        let tie = (index as u64 + 1).wrapping_mul(self.salt) >> 32;
        let rank = u64::from(cost.to_bits()) << 32 | tie;
        if rank < self.rank {
            self.rank = rank;
            self.index = index;
        }
    }

    #[inline]
    pub(super) fn index(&self) -> Option<usize> {
        (self.index != usize::MAX).then_some(self.index)
    }
}

/// The cheapest of all nodes that can take the request. O(n).
#[inline]
pub(super) fn cheapest_of_all(
    nodes: &Nodes,
    cx: &mut PickCx<'_>,
    cost: impl Fn(&PickCx<'_>, usize, &NodeState) -> f32,
) -> Option<usize> {
    let mut best = Cheapest::new(&mut cx.rng);
    for (index, state) in nodes.states().iter().enumerate() {
        if cx.can_take_at(nodes, index) {
            best.offer(index, cost(cx, index, state));
        }
    }
    best.index()
}

/// The cheapest of `choices` different random nodes that can take the request; of all, if too few of those drawn can.
#[inline]
pub(super) fn cheapest_of_some(
    nodes: &Nodes,
    cx: &mut PickCx<'_>,
    choices: usize,
    cost: impl Fn(&PickCx<'_>, usize, &NodeState) -> f32,
) -> Option<usize> {
    if choices >= nodes.len() {
        return cheapest_of_all(nodes, cx, cost);
    }
    let mut best = Cheapest::new(&mut cx.rng);
    let mut eligible = 0;
    for _ in 0..ROUNDS {
        let mut offer = |cx: &PickCx<'_>, index: usize| {
            if cx.can_take_at(nodes, index) {
                eligible += 1;
                best.offer(index, cost(cx, index, &nodes.states()[index]));
            }
        };
        if choices == 2 {
            let (first, second) = draw_two(nodes.len(), &mut cx.rng);
            offer(cx, first);
            offer(cx, second);
        } else {
            let mut drawn = [0; MAX_CHOICES];
            for &index in draw(&mut drawn, choices, nodes.len(), &mut cx.rng) {
                offer(cx, index);
            }
        }
        if eligible >= choices {
            return best.index();
        }
    }
    cheapest_of_all(nodes, cx, cost)
}

/// Two different numbers below `n`, each pair equally likely to within n / 2³².
#[inline]
fn draw_two(n: usize, rng: &mut Rng) -> (usize, usize) {
    let random = rng.next_u64();
    let below = |bound: usize, random: u64| ((random & 0xffff_ffff) * bound as u64 >> 32) as usize;
    let first = below(n, random);
    let second = below(n - 1, random >> 32);
    (first, if second < first { second } else { second + 1 })
}

/// `choices` different numbers below `n`, each set equally likely (Floyd's algorithm). `choices` is less than `n`.
#[inline]
fn draw<'a>(room: &'a mut [usize; MAX_CHOICES], choices: usize, n: usize, rng: &mut Rng) -> &'a [usize] {
    let choices = choices.min(MAX_CHOICES);
    for place in 0..choices {
        let last = n - choices + place;
        let candidate = rng.below(last + 1);
        room[place] = if room[..place].contains(&candidate) { last } else { candidate };
    }
    &room[..choices]
}
