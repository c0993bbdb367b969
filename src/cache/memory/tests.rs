use std::{num::NonZero, time::Duration};

use super::*;
use crate::time::ManualClock;

#[test]
fn a_full_cache_holds_its_capacity_and_no_more() {
    for capacity in [1, 2, 7, 100, 1000, 5000] {
        let cache = MemoryCache::new(capacity);
        for key in 0..capacity {
            cache.insert(key, key);
        }
        assert!((0..capacity).all(|key| cache.get(&key) == Some(key)), "{capacity}");
        for key in capacity..4 * capacity {
            cache.insert(key, key);
            assert_eq!(cache.get(&key), Some(key));
            assert!(cache.len() <= capacity);
        }
        cache.clear();
        assert!(cache.is_empty());
        (0..capacity).for_each(|key| cache.insert(key, key));
        assert_eq!(cache.len(), capacity);
    }
}

#[test]
fn a_cache_without_capacity_keeps_nothing() {
    let cache = MemoryCache::new(0);
    cache.insert(1, 1);
    assert_eq!((cache.get(&1), cache.len()), (None, 0));
}

#[test]
fn what_is_larger_than_a_shard_fits_all_the_same() {
    let cache = MemoryCache::<u32, u64>::builder(1000)
        .weigher(|_, weight| *weight)
        .shards(NonZero::new(8).unwrap())
        .build();
    (0..1000).for_each(|key| cache.insert(key, 1));
    assert!(cache.weight() > 950);
    cache.insert(5000, 900);
    assert_eq!(cache.get(&5000), Some(900));
    assert!(cache.weight() <= 1000 && cache.len() > 50, "{cache:?}");
    cache.insert(5001, 1001);
    assert_eq!((cache.get(&5001), cache.get(&5000)), (None, Some(900)));
    cache.insert(5000, 1000);
    assert_eq!((cache.get(&5000), cache.len()), (Some(1000), 1));
    cache.insert(5000, 1001);
    assert_eq!((cache.get(&5000), cache.len()), (None, 0));
}

#[test]
fn entries_expire() {
    let clock = ManualClock::new();
    let cache = MemoryCache::<u32, u32>::builder(100).clock(clock.clone()).build();
    cache.insert_with(1, 1, &Keep::new().ttl(Duration::from_secs(1)));
    cache.insert_with(2, 2, &Keep::new().ttl(Duration::MAX));
    cache.insert_with(3, 3, &Keep::new().ttl(Duration::ZERO));
    clock.advance(Duration::from_millis(999));
    assert_eq!((cache.get(&1), cache.get(&2), cache.get(&3)), (Some(1), Some(2), None));
    clock.advance(Duration::from_millis(1));
    assert_eq!((cache.get(&1), cache.remove(&1), cache.get(&2)), (None, None, Some(2)));
}

#[test]
fn a_lease_stores_only_if_nothing_happened_to_its_key() {
    let cache = MemoryCache::new(100);
    assert!(cache.lease("a").commit(1));
    assert_eq!(cache.get("a"), Some(1));
    let other: [fn(&MemoryCache<String, u32>); 3] = [
        |cache| {
            let _ = cache.remove("a");
        },
        |cache| cache.insert("a".into(), 2),
        |cache| cache.clear(),
    ];
    for other in other {
        let lease = cache.lease("a");
        other(&cache);
        let before = cache.get("a");
        assert!(!lease.commit(3));
        assert_eq!(cache.get("a"), before);
    }
    drop(cache.lease("a"));
    assert_eq!(cache.inner.shards.iter().map(|shard| shard.lock.read().leases.len()).sum::<usize>(), 0);
}
