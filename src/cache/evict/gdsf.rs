//! Greedy dual size frequency.

use super::{Evict, Lists, Marks, Slot, Victim, weights::Weights};

/// The entry that is least worth its weight leaves: few hits for much room. Keeps many small entries rather than few large
/// ones, for the most hits; not for the most bytes. 18 bytes an entry, beside 8 for weights; a hit counts.
///
/// As with [`Lfu`](super::Lfu) the cache has a level: an entry that is inserted, or found in use when its turn to leave has
/// come, is worth the level plus its uses (at most 255) divided by its weight. The one of the smallest worth leaves, and the
/// level rises to that worth, so uses age.
///
/// Source: Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy", 1998. Uses by
/// weight are rounded to steps of a factor √2, at most 2⁴⁰ to one; entries of one step share a queue, which is in
/// order of worth by itself. So no step takes longer than a look at the head of each queue, of which there are 97.
#[derive(Debug)]
pub struct Gdsf {
    queues: Lists<QUEUES>,
    /// The queues in which there may be somebody, a bit for each.
    taken: u128,
    /// The hits since an entry was last placed.
    pub(super) hits: Marks<8>,
    /// The uses for which it was placed.
    uses: Vec<u8>,
    /// The worth of each slot, in 2⁻⁴⁰; wraps around.
    worth: Vec<u64>,
    weights: Weights,
    level: u64,
}

/// Two for each power of two from 2⁻⁴⁰ to 2⁸.
const QUEUES: usize = 2 * 48 + 1;

impl Gdsf {
    /// An empty policy.
    pub fn new() -> Self {
        Self {
            queues: Lists::new(),
            taken: 0,
            hits: Marks::new(),
            uses: Vec::new(),
            worth: Vec::new(),
            weights: Weights::default(),
            level: 0,
        }
    }

    /// Places an entry by its uses and weight.
    #[inline]
    fn push(&mut self, slot: Slot, uses: u8) {
        let queue = queue(uses, self.weights.get(slot));
        self.hits.set(slot, 0, 0);
        self.uses[slot as usize] = uses;
        self.worth[slot as usize] = self.level.wrapping_add(gain(queue));
        self.queues.push(queue, slot);
        self.taken |= 1 << queue;
    }

    /// The entry of the smallest worth, and that worth above the level.
    #[inline]
    fn least(&mut self) -> Option<(Slot, u64)> {
        let mut least = None;
        let mut rest = self.taken;
        while rest != 0 {
            let queue = rest.trailing_zeros();
            rest &= rest - 1;
            let Some(slot) = self.queues.oldest(queue as usize) else {
                self.taken &= !(1 << queue);
                continue;
            };
            let worth = self.worth[slot as usize].wrapping_sub(self.level);
            if least.is_none_or(|(_, best)| worth < best) {
                least = Some((slot, worth));
            }
        }
        least
    }
}

impl Default for Gdsf {
    fn default() -> Self {
        Self::new()
    }
}

impl Evict for Gdsf {
    #[inline]
    fn touch(&self, slot: Slot, _: u64) {
        self.hits.touch(slot);
    }

    #[inline]
    fn insert(&mut self, slot: Slot, _: u64, weight: u64) {
        let index = slot as usize;
        if index >= self.uses.len() {
            self.uses.resize(index + 1, 0);
            self.worth.resize(index + 1, 0);
        }
        self.weights.set(slot, weight);
        self.push(slot, 1);
    }

    fn reweigh(&mut self, slot: Slot, _: u64, weight: u64) {
        self.weights.set(slot, weight);
        let hits = self.hits.hits(slot);
        self.push(slot, self.uses[slot as usize].saturating_add(hits));
    }

    #[inline]
    fn remove(&mut self, slot: Slot, _: u64) {
        self.queues.unlink(slot);
    }

    fn evict(&mut self, _: u64, _: u64) -> Victim {
        for step in 0.. {
            let Some((slot, worth)) = self.least() else { break };
            self.level = self.level.wrapping_add(worth);
            let hits = self.hits.hits(slot);
            if hits == 0 || step == super::PATIENCE {
                self.queues.unlink(slot);
                return Victim::Slot(slot);
            }
            self.push(slot, self.uses[slot as usize].saturating_add(hits));
        }
        Victim::Empty
    }

    fn resize(&mut self, _: u64) {}
}

/// The step of a number of uses by weight: 2⁻⁴⁰ is 0.
#[inline]
pub(super) fn queue(uses: u8, weight: u64) -> usize {
    let ratio = ((u128::from(uses.max(1)) << 40) / u128::from(weight.max(1))).max(1);
    let power = ratio.ilog2();
    let upper = ratio * ratio >= 2 << (2 * power);
    (2 * power as usize + usize::from(upper)).min(QUEUES - 1)
}

/// What an entry of this step is worth above the level, in 2⁻⁴⁰.
#[inline]
pub(super) fn gain(queue: usize) -> u64 {
    let power = 1_u64 << (queue / 2);
    // √2 ≈ 181 / 128
    if queue.is_multiple_of(2) { power } else { (power * 181).div_ceil(128) }
}
