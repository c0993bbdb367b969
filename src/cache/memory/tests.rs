use std::{num::NonZero, time::Duration};

use foldhash::quality::FixedState;

use super::{
    super::evict::{Evict, Fifo, Lru, Slot, Victim},
    *,
};
use crate::time::ManualClock;

#[test]
fn a_full_cache_holds_its_capacity_and_no_more() {
    for capacity in [1, 2, 7, 100, 1000, 5000] {
        // Shards that fill unevenly may keep a place or two in reserve at the end: an even hash.
        let cache = MemoryCache::builder(capacity as u64).hasher(FixedState::with_seed(7)).build();
        for key in 0..capacity {
            cache.insert(key, key);
        }
        check(&cache);
        let missing: Vec<_> = (0..capacity).filter(|key| cache.get(key) != Some(*key)).collect();
        assert_eq!(missing, [0; 0], "{:?}", cache.stats());
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
    assert_eq!(cache.inner.shards.iter().map(|shard| shard.read().leases.len()).sum::<usize>(), 0);
}

mod concurrent;
mod index;
mod model;
mod panics;
mod striped;

/// Panics unless all parts of a cache agree.
fn check<K, V, S>(cache: &MemoryCache<K, V, S>) {
    let mut quotas = 0;
    for lock in &cache.inner.shards {
        let shard = lock.write();
        shard.check();
        quotas += shard.quota();
    }
    assert_eq!(quotas + cache.inner.budget.pool(), cache.capacity());
}

#[test]
fn tags_of_entries_that_left_are_forgotten() {
    let cache = MemoryCache::<u32, u32>::builder(8).eviction(Eviction::fifo()).build();
    for key in 0..1000 {
        cache.insert_with(key, key, &Keep::new().tag(key % 3).tag("all").tag(key));
        check(&cache);
    }
    assert_eq!(cache.invalidate_tag(0_u32), 3, "993, 996 and 999");
    check(&cache);
    cache.insert(999, 1);
    assert_eq!(cache.invalidate_tag("all"), 5);
    assert_eq!(cache.get(&999), Some(1), "the new value has no tag");
    check(&cache);
}

#[test]
fn invalidation_voids_leases() {
    let cache = MemoryCache::<u32, u32>::new(100);
    let lease = cache.lease(&1);
    cache.invalidate_if(|_, _| false);
    assert!(!lease.commit(1));

    let (tagged, plain) = (cache.lease(&1), cache.lease(&2));
    cache.invalidate_tag("a");
    assert!(!tagged.commit_with(1, &Keep::new().tag("b")));
    assert!(plain.commit(2), "without a tag it cannot belong to what was invalidated");
    assert!(cache.lease(&1).commit_with(1, &Keep::new().tag("a")));
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), Some(2)));
}

#[test]
fn many_are_found_like_each_alone() {
    for eviction in [Eviction::fifo(), Eviction::lru()] {
        let clock = ManualClock::new();
        let cache = MemoryCache::<u32, u32>::builder(5000).clock(clock.clone()).eviction(eviction).build();
        for key in (0..3000).step_by(2) {
            let keep = if key % 3 == 0 { Keep::new().ttl(Duration::from_secs(1)) } else { Keep::new() };
            cache.insert_with(key, key, &keep);
        }
        clock.advance(Duration::from_secs(2));
        let keys: Vec<u32> = (0..3000).rev().collect();
        let each: Vec<_> = keys.iter().map(|key| cache.get(key)).collect();
        let stats = cache.stats();
        assert_eq!(cache.get_many(&keys), each);
        let again = cache.stats();
        assert_eq!((again.hits, again.misses), (2 * stats.hits, 2 * stats.misses));
        assert!(cache.get_many::<u32>(&[]).is_empty());
    }
}

#[test]
fn a_snapshot_keeps_what_time_is_left() {
    let (clock, other) = (ManualClock::new(), ManualClock::new());
    let cache = MemoryCache::<u32, u32>::builder(100).clock(clock.clone()).build();
    cache.insert(1, 1);
    cache.insert_with(2, 2, &Keep::new().ttl(Duration::from_secs(10)).tag("t"));
    cache.insert_with(3, 3, &Keep::new().ttl(Duration::from_secs(2)));
    clock.advance(Duration::from_secs(1));
    let snapshot = cache.snapshot();
    assert_eq!(snapshot.len(), 3);

    // The other process starts 4 seconds later.
    other.advance(Duration::from_secs(5));
    let warm = MemoryCache::<u32, u32>::builder(100).clock(other.clone()).build();
    warm.insert(1, 100);
    warm.restore(snapshot);
    assert_eq!((warm.get(&1), warm.get(&2), warm.get(&3)), (Some(100), Some(2), None));
    other.advance(Duration::from_secs(5));
    assert_eq!(warm.get(&2), None);
    assert_eq!(warm.invalidate_tag("t"), 1);
}

#[test]
fn an_entry_is_changed_in_one_step() {
    let cache = MemoryCache::<&str, u32>::new(10);
    assert_eq!(cache.entry("a").or_insert_with(|| 1), 1);
    assert_eq!(cache.entry("a").or_insert_with(|| 2), 1);
    let mut calls = 0;
    let after = cache.entry("a").update(|value| {
        calls += 1;
        if calls == 1 {
            cache.insert("a", 10);
        }
        Update::Put(value.unwrap_or(0) + 1)
    });
    assert_eq!((after, calls), (Some(11), 2));
    assert_eq!(cache.entry("a").update(|_| Update::Leave), Some(11));
    assert_eq!(cache.entry("a").update(|_| Update::Remove), None);
    assert!(cache.is_empty());
}

#[test]
fn shards_share_out_what_others_need() {
    let cache = MemoryCache::<u64, u64>::builder(4096)
        .eviction(Eviction::fifo())
        .shards(NonZero::new(4).unwrap())
        .hasher(FixedState::with_seed(7))
        .build();
    // All of it goes to one shard, and then the traffic is even.
    let of_one = (0_u64..).filter(|key| cache.place(cache.hash(key)) == 0);
    of_one.take(4096).for_each(|key| cache.insert(key, key));
    assert_eq!(cache.len(), 4096);
    let even = 1_000_000_u64..1_200_000;
    for key in even {
        cache.insert(key, key);
        if key % 10_000 == 0 {
            check(&cache);
        }
    }
    let quotas: Vec<_> = cache.inner.shards.iter().map(|lock| lock.read().quota()).collect();
    // A shard is content with seven eighths of an equal share, 1024.
    assert!(quotas.iter().all(|quota| *quota > 880), "{quotas:?}");
    check(&cache);
}

#[test]
fn weights_that_overflow_are_not_added_up() {
    for shards in [1, 4] {
        let cache = MemoryCache::<u32, u64>::builder(u64::MAX)
            .weigher(|_, weight| *weight)
            .shards(NonZero::new(shards).unwrap())
            .build();
        for (key, weight) in [(0, 1 << 63), (1, 1 << 63), (2, u64::MAX), (3, u64::MAX - 1), (4, 1), (5, 1)] {
            cache.insert(key, weight);
            check(&cache);
        }
        assert_eq!(cache.get(&5), Some(1));
    }
}

/// Not even for a newcomer that is too large for the share of its shard.
#[test]
fn without_eviction_nothing_leaves_for_a_newcomer() {
    let cache = MemoryCache::<u32, u64>::builder(1000)
        .weigher(|_, weight| *weight)
        .shards(NonZero::new(8).unwrap())
        .eviction(Eviction::none())
        .build();
    (0..900).for_each(|key| cache.insert(key, 1));
    let kept = cache.len();
    cache.insert(5000, 900);
    assert_eq!((cache.len(), cache.get(&5000), cache.stats().evicted), (kept, None, 0));
    check(&cache);
    // But room that is free is found, wherever it is.
    cache.invalidate_if(|key, _| *key >= 100);
    cache.insert(5000, 850);
    assert_eq!((cache.get(&5000), cache.len()), (Some(850), 101));
    check(&cache);
}

/// FIFO, and what it was told.
#[derive(Debug)]
struct Told(Fifo, Arc<AtomicU64>);

impl Evict for Told {
    fn touch(&self, _: Slot, _: u64) {}
    fn insert(&mut self, slot: Slot, hash: u64, weight: u64) {
        self.0.insert(slot, hash, weight);
    }
    fn reweigh(&mut self, _: Slot, _: u64, _: u64) {}
    fn remove(&mut self, slot: Slot, hash: u64) {
        self.0.remove(slot, hash);
    }
    fn evict(&mut self, newcomer: u64, weight: u64) -> Victim {
        self.0.evict(newcomer, weight)
    }
    fn resize(&mut self, capacity: u64) {
        self.1.store(capacity, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_policy_knows_its_capacity_after_clear() {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let cache = MemoryCache::<u32, u64>::builder(1000)
        .weigher(|_, weight| *weight)
        .shards(NonZero::new(2).unwrap())
        .eviction(Eviction::custom(move |capacity| {
            let capacity = Arc::new(AtomicU64::new(capacity));
            tell.lock().unwrap().push(Arc::clone(&capacity));
            Box::new(Told(Fifo::new(), capacity))
        }))
        .build();
    for round in 0..3 {
        cache.insert(1, 900);
        let latest: Vec<_> =
            told.lock().unwrap().iter().rev().take(2).map(|told| told.load(Acquire)).collect();
        assert!(latest.iter().any(|told| *told >= 800), "{latest:?} in round {round}");
        cache.clear();
    }
}

#[test]
fn hits_are_exclusive_where_one_shard_wants_it() {
    let made = AtomicU64::new(0);
    let eviction = Eviction::custom(move |_| match made.fetch_add(1, AcqRel) {
        0 => Box::new(Fifo::new()),
        _ => Box::new(Lru::new()),
    });
    let cache =
        MemoryCache::<u32, u32>::builder(100).shards(NonZero::new(2).unwrap()).eviction(eviction).build();
    assert!(cache.inner.exclusive_hits);
}
