//! The caches of this crate.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::cache::{CacheLayer, MemoryCache, SetCache, evict::Eviction};
use tower::{Layer, Service, service_fn};

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

/// How many keys are asked for in one call.
const BATCH: usize = 64;

struct Batches(MemoryCache<u64, u64>);

/// Whose hits are asked for in batches.
pub(crate) fn batches(capacity: usize) -> impl Table {
    Batches(MemoryCache::new(capacity))
}

impl Table for Batches {
    fn get(&self, key: u64) -> Option<u64> {
        self.0.get(&key)
    }

    fn insert(&self, key: u64, value: u64) {
        self.0.insert(key, value);
    }

    fn get_all(&self, keys: &[u32]) {
        let mut batch = [0; BATCH];
        for keys in keys.chunks(BATCH) {
            for (wide, key) in batch.iter_mut().zip(keys) {
                *wide = u64::from(*key);
            }
            black_box(self.0.get_many(&batch[..keys.len()]));
        }
    }
}

struct Layered<S> {
    cache: MemoryCache<u64, u64>,
    service: S,
}

/// In front of a service, which hits do not reach.
pub(crate) fn layered(capacity: usize) -> impl Table {
    let cache = MemoryCache::new(capacity);
    let answer: fn(u64) -> Ready<Result<u64, Infallible>> = |key| ready(Ok(key));
    let service = CacheLayer::new(cache.clone(), |key: &u64| Some(*key)).layer(service_fn(answer));
    Layered { cache, service }
}

impl<S> Table for Layered<S>
where
    S: Service<u64, Response = u64> + Clone + Send + Sync + 'static,
{
    fn get(&self, key: u64) -> Option<u64> {
        self.cache.get(&key)
    }

    fn insert(&self, key: u64, value: u64) {
        self.cache.insert(key, value);
    }

    fn get_all(&self, keys: &[u32]) {
        let mut service = self.service.clone();
        let mut cx = Context::from_waker(Waker::noop());
        for key in keys {
            let _ = black_box(service.poll_ready(&mut cx));
            let answer = pin!(service.call(u64::from(*key))).poll(&mut cx);
            assert!(matches!(black_box(answer), Poll::Ready(Ok(_))), "a hit has nothing to wait for");
        }
    }
}
