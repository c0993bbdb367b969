//! First in, first out.

use super::{Evict, Lists, Slot, Victim};

/// The entry that came first leaves first, however often it was used. 8 bytes an entry; a hit costs nothing.
///
/// For values that all grow stale alike, and where the work of a hit matters more than its ratio.
#[derive(Debug, Default)]
pub struct Fifo {
    queue: Lists<1>,
}

impl Fifo {
    /// An empty policy.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Evict for Fifo {
    #[inline]
    fn touch(&self, _: Slot, _: u64) {}

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
