//! The capacity of a cache, shared by its shards.

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What of the capacity no shard has claimed yet.
///
/// A shard keeps within its *quota*, and all quotas and the pool add up to the capacity: so no moment sees more in the cache
/// than it may hold. Shards claim in portions that shrink with what is left, and so little is claimed in vain.
#[derive(Debug)]
pub(super) struct Budget {
    capacity: u64,
    shards: u64,
    /// What each shard has when all have the same.
    fair: u64,
    pool: AtomicU64,
    /// Whether a shard with less than its share had to evict.
    wanted: AtomicBool,
}

impl Budget {
    pub(super) fn new(capacity: u64, shards: usize) -> Self {
        let shards = (shards as u64).max(1);
        Self {
            capacity,
            shards,
            fair: capacity.div_ceil(shards),
            pool: AtomicU64::new(capacity),
            wanted: AtomicBool::new(false),
        }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// What each shard has when all have the same.
    pub(super) fn fair(&self) -> u64 {
        self.fair
    }

    /// Claims `missing` and some more, or what there is, for a shard with this quota.
    pub(super) fn claim(&self, missing: u64, quota: u64) -> u64 {
        if self.pool.load(Relaxed) == 0 {
            return 0;
        }
        if self.wanted.load(Relaxed) {
            // What is there was given back for those with less.
            if quota > self.fair() {
                return 0;
            }
            self.wanted.store(false, Relaxed);
        }
        let mut claimed = 0;
        let _ = self.pool.fetch_update(Relaxed, Relaxed, |pool| {
            let portion = if self.shards == 1 { pool } else { pool / (8 * self.shards) };
            claimed = missing.max(portion).min(pool);
            Some(pool - claimed)
        });
        claimed
    }

    /// Asked by a shard that evicts and has this quota: how much of it to give back, if that is more than its share and another
    /// one has too little.
    ///
    /// So shards drift towards equal shares as their traffic wants, a little with each eviction. As long as all are
    /// content, nobody writes here.
    #[inline]
    pub(super) fn share_out(&self, quota: u64) -> Option<u64> {
        let fair = self.fair();
        let wanted = self.wanted.load(Relaxed);
        if !wanted && quota < fair - fair / 8 {
            self.wanted.store(true, Relaxed);
        }
        let gives = wanted && quota > fair && self.pool.load(Relaxed) == 0;
        gives.then(|| (fair / 256).clamp(1, quota - fair))
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
