//! No eviction.

use super::{Evict, Lists, Slot, Victim};

/// Nothing leaves for a newcomer: what comes when the cache is full is refused, until room is made in other ways. 8 bytes
/// an entry.
///
/// A value that is replaced by a heavier one for which there is no room leaves, and the new one is refused. Where the budget
/// shrinks, the oldest entries leave all the same.
#[derive(Debug, Default)]
pub struct NoEviction {
    queue: Lists<1>,
}

impl NoEviction {
    /// An empty policy.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Evict for NoEviction {
    #[inline]
    fn touch(&self, _: Slot, _: u64) {}

    fn insert(&mut self, slot: Slot, _: u64, _: u64) {
        self.queue.push(0, slot);
    }

    fn reweigh(&mut self, _: Slot, _: u64, _: u64) {}

    fn remove(&mut self, slot: Slot, _: u64) {
        self.queue.unlink(slot);
    }

    fn evict(&mut self, _: u64, weight: u64) -> Victim {
        if weight > 0 {
            return Victim::Refuse;
        }
        let Some(slot) = self.queue.oldest(0) else { return Victim::Empty };
        self.queue.unlink(slot);
        Victim::Slot(slot)
    }

    fn resize(&mut self, _: u64) {}
}
