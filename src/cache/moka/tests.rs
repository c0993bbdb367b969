use std::{
    collections::HashMap,
    hash::Hasher,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use proptest::prelude::*;

use super::*;

fn capacity(capacity: usize) -> NonZeroUsize {
    NonZeroUsize::new(capacity).unwrap()
}

proptest! {
    #[test]
    fn below_its_capacity_it_is_a_map(ops in prop::collection::vec((0..4_u8, 0..16_u8, any::<u32>()), 0..200)) {
        let cache = MokaCache::new(capacity(1000));
        let mut model = HashMap::new();
        for (op, key, value) in ops {
            match op {
                0 => prop_assert_eq!(cache.get(&key), model.get(&key).copied()),
                1 => prop_assert_eq!(cache.remove(&key), model.remove(&key)),
                _ => {
                    cache.insert(key, value);
                    model.insert(key, value);
                }
            }
        }
        for key in 0..16 {
            prop_assert_eq!(cache.get(&key), model.get(&key).copied());
        }
        cache.moka.run_pending_tasks();
        prop_assert_eq!(cache.len(), model.len());
    }
}

#[test]
fn once_tidied_up_it_is_within_its_capacity() {
    let cache = MokaCache::new(capacity(50));
    (0..1000).for_each(|key| cache.insert(key, key));
    cache.moka.run_pending_tasks();
    assert!(cache.len() <= 50 && (0..1000).filter_map(|key| cache.get(&key)).count() <= 50, "{cache:?}");
}

#[test]
fn cleared_values_are_neither_found_nor_removed() {
    let cache = MokaCache::new(capacity(1000));
    (0..100).for_each(|key| cache.insert(key, key));
    // The clock ticks, on every platform.
    thread::sleep(Duration::from_millis(1));
    cache.clear();
    assert!((0..100).all(|key| cache.remove(&key).is_none() && cache.get(&key).is_none()));
    cache.insert(1, 2);
    assert_eq!((cache.get(&1), cache.remove(&1), cache.get(&1)), (Some(2), Some(2), None));
}

#[test]
fn expired_values_are_neither_found_nor_removed() {
    let builder = MokaCache::builder(capacity(10));
    for expiring in [builder.ttl(Duration::ZERO), builder.tti(Duration::ZERO)] {
        let cache = expiring.build();
        cache.insert(1, 1);
        assert_eq!((cache.get(&1), cache.remove(&1)), (None, None));
    }
    let cache = builder.ttl(Duration::MAX).tti(Duration::MAX).build();
    cache.insert(1, 1);
    assert_eq!((cache.get(&1), cache.remove(&1)), (Some(1), Some(1)));
}

/// Counts its drops.
struct Probe(Arc<AtomicUsize>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn each_value_is_dropped_once() {
    let drops = Arc::new(AtomicUsize::new(0));
    let cache = MokaCache::new(capacity(10));
    for n in 0..1000 {
        cache.insert(n % 30, Arc::new(Probe(Arc::clone(&drops))));
        if n % 7 == 0 {
            drop(cache.remove(&(n % 15)));
        }
    }
    cache.clear();
    cache.insert(1, Arc::new(Probe(Arc::clone(&drops))));
    drop(cache);
    // Other tests can hold up moka's garbage collection; a cache that is dropped drives it on.
    for _ in 0..100_000 {
        if drops.load(Relaxed) >= 1001 {
            break;
        }
        drop(MokaCache::<u8, u8>::new(capacity(1)));
        thread::yield_now();
    }
    assert_eq!((drops.load(Relaxed), Arc::strong_count(&drops)), (1001, 1));
}

/// A key that cannot be hashed if it is odd.
#[derive(PartialEq, Eq)]
struct Even(u32);

impl Hash for Even {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert_eq!(self.0 % 2, 0, "not even");
        self.0.hash(state);
    }
}

#[test]
fn a_hash_that_panics_costs_no_other_entry() {
    let cache = AssertUnwindSafe(MokaCache::new(capacity(10)));
    cache.insert(Even(2), "two");
    assert!(catch_unwind(|| cache.insert(Even(3), "three")).is_err());
    assert!(catch_unwind(|| cache.remove(&Even(3))).is_err());
    assert_eq!((cache.get(&Even(2)), cache.remove(&Even(2))), (Some("two"), Some("two")));
}
