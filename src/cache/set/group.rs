//! How many entries some sets may hold together.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The budget of a few neighbouring sets. It changes hands while they fill, and is only read once they are full.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Group {
    /// How many more entries the sets may hold.
    free: AtomicUsize,
    budget: usize,
    /// What is due to each set. One that has less, while nothing is free, may take from one that has more.
    pub(super) share: usize,
}

impl Group {
    pub(super) fn new(budget: usize, sets: usize) -> Self {
        Self { free: AtomicUsize::new(budget), budget, share: budget / sets.max(1) }
    }

    /// Claims room for an entry, if there is.
    pub(super) fn claim(&self) -> bool {
        self.free.fetch_update(Relaxed, Relaxed, |free| free.checked_sub(1)).is_ok()
    }

    /// Gives the room of entries back, once they are out.
    pub(super) fn release(&self, entries: usize) {
        self.free.fetch_add(entries, Relaxed);
    }

    /// How many entries have room, whether they are in already, or just about to be.
    pub(super) fn claimed(&self) -> usize {
        self.budget - self.free.load(Relaxed)
    }
}
