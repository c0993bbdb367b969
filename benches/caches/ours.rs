//! The caches of this crate.

use buttress::cache::{MemoryCache, evict::Eviction};

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
