//! The capacity of a cache, shared by its shards.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What of the capacity no shard has claimed yet.
///
/// A shard keeps within its *quota*, and all quotas and the pool add up to the capacity: so no moment sees more in the cache
/// than it may hold. Shards claim in portions that shrink with what is left, and so little is claimed in vain.
#[derive(Debug)]
pub(super) struct Budget {
    capacity: u64,
    shards: u64,
    pool: AtomicU64,
}

impl Budget {
    pub(super) fn new(capacity: u64, shards: usize) -> Self {
        Self { capacity, shards: (shards as u64).max(1), pool: AtomicU64::new(capacity) }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// What each shard has when all have the same.
    pub(super) fn fair(&self) -> u64 {
        self.capacity.div_ceil(self.shards)
    }

    /// Claims `missing` and some more, or what there is.
    pub(super) fn claim(&self, missing: u64) -> u64 {
        if self.pool.load(Relaxed) == 0 {
            return 0;
        }
        let mut claimed = 0;
        let _ = self.pool.fetch_update(Relaxed, Relaxed, |pool| {
            let portion = if self.shards == 1 { pool } else { pool / (8 * self.shards) };
            claimed = missing.max(portion).min(pool);
            Some(pool - claimed)
        });
        claimed
    }

    /// Gives back what was claimed.
    pub(super) fn release(&self, unused: u64) {
        if unused > 0 {
            self.pool.fetch_add(unused, Relaxed);
        }
    }

    #[cfg(test)]
    pub(super) fn pool(&self) -> u64 {
        self.pool.load(Relaxed)
    }
}
