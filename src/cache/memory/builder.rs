//! What a cache is made of.

use std::{
    fmt,
    hash::{BuildHasher, Hash},
    num::NonZero,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use super::{
    super::{
        evict::Eviction,
        expire::{Aging, Expiry},
    },
    Epoch, Inner, MemoryCache, RandomState,
    budget::Budget,
    listener::{Cause, Listener},
    shard::Shard,
    striped::Striped,
};
use crate::time::{Clock, TokioClock};

/// Shards for each core.
const SHARDS: usize = 8;
/// A shard should have room for this many entries, or the policy sees too little of the traffic.
const SMALL: u64 = 1024;
/// And not for many more than this, or its growth takes too long.
const LARGE: u64 = 1 << 16;
/// The most shards.
const MOST: usize = 1 << 12;

pub(super) type Weigher<K, V> = Arc<dyn Fn(&K, &V) -> u64 + Send + Sync>;

/// Sets up a [`MemoryCache`].
#[must_use = "`build` makes the cache"]
pub struct MemoryCacheBuilder<K, V, S = RandomState> {
    capacity: u64,
    eviction: Eviction,
    weigher: Option<Weigher<K, V>>,
    listener: Option<Listener<K, V>>,
    expiry: Expiry,
    clock: Arc<dyn Clock>,
    shards: Option<usize>,
    hasher: S,
}

impl<K, V> MemoryCacheBuilder<K, V> {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            capacity,
            eviction: Eviction::default(),
            weigher: None,
            listener: None,
            expiry: Expiry::new(),
            clock: Arc::new(TokioClock),
            shards: None,
            hasher: RandomState::default(),
        }
    }
}

impl<K, V, S> MemoryCacheBuilder<K, V, S> {
    /// Sets which entry leaves when the cache is full.
    pub fn eviction(mut self, eviction: Eviction) -> Self {
        self.eviction = eviction;
        self
    }

    /// Sets how much an entry weighs: then the capacity is a weight, and not a number of entries.
    ///
    /// The weigher is asked once for each value that is inserted, outside of locks. A weight of 0 counts as 1.
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(weigher));
        self
    }

    /// Sets who is told of each entry that leaves, and of each value that does not get in.
    ///
    /// The listener is called in the thread whose call made the entry leave, with no lock held: it may use the cache.
    pub fn listener(mut self, listener: impl Fn(&K, &V, Cause) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Sets how long entries live, unless they are inserted with a time to live of their own.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.expiry = self.expiry.ttl(ttl);
        self
    }

    /// Sets how long entries live, in place of all that was said about it before.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// Sets where the time comes from (default: tokio's clock). It is read only when entries can expire.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets how many shards there are (default: by the cores and the capacity). Rounded up to a power of two.
    ///
    /// One shard evicts exactly in the order of its policy.
    pub fn shards(mut self, shards: NonZero<usize>) -> Self {
        self.shards = Some(shards.get());
        self
    }

    /// Sets how keys are hashed (default: foldhash, seeded anew for each cache).
    pub fn hasher<T>(self, hasher: T) -> MemoryCacheBuilder<K, V, T> {
        let Self { capacity, eviction, weigher, listener, expiry, clock, shards, .. } = self;
        MemoryCacheBuilder { capacity, eviction, weigher, listener, expiry, clock, shards, hasher }
    }

    /// The cache, empty.
    pub fn build(self) -> MemoryCache<K, V, S>
    where
        K: Hash + Eq,
        S: BuildHasher,
    {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let count = match self.shards {
            Some(shards) => shards,
            None => shards(self.capacity, self.weigher.is_some(), cores),
        };
        let count = count.clamp(1, MOST).next_power_of_two();
        let budget = Budget::new(self.capacity, count);
        let share = budget.fair();
        let weighted = self.weigher.is_some();
        let shards: Box<[_]> = (0..count)
            .map(|_| Striped::new(Shard::new(self.eviction.policy(share), share, weighted), cores))
            .collect();
        let exclusive_hits = shards.iter().any(|shard| shard.read().exclusive_hits());
        MemoryCache {
            inner: Arc::new(Inner {
                exclusive_hits,
                busy_hits: exclusive_hits || self.expiry.idle_nanos().is_some(),
                shards,
                hasher: self.hasher,
                budget,
                eviction: self.eviction,
                weigher: self.weigher,
                listener: self.listener,
                aging: Aging::new(self.expiry, self.clock),
                tag_epoch: Epoch::default(),
                loads: OnceLock::new(),
            }),
        }
    }
}

/// How many shards a cache of this capacity has by default.
fn shards(capacity: u64, weighted: bool, cores: usize) -> usize {
    let for_cores = cores.saturating_mul(SHARDS).next_power_of_two();
    if weighted {
        // How many entries there will be, nobody knows.
        return usize::try_from(capacity / SMALL).map_or(for_cores, |most| most.clamp(1, for_cores));
    }
    let most = usize::try_from(capacity / SMALL).unwrap_or(MOST).clamp(1, MOST);
    let least = usize::try_from(capacity / LARGE).unwrap_or(MOST).clamp(1, MOST);
    // Rounded down, so that a shard is not too small.
    1 << for_cores.clamp(least, most).ilog2()
}

impl<K, V, S> fmt::Debug for MemoryCacheBuilder<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCacheBuilder")
            .field("capacity", &self.capacity)
            .field("eviction", &self.eviction)
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}
