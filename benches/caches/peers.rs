//! The caches that a Rust service would pick otherwise, each built as its users build it.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use foyer_memory::{CacheBuilder, EvictionConfig};
use moka::policy::EvictionPolicy;
use sieve_cache::ShardedSieveCache;
use tinyufo::TinyUfo;

use super::Table;

/// The `lru` crate's cache is for one thread; its users put it behind a lock.
pub(crate) fn lru(capacity: usize) -> impl Table {
    Mutex::new(lru::LruCache::new(NonZeroUsize::new(capacity).expect("not 0")))
}

impl Table for Mutex<lru::LruCache<u64, u64>> {
    fn get(&self, key: u64) -> Option<u64> {
        self.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }

    fn insert(&self, key: u64, value: u64) {
        self.lock().unwrap_or_else(PoisonError::into_inner).put(key, value);
    }
}

type Moka = moka::sync::Cache<u64, u64>;

pub(crate) fn moka(capacity: usize, policy: EvictionPolicy) -> impl Table {
    Moka::builder().max_capacity(capacity as u64).eviction_policy(policy).build()
}

/// Entries that expire, but not while anybody is looking.
pub(crate) fn moka_expiring(capacity: usize) -> impl Table {
    Moka::builder().max_capacity(capacity as u64).time_to_live(Duration::from_secs(3600)).build()
}

impl Table for Moka {
    fn get(&self, key: u64) -> Option<u64> {
        moka::sync::Cache::get(self, &key)
    }

    fn insert(&self, key: u64, value: u64) {
        moka::sync::Cache::insert(self, key, value);
    }
}

type Quick = quick_cache::sync::Cache<u64, u64>;

pub(crate) fn quick_cache(capacity: usize) -> impl Table {
    Quick::new(capacity)
}

impl Table for Quick {
    fn get(&self, key: u64) -> Option<u64> {
        quick_cache::sync::Cache::get(self, &key)
    }

    fn insert(&self, key: u64, value: u64) {
        quick_cache::sync::Cache::insert(self, key, value);
    }
}

type Foyer = foyer_memory::Cache<u64, u64>;

pub(crate) fn foyer(capacity: usize, policy: impl Into<EvictionConfig>) -> impl Table {
    let cache: Foyer = CacheBuilder::new(capacity).with_eviction_config(policy).build();
    cache
}

impl Table for Foyer {
    fn get(&self, key: u64) -> Option<u64> {
        foyer_memory::Cache::get(self, &key).map(|entry| *entry.value())
    }

    fn insert(&self, key: u64, value: u64) {
        foyer_memory::Cache::insert(self, key, value);
    }
}

pub(crate) fn tinyufo(capacity: usize) -> impl Table {
    TinyUfo::<u64, u64>::new(capacity, capacity)
}

impl Table for TinyUfo<u64, u64> {
    fn get(&self, key: u64) -> Option<u64> {
        TinyUfo::get(self, &key)
    }

    fn insert(&self, key: u64, value: u64) {
        self.put(key, value, 1);
    }
}

pub(crate) fn sieve_cache(capacity: usize) -> impl Table {
    ShardedSieveCache::<u64, u64>::new(capacity).expect("not 0")
}

impl Table for ShardedSieveCache<u64, u64> {
    fn get(&self, key: u64) -> Option<u64> {
        ShardedSieveCache::get(self, &key)
    }

    fn insert(&self, key: u64, value: u64) {
        ShardedSieveCache::insert(self, key, value);
    }
}
