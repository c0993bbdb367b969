//! S3-FIFO.

use super::{Evict, Ghost, Lists, Marks, Slot, Victim, hash::short, weights::Weights};

/// Three queues: a newcomer starts in a small one, a tenth of the cache. Only if it is used twice before it comes to its end
/// does it get on into the main one, where each use, up to three, is worth one more round. Of what leaves the small queue the
/// ghost keeps a fingerprint: if it comes back, it goes straight to the main one. 15 bytes an entry; a hit counts.
///
/// Source: Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023.
#[derive(Debug)]
pub struct S3Fifo {
    queues: Lists<2>,
    /// Tagged with the queue.
    pub(super) marks: Marks<2>,
    hashes: Vec<u32>,
    weights: Weights,
    ghost: Ghost,
    /// The weight of the small queue, and what it should be. The former wraps around, and so comes right again, where a
    /// weigher overdoes it.
    small: u64,
    target: u64,
}

const SMALL: u8 = 0;
const MAIN: u8 = 1;
/// Hits that lead from the small queue to the main one.
const PROMOTES: u8 = 2;

impl S3Fifo {
    /// A policy for a shard of this capacity.
    pub fn new(capacity: u64) -> Self {
        Self {
            queues: Lists::new(),
            marks: Marks::new(),
            hashes: Vec::new(),
            weights: Weights::default(),
            ghost: Ghost::new(capacity),
            small: 0,
            target: target(capacity),
        }
    }

    #[inline]
    fn push(&mut self, queue: u8, slot: Slot, hits: u8) {
        self.marks.set(slot, queue, hits);
        self.queues.push(queue.into(), slot);
    }

    #[inline]
    fn unlink(&mut self, slot: Slot) {
        if self.marks.tag(slot) == SMALL {
            self.small = self.small.wrapping_sub(self.weights.get(slot));
        }
        self.queues.unlink(slot);
    }

    #[inline]
    fn give_up(&mut self, slot: Slot) -> Victim {
        if self.marks.tag(slot) == SMALL {
            self.ghost.put(self.hashes[slot as usize]);
        }
        self.unlink(slot);
        Victim::Slot(slot)
    }
}

impl Evict for S3Fifo {
    #[inline]
    fn touch(&self, slot: Slot, _: u64) {
        self.marks.touch(slot);
    }

    #[inline]
    fn insert(&mut self, slot: Slot, hash: u64, weight: u64) {
        let index = slot as usize;
        let hash = short(hash);
        if index >= self.hashes.len() {
            self.hashes.resize(index + 1, 0);
            self.ghost.grow(index + 1);
        }
        self.hashes[index] = hash;
        self.weights.set(slot, weight);
        if self.ghost.take(hash) {
            self.push(MAIN, slot, 0);
        } else {
            self.push(SMALL, slot, 0);
            self.small = self.small.wrapping_add(weight);
        }
    }

    fn reweigh(&mut self, slot: Slot, _: u64, weight: u64) {
        if self.marks.tag(slot) == SMALL {
            self.small = self.small.wrapping_sub(self.weights.get(slot)).wrapping_add(weight);
        }
        self.weights.set(slot, weight);
    }

    #[inline]
    fn remove(&mut self, slot: Slot, _: u64) {
        self.unlink(slot);
    }

    #[inline]
    fn evict(&mut self, newcomer: u64, _: u64) -> Victim {
        self.ghost.warm(short(newcomer));
        for _ in 0..super::PATIENCE {
            let (small, main) = (self.queues.oldest(SMALL.into()), self.queues.oldest(MAIN.into()));
            match (small, main) {
                (Some(slot), main) if self.small >= self.target || main.is_none() => {
                    if self.marks.hits(slot) < PROMOTES {
                        return self.give_up(slot);
                    }
                    self.small = self.small.wrapping_sub(self.weights.get(slot));
                    self.push(MAIN, slot, 0);
                }
                (_, Some(slot)) => {
                    let hits = self.marks.hits(slot);
                    if hits == 0 {
                        return self.give_up(slot);
                    }
                    self.push(MAIN, slot, hits - 1);
                }
                _ => return Victim::Empty,
            }
        }
        // Many in a row were used: the next in line leaves, used or not.
        let next = self.queues.oldest(MAIN.into()).or(self.queues.oldest(SMALL.into()));
        next.map_or(Victim::Empty, |slot| self.give_up(slot))
    }

    fn resize(&mut self, capacity: u64) {
        self.target = target(capacity);
    }
}

fn target(capacity: u64) -> u64 {
    (capacity / 10).max(1)
}
