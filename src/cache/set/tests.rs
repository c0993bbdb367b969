use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, DefaultHasher, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Weak,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::rng::Rng;

/// The same hashes in every run.
type Fixed = BuildHasherDefault<DefaultHasher>;

/// A hash function that does nothing.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only integers are hashed")
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// A hash function that knows one hash.
#[derive(Default)]
struct Constant;

impl Hasher for Constant {
    fn write(&mut self, _: &[u8]) {}
    fn finish(&self) -> u64 {
        7
    }
}

fn cache<K, V, H: Hasher + Default>(capacity: usize) -> SetCache<K, V, BuildHasherDefault<H>> {
    SetCache::builder(capacity).hasher(BuildHasherDefault::default()).build().unwrap()
}

fn fixed<K, V>(capacity: usize) -> SetCache<K, V, Fixed> {
    cache(capacity)
}

#[test]
fn a_capacity_of_zero_keeps_nothing() {
    let cache = SetCache::new(0);
    cache.insert(1, "one");
    assert_eq!((cache.get(&1), cache.remove(&1), cache.contains(&1)), (None, None, false));
    assert_eq!((cache.len(), cache.iter().count()), (0, 0));
    cache.clear();
    cache.check();
}

#[test]
fn a_small_cache_evicts_only_when_it_is_full() {
    for capacity in 1..=24 {
        let cache = SetCache::new(capacity);
        for key in 0..200 {
            cache.insert(key, key);
            assert_eq!(cache.len(), (key + 1).min(capacity));
            cache.check();
        }
    }
}

#[test]
fn a_first_fill_keeps_nearly_all() {
    for (capacity, least) in [(25, 24), (100, 99), (1000, 980), (20_000, 19_500)] {
        let cache = fixed(capacity);
        (0..capacity).for_each(|key| cache.insert(key, key));
        assert!(cache.len() >= least, "{} of {capacity}", cache.len());
        cache.check();
        // Sets that got more than their share give it back to those that need it.
        (0..capacity * 20).for_each(|key| cache.insert(key, key));
        assert_eq!(cache.len(), capacity);
        cache.check();
    }
}

#[test]
fn a_capacity_beyond_all_memory_is_an_error() {
    for capacity in [usize::MAX, usize::MAX - 1, usize::MAX / 2, usize::MAX / 8, isize::MAX as usize / 4] {
        let error = SetCache::<u8, u8>::builder(capacity).build().unwrap_err();
        assert!(error.to_string().starts_with(&format!("no memory for a cache of {capacity} entries")));
        assert!(std::error::Error::source(&error).is_some());
    }
    assert!(catch_unwind(|| SetCache::<u8, u8>::new(usize::MAX)).is_err());
}

#[test]
fn a_weak_hasher_is_made_up_for() {
    for stride in (0..50).map(|bits| 1 << bits) {
        let cache = cache::<_, _, Identity>(10_000);
        (0..10_000_u64).for_each(|key| cache.insert(key * stride, ()));
        assert!(cache.len() > 9_500, "{} with a stride of {stride}", cache.len());
    }
}

#[test]
fn keys_of_the_same_hash_are_told_apart_and_bounded() {
    let cache = cache::<_, _, Constant>(1000);
    for key in 0..1000_u64 {
        cache.insert(key, key);
        assert_eq!(cache.get(&key), Some(key));
        cache.check();
    }
    assert_eq!(cache.len(), 24);
    assert!(cache.iter().all(|(key, value)| key == value));
}

#[test]
fn borrowed_keys_are_looked_up() {
    let cache = SetCache::new(10);
    cache.insert("a".to_owned(), 1);
    assert_eq!(
        (cache.get("a"), cache.contains("b"), cache.remove("a"), cache.get("a")),
        (Some(1), false, Some(1), None)
    );
}

#[test]
fn clones_share_their_entries() {
    let cache = SetCache::new(10);
    cache.clone().insert(1, 2);
    assert_eq!(cache.get(&1), Some(2));
    assert_eq!(format!("{cache:?}"), "SetCache { len: 1, capacity: 10, .. }");
    let cache: Arc<dyn Cache<i32, i32>> = Arc::new(cache);
    assert_eq!((cache.remove(&1), cache.is_empty()), (Some(2), true));
}

#[test]
fn handles_cross_threads() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<SetCache<String, Vec<u8>>>();
    // The locks make up for values that are not `Sync`.
    check::<SetCache<String, std::cell::Cell<u8>>>();
}

#[test]
#[cfg(target_pointer_width = "64")]
fn a_set_is_a_cache_line() {
    assert_eq!(table::SET_SIZE, 64);
}

#[test]
fn what_was_used_survives_a_scan() {
    let cache = fixed(1000);
    let popular = 0..400;
    for round in 0..5 {
        for key in popular.clone() {
            if cache.get(&key).is_none() {
                cache.insert(key, round);
            }
        }
    }
    (1000..101_000).for_each(|key| cache.insert(key, 0));
    let left = popular.filter(|key| cache.contains(key)).count();
    assert_eq!(left, 400, "are left");
}

#[test]
fn a_full_cache_allocates_nothing_more() {
    let cache = fixed(5000);
    (0..50_000).for_each(|key| cache.insert(key, key));
    let before = cache.table.allocations();
    (50_000..100_000).for_each(|key| cache.insert(key, key));
    assert_eq!(cache.table.allocations(), before);
    assert_eq!(cache.len(), 5000);
}

#[test]
fn clear_gives_memory_back() {
    let cache = fixed(5000);
    (0..50_000).for_each(|key| cache.insert(key, key));
    cache.clear();
    assert!(cache.is_empty() && cache.table.allocations().iter().all(|&(_, capacity)| capacity == 0));
    (0..100).for_each(|key| cache.insert(key, key));
    assert_eq!(cache.len(), 100);
    cache.check();
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u8, u32),
    Get(u8),
    Contains(u8),
    Remove(u8),
    Clear,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        60 => (any::<u8>(), any::<u32>()).prop_map(|(key, value)| Op::Insert(key, value)),
        40 => any::<u8>().prop_map(Op::Get),
        10 => any::<u8>().prop_map(Op::Contains),
        30 => any::<u8>().prop_map(Op::Remove),
        1 => Just(Op::Clear),
    ];
    vec(op, 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A value may be gone, but is never an old one or another key's.
    #[test]
    fn agrees_with_a_map(capacity in 0_usize..200, ops in ops()) {
        let cache = fixed(capacity);
        let mut map = HashMap::new();
        for op in ops {
            match op {
                Op::Insert(key, value) => {
                    let (len, known) = (cache.len(), cache.contains(&key));
                    cache.insert(key, value);
                    map.insert(key, value);
                    prop_assert_eq!(cache.contains(&key), capacity > 0);
                    prop_assert!((len..=len + usize::from(!known)).contains(&cache.len()));
                }
                Op::Get(key) => {
                    let value = cache.get(&key);
                    prop_assert!(value.is_none() || value == map.get(&key).copied());
                }
                Op::Contains(key) => prop_assert!(!cache.contains(&key) || map.contains_key(&key)),
                Op::Remove(key) => {
                    let (held, latest) = (cache.contains(&key), map.remove(&key));
                    prop_assert_eq!(cache.remove(&key), latest.filter(|_| held));
                    prop_assert!(!cache.contains(&key));
                }
                Op::Clear => {
                    cache.clear();
                    map.clear();
                    prop_assert!(cache.is_empty());
                }
            }
            cache.check();
            prop_assert!(cache.len() <= capacity);
            for (key, value) in cache.iter() {
                prop_assert_eq!(map.get(&key), Some(&value));
            }
        }
    }
}

#[test]
fn the_capacity_holds_at_any_moment_and_values_belong_to_their_keys() {
    /// Counts how many of them there are.
    struct Counted(u64, Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_sub(1, SeqCst);
        }
    }

    const WRITERS: usize = 3;
    for capacity in [1, 20, 100, 3000] {
        let (cache, alive, over) =
            (SetCache::new(capacity), Arc::new(AtomicUsize::new(0)), AtomicBool::new(false));
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS as u64)
                .map(|seed| {
                    let (cache, alive) = (&cache, &alive);
                    scope.spawn(move || {
                        let mut rng = Rng::seeded(seed);
                        for _ in 0..20_000 {
                            let key = rng.below(capacity * 2) as u64;
                            match rng.below(1000) {
                                0 => cache.clear(),
                                1..200 => {
                                    cache.remove(&key);
                                }
                                200..600 => {
                                    let value: Option<Arc<Counted>> = cache.get(&key);
                                    assert!(value.is_none_or(|value| value.0 == key));
                                }
                                _ => {
                                    alive.fetch_add(1, SeqCst);
                                    cache.insert(key, Arc::new(Counted(key, alive.clone())));
                                }
                            }
                        }
                    })
                })
                .collect();
            while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
                over.fetch_or(cache.len() > capacity, Relaxed);
                thread::yield_now();
            }
        });
        assert!(!over.into_inner());
        cache.check();
        assert_eq!(cache.len(), alive.load(SeqCst));
        drop(cache);
        assert_eq!(alive.load(SeqCst), 0);
    }
}

/// Its `eq`, `clone`, `hash` and `drop` panic when they are told to.
#[derive(Debug)]
struct Touchy<'a> {
    key: u64,
    fuse: &'a Fuse,
}

#[derive(Debug, Default)]
struct Fuse {
    eq: AtomicBool,
    clone: AtomicBool,
    hash: AtomicBool,
    drop: AtomicBool,
    alive: AtomicUsize,
}

impl Fuse {
    fn touchy(&self, key: u64) -> Touchy<'_> {
        self.alive.fetch_add(1, Relaxed);
        Touchy { key, fuse: self }
    }
}

impl PartialEq for Touchy<'_> {
    fn eq(&self, other: &Self) -> bool {
        assert!(!self.fuse.eq.swap(false, Relaxed), "eq");
        self.key == other.key
    }
}

impl Eq for Touchy<'_> {}

impl Hash for Touchy<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert!(!self.fuse.hash.swap(false, Relaxed), "hash");
        self.key.hash(state);
    }
}

impl Clone for Touchy<'_> {
    fn clone(&self) -> Self {
        assert!(!self.fuse.clone.swap(false, Relaxed), "clone");
        self.fuse.touchy(self.key)
    }
}

impl Drop for Touchy<'_> {
    fn drop(&mut self) {
        self.fuse.alive.fetch_sub(1, Relaxed);
        assert!(!self.fuse.drop.swap(false, Relaxed), "drop");
    }
}

#[test]
fn panics_of_keys_and_values_leave_the_cache_sound() {
    let fuse = Fuse::default();
    let cache = fixed(100);
    let mut rng = Rng::seeded(3);
    let mut panics = 0;
    for _ in 0..1_000 {
        let fuses = [&fuse.eq, &fuse.clone, &fuse.hash, &fuse.drop];
        let lit = fuses[rng.below(4)];
        let key = fuse.touchy(rng.below(200) as u64);
        lit.store(true, Relaxed);
        let result = catch_unwind(AssertUnwindSafe(|| match rng.below(200) {
            0 => cache.clear(),
            1..50 => drop(cache.remove(&key)),
            50..100 => drop(cache.get(&key)),
            _ => cache.insert(fuse.touchy(key.key), fuse.touchy(key.key)),
        }));
        for fuse in fuses {
            fuse.store(false, Relaxed);
        }
        panics += usize::from(result.is_err());
        drop(key);
        cache.check();
        assert_eq!(fuse.alive.load(Relaxed), cache.len() * 2, "a key and a value each");
    }
    assert!((100..900).contains(&panics), "{panics}");
    drop(cache);
    assert_eq!(fuse.alive.load(Relaxed), 0);
}

/// A value whose drop uses the cache that it was in.
struct Probe(Weak<SetCache<u32, Arc<Probe>>>, Arc<AtomicUsize>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.1.fetch_add(1, Relaxed);
        if let Some(cache) = self.0.upgrade() {
            // It has one set, and so one lock.
            assert!(!cache.contains(&u32::MAX));
        }
    }
}

#[test]
fn each_value_is_dropped_once_and_outside_the_lock() {
    let cache = Arc::new(SetCache::new(2));
    let drops = Arc::new(AtomicUsize::new(0));
    let probe = || Arc::new(Probe(Arc::downgrade(&cache), drops.clone()));
    let dropped = || drops.load(Relaxed);

    (0..2).for_each(|key| cache.insert(key, probe()));
    assert_eq!(dropped(), 0);
    cache.insert(1, probe());
    assert_eq!(dropped(), 1, "replaced");
    cache.insert(2, probe());
    assert_eq!(dropped(), 2, "evicted");
    drop(cache.remove(&2));
    assert_eq!(dropped(), 3, "removed");
    cache.insert(3, probe());
    let held = cache.get(&3);
    cache.clear();
    assert_eq!(dropped(), 4, "cleared, but for the one that is held");
    drop(held);
    cache.insert(5, probe());
    drop(cache);
    assert_eq!(dropped(), 6);
}
