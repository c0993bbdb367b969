use std::{
    hash::Hasher,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use super::*;

fn cache<K, V>(capacity: usize) -> LruCache<K, V> {
    LruCache::new(NonZeroUsize::new(capacity).unwrap())
}

#[test]
fn a_huge_capacity_allocates_nothing_yet() {
    let cache = cache(usize::MAX);
    cache.insert(1, 1);
    cache.clear();
    assert!(cache.is_empty() && cache.capacity() == NonZeroUsize::MAX);
}

/// Counts its drops. The drop uses the cache, and panics if told to.
#[derive(Clone)]
struct Probe {
    drops: Arc<AtomicUsize>,
    cache: Weak<LruCache<u32, Arc<Probe>>>,
    panics: bool,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Relaxed);
        if let Some(cache) = self.cache.upgrade() {
            assert!(cache.len() <= 2);
        }
        assert!(!self.panics, "a drop that panics");
    }
}

#[test]
fn each_value_is_dropped_once_and_outside_the_lock() {
    let drops = Arc::new(AtomicUsize::new(0));
    let cache = Arc::new(cache(2));
    let probe = || Arc::new(Probe { drops: drops.clone(), cache: Arc::downgrade(&cache), panics: false });
    let dropped = || drops.load(Relaxed);

    (0..2).for_each(|key| cache.insert(key, probe()));
    assert_eq!(dropped(), 0);
    cache.insert(1, probe());
    assert_eq!(dropped(), 1, "replaced");
    cache.insert(2, probe());
    assert_eq!(dropped(), 2, "evicted");
    drop(cache.remove(&2));
    assert_eq!(dropped(), 3, "removed");
    let held = cache.get(&1);
    cache.insert(4, probe());
    cache.clear();
    assert_eq!(dropped(), 4, "cleared, but for the one that is held");
    drop(held);
    cache.insert(5, probe());
    drop(cache);
    assert_eq!(dropped(), 6);
}

#[test]
fn a_drop_that_panics_costs_no_other_entry() {
    let drops = Arc::new(AtomicUsize::new(0));
    let cache = cache(2);
    let probe = |panics| Arc::new(Probe { drops: drops.clone(), cache: Weak::new(), panics });

    cache.insert(1, probe(true));
    cache.insert(2, probe(false));
    assert!(catch_unwind(|| cache.insert(3, probe(false))).is_err());
    assert!(cache.get(&1).is_none() && cache.get(&2).is_some() && cache.get(&3).is_some());
    cache.insert(4, probe(true));
    cache.insert(5, probe(false));
    assert!(catch_unwind(|| cache.clear()).is_err());
    assert_eq!((cache.len(), drops.load(Relaxed)), (0, 5));
}

/// A key that panics in its n-th hash or comparison from now on. All hashes collide.
struct Fused<'a>(u32, &'a AtomicUsize);

impl Fused<'_> {
    fn burn(&self) {
        assert_ne!(self.1.fetch_sub(1, Relaxed), 1, "the fuse is burnt");
    }
}

impl Hash for Fused<'_> {
    fn hash<H: Hasher>(&self, _: &mut H) {
        self.burn();
    }
}

impl PartialEq for Fused<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.burn();
        self.0 == other.0
    }
}

impl Eq for Fused<'_> {}

#[test]
fn a_hash_or_comparison_that_panics_costs_no_other_entry() {
    let fuse = AtomicUsize::new(0);
    for length in 1..8 {
        for broken in 0..6 {
            let cache = cache(3);
            let key = |key| Fused(key, &fuse);
            let light = |length| fuse.store(length, Relaxed);
            light(usize::MAX);
            (0..3).for_each(|n| cache.insert(key(n), n));

            light(length);
            let operation = AssertUnwindSafe(|| match broken {
                0 => drop(cache.get(&key(0))),
                1 => drop(cache.remove(&key(9))),
                2 => cache.insert(key(1), 1),
                _ => cache.insert(key(broken), broken),
            });
            let burnt = catch_unwind(operation).is_err();
            light(usize::MAX);

            if burnt {
                assert!((0..3).all(|n| cache.get(&key(n)) == Some(n)));
            }
            (10..13).for_each(|n| cache.insert(key(n), n));
            assert!(cache.len() == 3 && (10..13).all(|n| cache.remove(&key(n)) == Some(n)));
        }
    }
}
