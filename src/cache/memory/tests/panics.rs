use std::{
    hash::Hasher,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::{super::*, check};

/// A key that panics in its n-th hash or comparison from now on. All hashes collide.
#[derive(Clone)]
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
        for broken in 0..7 {
            let cache = MemoryCache::<Fused<'_>, u32>::builder(3).eviction(Eviction::fifo()).build();
            let key = |key| Fused(key, &fuse);
            let light = |length| fuse.store(length, Relaxed);
            light(usize::MAX);
            (0..3).for_each(|n| cache.insert(key(n), n));

            light(length);
            let operation = AssertUnwindSafe(|| match broken {
                0 => drop(cache.get(&key(0)).is_some()),
                1 => drop(cache.remove(&key(9)).is_some()),
                2 => cache.insert(key(1), 1),
                3 => drop(cache.lease(&key(1)).commit(1)),
                4 => drop(cache.get_many(&[key(0), key(2)])),
                _ => cache.insert(key(broken), broken),
            });
            let burnt = catch_unwind(operation).is_err();
            light(usize::MAX);
            check(&cache);
            if burnt {
                assert!((0..3).all(|n| cache.get(&key(n)) == Some(n)));
            }
            (10..13).for_each(|n| cache.insert(key(n), n));
            assert!(cache.len() == 3 && (10..13).all(|n| cache.remove(&key(n)) == Some(n)));
        }
    }
}

#[test]
fn a_weigher_clone_drop_or_listener_that_panics_leaves_the_cache_sound() {
    struct Bomb(u32);
    impl Clone for Bomb {
        fn clone(&self) -> Self {
            assert_ne!(self.0, 1, "a clone that panics");
            Self(self.0)
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(self.0 != 2 || std::thread::panicking(), "a drop that panics");
        }
    }
    let cache = MemoryCache::<u32, Bomb>::builder(3)
        .eviction(Eviction::fifo())
        .weigher(|key, _| {
            assert_ne!(*key, 100, "a weigher that panics");
            1
        })
        .listener(|key, _, _| assert_ne!(*key, 10, "a listener that panics"))
        .build();
    let panics = |operation: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(operation)).is_err());
    panics(&|| cache.insert(100, Bomb(0)));
    (0..3).for_each(|key| cache.insert(key, Bomb(key)));
    panics(&|| drop(cache.get(&1)));
    panics(&|| assert_eq!(cache.iter().count(), 3));
    cache.insert(10, Bomb(0));
    cache.insert(11, Bomb(0));
    panics(&|| cache.insert(12, Bomb(0)));
    check(&cache);
    assert!(cache.contains_key(&12) && cache.len() == 3);
    panics(&|| cache.insert(10, Bomb(2)));
    panics(&|| cache.clear());
    check(&cache);
    cache.insert(5, Bomb(5));
    assert!(cache.get(&5).is_some_and(|value| value.0 == 5));
}
