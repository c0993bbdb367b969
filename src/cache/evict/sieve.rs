//! SIEVE.

use super::{Evict, Lists, Marks, Slot, Victim};

/// A hand goes from old entries to new ones, spares those that were used since it last came by, and takes the first that
/// was not. 9 bytes an entry; a hit sets a mark.
///
/// Simple and good where most entries are used once, as on the web. It pins what was used twice where popularity moves on in
/// order: the default does not. Exact up to 256 entries that were all used; if there are more in a row, the next one leaves
/// all the same.
///
/// Source: Zhang, Yang, Yue, Vigfusson, Rashmi, "SIEVE is Simpler than LRU", NSDI 2024.
#[derive(Debug, Default)]
pub struct Sieve {
    queue: Lists<1>,
    pub(super) used: Marks<1>,
    /// The entry to look at next; the oldest, if none.
    hand: Option<Slot>,
}

impl Sieve {
    /// An empty policy.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Evict for Sieve {
    #[inline]
    fn touch(&self, slot: Slot, _: u64) {
        self.used.touch(slot);
    }

    #[inline]
    fn insert(&mut self, slot: Slot, _: u64, _: u64) {
        self.used.set(slot, 0, 0);
        self.queue.push(0, slot);
    }

    fn reweigh(&mut self, _: Slot, _: u64, _: u64) {}

    #[inline]
    fn remove(&mut self, slot: Slot, _: u64) {
        if self.hand == Some(slot) {
            self.hand = self.queue.newer(slot);
        }
        self.queue.unlink(slot);
    }

    fn evict(&mut self, _: u64, _: u64) -> Victim {
        let Some(mut slot) = self.hand.or(self.queue.oldest(0)) else { return Victim::Empty };
        for _ in 0..super::PATIENCE {
            if self.used.hits(slot) == 0 {
                break;
            }
            self.used.set(slot, 0, 0);
            slot = self.queue.newer(slot).or(self.queue.oldest(0)).unwrap_or(slot);
        }
        self.hand = self.queue.newer(slot);
        self.queue.unlink(slot);
        Victim::Slot(slot)
    }

    fn resize(&mut self, _: u64) {}
}
