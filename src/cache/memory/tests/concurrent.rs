use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use super::{
    super::{
        Cause::{Evicted, Removed, Replaced, TooLarge},
        *,
    },
    check,
};
use crate::rng::Rng;

/// Counts how many of it there are.
struct Counted(&'static AtomicUsize);

impl Counted {
    fn new(count: &'static AtomicUsize) -> Arc<Self> {
        count.fetch_add(1, Relaxed);
        Arc::new(Self(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[test]
fn no_moment_sees_more_than_the_capacity() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    const THREADS: usize = 3;
    for capacity in [1, 10, 3000_usize] {
        let cache = MemoryCache::<u64, Arc<Counted>>::builder(capacity as u64)
            .shards(std::num::NonZero::new(4).unwrap())
            .build();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..THREADS)
                .map(|seed| {
                    let cache = &cache;
                    scope.spawn(move || {
                        let mut rng = Rng::seeded(seed as u64);
                        for _ in 0..10_000 {
                            let key = rng.below(capacity * 2) as u64;
                            match rng.below(10) {
                                0 => drop(cache.remove(&key)),
                                1..4 => drop(cache.get(&key)),
                                _ => cache.insert(key, Counted::new(&ALIVE)),
                            }
                        }
                    })
                })
                .collect();
            let sampler = scope.spawn(|| {
                while !done.load(Relaxed) {
                    // A value that was just made or evicted is in nobody's cache, one for each writer.
                    let alive = ALIVE.load(Relaxed);
                    assert!(alive <= capacity + 2 * THREADS, "{alive} of {capacity}");
                    assert!(cache.len() <= capacity && cache.weight() <= capacity as u64);
                    thread::yield_now();
                }
            });
            for writer in writers {
                writer.join().unwrap();
            }
            done.store(true, Relaxed);
            sampler.join().unwrap();
        });
        check(&cache);
        drop(cache);
        assert_eq!(ALIVE.load(Relaxed), 0);
    }
}

#[test]
fn heavy_and_light_entries_of_many_threads_stay_within_the_capacity() {
    let cache = MemoryCache::<u64, u64>::builder(10_000)
        .weigher(|_, weight| *weight)
        .shards(std::num::NonZero::new(8).unwrap())
        .build();
    thread::scope(|scope| {
        for seed in 0..3 {
            let cache = &cache;
            scope.spawn(move || {
                let mut rng = Rng::seeded(seed);
                for _ in 0..5000 {
                    let weight = if rng.below(50) == 0 { rng.below(11_000) } else { rng.below(30) };
                    cache.insert(rng.below(3000) as u64, weight as u64);
                    assert!(cache.weight() <= 10_000);
                }
            });
        }
    });
    check(&cache);
}

#[test]
fn counters_of_many_threads_lose_nothing() {
    let cache = MemoryCache::<u32, u32>::new(100);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    cache.entry(1).update(|count| Update::Put(count.unwrap_or(0) + 1));
                }
            });
        }
    });
    assert_eq!(cache.get(&1), Some(3000));
}

#[test]
fn a_listener_may_use_the_cache() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let own: Arc<Mutex<Option<MemoryCache<u32, u32>>>> = Arc::default();
    let (tell, handle) = (Arc::clone(&told), Arc::clone(&own));
    let cache = MemoryCache::<u32, u32>::builder(2)
        .eviction(Eviction::fifo())
        .weigher(|key, _| u64::from(*key > 100) * 2 + 1)
        .listener(move |key, value, cause| {
            tell.lock().unwrap().push((*key, *value, cause));
            let Some(cache) = handle.lock().unwrap().clone() else { return };
            assert!(cache.len() <= 2);
            cache.get(key);
            if cause == Evicted && *key == 1 {
                cache.insert(50, 50);
            }
        })
        .build();
    *own.lock().unwrap() = Some(cache.clone());
    cache.insert(1, 1);
    cache.insert(2, 2);
    cache.insert(2, 3);
    cache.insert(3, 3);
    cache.insert(101, 1);
    cache.remove(&3);
    cache.clear();
    own.lock().unwrap().take();
    assert_eq!(
        *told.lock().unwrap(),
        [
            (2, 2, Replaced),
            (1, 1, Evicted),
            (2, 3, Evicted),
            (101, 1, TooLarge),
            (3, 3, Removed),
            (50, 50, Removed)
        ]
    );
}
