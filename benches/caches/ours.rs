//! The caches of this crate.

use std::time::Duration;

use buttress::cache::{MemoryCache, SetCache, evict::Eviction};

use super::Table;

/// With all its defaults.
pub(crate) fn default(capacity: usize) -> impl Table {
    MemoryCache::<u64, u64>::new(capacity)
}

pub(crate) fn memory(capacity: usize, eviction: Eviction) -> impl Table {
    MemoryCache::<u64, u64>::builder(capacity as u64).eviction(eviction).build()
}

impl Table for MemoryCache<u64, u64> {
    fn get(&self, key: u64) -> Option<u64> {
        MemoryCache::get(self, &key)
    }

    fn insert(&self, key: u64, value: u64) {
        MemoryCache::insert(self, key, value);
    }
}

/// Entries that expire, but not while anybody is looking.
pub(crate) fn expiring(capacity: usize) -> impl Table {
    MemoryCache::<u64, u64>::builder(capacity as u64).ttl(Duration::from_secs(3600)).build()
}

pub(crate) fn set(capacity: usize) -> impl Table {
    SetCache::<u64, u64>::new(capacity)
}

impl Table for SetCache<u64, u64> {
    fn get(&self, key: u64) -> Option<u64> {
        SetCache::get(self, &key)
    }

    fn insert(&self, key: u64, value: u64) {
        SetCache::insert(self, key, value);
    }
}
