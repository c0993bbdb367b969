//! Least frequently used, with ageing.

use super::{Evict, Lists, Marks, Slot, Victim};

/// The entry that was used least often leaves; of several, the one that has been so for longest. 10 bytes an entry; a hit
/// counts.
///
/// Uses age, or what was popular yesterday would stay for ever: the cache has a level, and an entry that is inserted, or found
/// in use when its turn to leave has come, is worth the level plus its uses, at most 63. The entry of the smallest worth leaves,
/// and the level rises to that worth. So each time that all of the rarest entries have been replaced, one use of all
/// others is forgotten, and after 63 such turns without a hit the most popular entry of all leaves.
///
/// Source: LFU with dynamic ageing, in Arlitt, Cherkasova, Dilley, Friedrich, Jin, "Evaluating Content Management Techniques
/// for Web Proxy Caches", 1999; entries of one worth share a queue, so every step takes O(1).
#[derive(Debug, Default)]
pub struct Lfu {
    /// The queue of each worth, modulo their number.
    queues: Lists<QUEUES>,
    /// The queues in which there may be somebody, a bit for each.
    taken: u64,
    /// The hits since an entry was last placed.
    pub(super) hits: Marks<8>,
    /// The uses for which it was placed.
    uses: Vec<u8>,
    /// The queue of the smallest worth.
    level: u32,
}

const QUEUES: usize = u64::BITS as usize;
/// So that no two worths share a queue: level to level + 63.
const MOST: u8 = 63;

impl Lfu {
    /// An empty policy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Places an entry by its uses.
    #[inline]
    fn push(&mut self, slot: Slot, uses: u8) {
        self.hits.set(slot, 0, 0);
        self.uses[slot as usize] = uses;
        let queue = (self.level + u32::from(uses)) % u64::BITS;
        self.queues.push(queue as usize, slot);
        self.taken |= 1 << queue;
    }

    /// Raises the level to the smallest worth. The first entry of that queue.
    #[inline]
    fn least(&mut self) -> Option<Slot> {
        while self.taken != 0 {
            self.level = (self.level + self.taken.rotate_right(self.level).trailing_zeros()) % u64::BITS;
            if let Some(slot) = self.queues.oldest(self.level as usize) {
                return Some(slot);
            }
            self.taken &= !(1 << self.level);
        }
        None
    }
}

impl Evict for Lfu {
    #[inline]
    fn touch(&self, slot: Slot, _: u64) {
        self.hits.touch(slot);
    }

    #[inline]
    fn insert(&mut self, slot: Slot, _: u64, _: u64) {
        let index = slot as usize;
        if index >= self.uses.len() {
            self.uses.resize(index + 1, 0);
        }
        self.push(slot, 1);
    }

    fn reweigh(&mut self, _: Slot, _: u64, _: u64) {}

    #[inline]
    fn remove(&mut self, slot: Slot, _: u64) {
        self.queues.unlink(slot);
    }

    #[inline]
    fn evict(&mut self, _: u64, _: u64) -> Victim {
        for step in 0.. {
            let Some(slot) = self.least() else { break };
            let hits = self.hits.hits(slot);
            if hits == 0 || step == super::PATIENCE {
                self.queues.unlink(slot);
                return Victim::Slot(slot);
            }
            let uses = self.uses[slot as usize].saturating_add(hits).min(MOST);
            self.push(slot, uses);
        }
        Victim::Empty
    }

    fn resize(&mut self, _: u64) {}
}
