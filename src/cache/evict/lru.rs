//! Least recently used.

use super::{Evict, Lists, Slot, Victim};

/// The entry whose last use is longest ago leaves, exactly. 8 bytes an entry.
///
/// A hit moves its entry, so hits take turns. One scan over many keys empties it; where that matters, take the default.
#[derive(Debug, Default)]
pub struct Lru {
    queue: Lists<1>,
}

impl Lru {
    /// An empty policy.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Evict for Lru {
    fn exclusive_hits(&self) -> bool {
        true
    }

    fn touch(&self, _: Slot, _: u64) {}

    #[inline]
    fn promote(&mut self, slot: Slot, _: u64) {
        if self.queue.newest(0) != Some(slot) {
            self.queue.push(0, slot);
        }
    }

    #[inline]
    fn insert(&mut self, slot: Slot, _: u64, _: u64) {
        self.queue.push(0, slot);
    }

    fn reweigh(&mut self, _: Slot, _: u64, _: u64) {}

    #[inline]
    fn remove(&mut self, slot: Slot, _: u64) {
        self.queue.unlink(slot);
    }

    #[inline]
    fn evict(&mut self, _: u64, _: u64) -> Victim {
        let Some(slot) = self.queue.oldest(0) else { return Victim::Empty };
        self.queue.unlink(slot);
        Victim::Slot(slot)
    }

    fn resize(&mut self, _: u64) {}
}
