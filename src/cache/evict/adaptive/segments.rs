//! One structure for several policies: a window, a main queue, a memory of what left and how often it was seen, and rules that
//! may change.

use super::super::{Lists, Marks, PATIENCE, Recall, Slot, Victim, weights::Weights};

/// How entries get on from the window, where newcomers begin, into the main queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// The window's share of the capacity, in 1024ths.
    pub(super) window: u64,
    /// An entry with this many hits gets on at the end of the window. 0: never by that alone.
    pub(super) promote: u8,
    /// Whether others may get on too: in a contest with the next victim of the main queue, who must have been seen less
    /// often, by more than this margin.
    pub(super) contest: Option<u8>,
    /// One contest in two to this power goes without the margin, so that entries leave in the end which nobody asks for: 0 is
    /// none.
    pub(super) easy: u32,
    /// Whether an entry that the ghost knows begins in the main queue.
    pub(super) ghost: bool,
}

/// The structure. Entries are touched from many threads.
#[derive(Debug)]
pub(super) struct Segments {
    capacity: u64,
    queues: Lists<2>,
    /// Tagged with the queue, and the rounds that an entry of the main queue has left.
    marks: Marks<3>,
    hashes: Vec<u32>,
    weights: Weights,
    recall: Recall,
    /// The weights of the queues. They wrap around, and so come right again, where a weigher overdoes it.
    window: u64,
    main: u64,
    len: usize,
    /// Turns with each contest, and chooses who wins one against the odds.
    coin: u32,
}

const WINDOW: usize = 0;
const MAIN: usize = 1;
/// The most rounds in the main queue that hits are saved up for.
const ROUNDS: u8 = 3;
/// Entries of a window that is too large which get on for each eviction, without a contest: after the first filling, or
/// under rules with a smaller window.
const SURPLUS: u32 = 3;
/// The same under rules without contests. The next one leaves unless it was hit, so of what was there first every other entry
/// stays: with none of it a loop finds nothing when it comes round for the first time, before anything is known of it.
const SPARED: u32 = 1;
/// Who was seen this often wins one lost contest in 2⁷: else somebody could fill the main queue with keys that share their
/// counters, which nobody can beat. Numbers are Caffeine's.
const WARM: u8 = 6;
const ODDS: u32 = 7;

impl Segments {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            queues: Lists::new(),
            marks: Marks::new(),
            hashes: Vec::new(),
            weights: Weights::default(),
            // Shards differ by chance.
            recall: Recall::new(capacity.saturating_add(4 * capacity.isqrt())),
            window: 0,
            main: 0,
            len: 0,
            coin: 1,
        }
    }

    #[cfg(test)]
    pub(super) fn hits(&self, slot: Slot) -> u8 {
        self.marks.hits(slot)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn weight(&self) -> u64 {
        self.window.wrapping_add(self.main)
    }

    /// The hash and the weight of what is in this slot, or was there last.
    pub(super) fn entry(&self, slot: Slot) -> (u32, u64) {
        (self.hashes.get(slot as usize).copied().unwrap_or(0), self.weights.get(slot))
    }

    pub(super) fn resize(&mut self, capacity: u64) {
        self.capacity = capacity;
        self.recall.recount();
    }

    #[inline]
    pub(super) fn touch(&self, slot: Slot) {
        self.marks.touch(slot);
    }

    #[inline]
    pub(super) fn insert(&mut self, slot: Slot, hash: u32, weight: u64, rules: &Rules) {
        let index = slot as usize;
        if index >= self.hashes.len() {
            self.grow(index);
        }
        self.len += 1;
        self.recall.grow(self.len);
        self.hashes[index] = hash;
        self.weights.set(slot, weight);
        let known = self.recall.come(hash);
        self.enter(slot, if known && rules.ghost { MAIN } else { WINDOW });
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, index: usize) {
        self.hashes.resize(index + 1, 0);
    }

    pub(super) fn reweigh(&mut self, slot: Slot, weight: u64) {
        let old = self.weights.get(slot);
        let sum = self.sum(self.queue(slot));
        *sum = sum.wrapping_sub(old).wrapping_add(weight);
        self.weights.set(slot, weight);
    }

    #[inline]
    pub(super) fn remove(&mut self, slot: Slot) {
        self.pull(slot);
        self.queues.unlink(slot);
        self.len -= 1;
    }

    /// Has fetched from memory what an eviction for a newcomer needs; the slots that it will look at first.
    #[inline]
    pub(super) fn warm(&self, newcomer: u32) -> [Option<Slot>; 2] {
        self.recall.warm(newcomer);
        let first = [self.queues.oldest(WINDOW), self.queues.oldest(MAIN)];
        for hash in first.iter().flatten().filter_map(|slot| self.hashes.get(*slot as usize)) {
            self.recall.warm(*hash);
        }
        first
    }

    pub(super) fn evict(&mut self, rules: &Rules) -> Victim {
        // Without an overflow.
        let (whole, rest) = (self.capacity >> 10, self.capacity & 1023);
        let share = (whole * rules.window + ((rest * rules.window) >> 10)).max(1);
        let mut patience = PATIENCE;
        let mut surplus = if rules.contest.is_some() { SURPLUS } else { SPARED };
        loop {
            let candidate = match (self.queues.oldest(WINDOW), self.queues.oldest(MAIN)) {
                (None, None) => return Victim::Empty,
                (Some(candidate), None) => candidate,
                (Some(candidate), Some(_)) if self.window >= share => candidate,
                (_, Some(_)) => {
                    let victim = self.turn_main(&mut patience);
                    return victim.map_or(Victim::Empty, |victim| self.give_up(victim));
                }
            };
            if patience == 0 {
                return self.give_up(candidate);
            }
            patience -= 1;
            let hits = self.take_hits(candidate);
            if rules.promote > 0 && hits >= rules.promote {
                self.promote(candidate);
                continue;
            }
            if surplus > 0 && self.window.saturating_sub(self.weights.get(candidate)) > share {
                surplus -= 1;
                self.promote(candidate);
                continue;
            }
            let Some(margin) = rules.contest else { return self.give_up(candidate) };
            let Some(victim) = self.turn_main(&mut patience) else { return self.give_up(candidate) };
            if !self.wins(candidate, victim, margin, rules.easy) {
                return self.give_up(candidate);
            }
            self.promote(candidate);
            return self.give_up(victim);
        }
    }

    /// Whether the candidate was seen more often than the victim, each for its weight.
    fn wins(&mut self, candidate: Slot, victim: Slot, margin: u8, easy: u32) -> bool {
        let seen = |slot: Slot| self.recall.seen(self.hashes[slot as usize]);
        let weight = |slot: Slot| u128::from(self.weights.get(slot).max(1));
        let (mine, theirs) = (seen(candidate), seen(victim));
        self.coin = self.coin.wrapping_mul(0x9e37_79b1).wrapping_add(self.hashes[candidate as usize] | 1);
        let tossed = |odds: u32| self.coin.leading_zeros() >= odds;
        let margin = if easy > 0 && tossed(easy) { 0 } else { margin };
        u128::from(mine) * weight(victim) > u128::from(theirs + margin) * weight(candidate)
            || mine >= WARM && tossed(ODDS)
    }

    /// Sends the entries of the main queue that have rounds left to its newer end, up to the first one that has none.
    #[inline]
    fn turn_main(&mut self, patience: &mut usize) -> Option<Slot> {
        loop {
            let slot = self.queues.oldest(MAIN)?;
            let hits = self.take_hits(slot);
            let rounds = (self.rounds(slot) + hits).min(ROUNDS);
            if rounds == 0 || *patience == 0 {
                return Some(slot);
            }
            *patience -= 1;
            self.marks.set(slot, tag(MAIN, rounds - 1), 0);
            self.queues.push(MAIN, slot);
        }
    }

    /// The hits since this was last asked, for the sketch and for the caller.
    #[inline]
    fn take_hits(&mut self, slot: Slot) -> u8 {
        let hits = self.marks.hits(slot);
        if hits > 0 {
            self.marks.set(slot, self.marks.tag(slot), 0);
            self.saw(slot, hits);
        }
        hits
    }

    #[inline(never)]
    fn saw(&mut self, slot: Slot, hits: u8) {
        self.recall.see(self.hashes[slot as usize], hits);
    }

    #[inline]
    fn promote(&mut self, slot: Slot) {
        self.pull(slot);
        self.queues.unlink(slot);
        self.enter(slot, MAIN);
    }

    #[inline]
    fn give_up(&mut self, slot: Slot) -> Victim {
        self.remove(slot);
        self.recall.leave(self.hashes[slot as usize]);
        Victim::Slot(slot)
    }

    /// Puts an entry that is in no queue into one.
    #[inline]
    fn enter(&mut self, slot: Slot, queue: usize) {
        self.marks.set(slot, tag(queue, 0), 0);
        self.queues.enter(queue, slot);
        let weight = self.weights.get(slot);
        let sum = self.sum(queue);
        *sum = sum.wrapping_add(weight);
    }

    /// Takes the weight of an entry out of the sum of its queue.
    #[inline]
    fn pull(&mut self, slot: Slot) {
        let weight = self.weights.get(slot);
        let sum = self.sum(self.queue(slot));
        *sum = sum.wrapping_sub(weight);
    }

    #[inline]
    fn sum(&mut self, queue: usize) -> &mut u64 {
        if queue == MAIN { &mut self.main } else { &mut self.window }
    }

    #[inline]
    fn queue(&self, slot: Slot) -> usize {
        usize::from(self.marks.tag(slot) & 1)
    }

    #[inline]
    fn rounds(&self, slot: Slot) -> u8 {
        self.marks.tag(slot) >> 1
    }
}

#[inline]
fn tag(queue: usize, rounds: u8) -> u8 {
    rounds << 1 | u8::from(queue == MAIN)
}
