//! Everything at once, for as long as one likes: memory stays flat, and nothing is returned that should not be.
//!
//! Ten minutes: `BUTTRESS_SOAK=600 cargo test --release --all-features --test cache soak -- --ignored --nocapture`.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use buttress::{
    cache::{Expiry, Keep, MemoryCache, evict::Eviction},
    rng::Rng,
    time::{Clock, TokioClock},
};

const THREADS: u64 = 2;
const KEYS: u64 = 20_000;
const CAPACITY: u64 = 20_000;

/// A value that knows its key and weight, and is counted while it lives.
#[derive(Clone)]
struct Value(Arc<Counted>);

struct Counted {
    key: u64,
    weight: u64,
    expires: Option<std::time::Instant>,
    alive: Arc<AtomicI64>,
    _load: Box<[u8]>,
}

impl Value {
    fn new(key: u64, weight: u64, expires: Option<std::time::Instant>, alive: &Arc<AtomicI64>) -> Self {
        alive.fetch_add(1, Relaxed);
        let load = vec![1; usize::try_from(weight).unwrap()].into();
        Self(Arc::new(Counted { key, weight, expires, alive: Arc::clone(alive), _load: load }))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Relaxed);
    }
}

type Soaked = MemoryCache<u64, Value>;

#[test]
fn a_short_soak_leaves_nothing_behind() {
    soak(Duration::from_secs(1));
}

#[test]
#[ignore = "takes minutes: set BUTTRESS_SOAK to the seconds"]
fn a_long_soak_keeps_memory_flat() {
    let seconds = std::env::var("BUTTRESS_SOAK").ok().and_then(|seconds| seconds.parse().ok());
    soak(Duration::from_secs(seconds.unwrap_or(600)));
}

fn soak(time: Duration) {
    let alive = Arc::new(AtomicI64::new(0));
    let policies: [fn() -> Eviction; 3] = [Eviction::fifo, Eviction::lru, Eviction::default];
    let caches: Vec<Soaked> = policies
        .iter()
        .map(|policy| {
            MemoryCache::builder(CAPACITY)
                .weigher(|_, value: &Value| value.0.weight)
                .eviction(policy())
                .expiry(Expiry::new().idle(Duration::from_secs(2)))
                .build()
        })
        .collect();
    let done = AtomicBool::new(false);
    let begin = TokioClock.now();
    let passed = || TokioClock.now() - begin;
    let (mut early, mut late) = (0, 0);
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let (caches, alive, done) = (&caches, &alive, &done);
            scope.spawn(move || {
                let mut rng = Rng::seeded(seed);
                while !done.load(Relaxed) {
                    step(&caches[rng.below(caches.len())], alive, &mut rng);
                }
            });
        }
        let mut round = 0;
        while passed() < time {
            thread::sleep(Duration::from_millis(50));
            for cache in &caches {
                assert!(cache.weight() <= CAPACITY, "{cache:?}");
                assert!(cache.len() as u64 <= CAPACITY);
            }
            // Besides what is in the caches, each thread has a few in its hands.
            let alive = alive.load(Relaxed);
            assert!(alive <= 3 * CAPACITY.cast_signed(), "{alive} values alive");
            if passed() < time / 2 {
                early = early.max(resident());
            } else {
                late = late.max(resident());
            }
            round += 1;
            if round % 200 == 0 {
                eprintln!("{} kB, {alive} values, {:?}", resident(), caches[0].stats());
            }
        }
        done.store(true, Relaxed);
    });
    // Of a short run there is not much to say; a long one has seen it all in its first half.
    if time > Duration::from_secs(30) {
        assert!(late <= early + early / 10, "from {early} kB to {late} kB");
    }
    for cache in caches {
        let stats = cache.stats();
        assert!(stats.hits > 0 && stats.evicted > 0 && stats.removed > 0, "{stats:?}");
        cache.clear();
        assert_eq!((cache.len(), cache.weight()), (0, 0));
    }
    assert_eq!(alive.load(Relaxed), 0, "no value is left behind");
}

/// One operation of any kind.
fn step(cache: &Soaked, alive: &Arc<AtomicI64>, rng: &mut Rng) {
    let asked = TokioClock.now();
    let check = |found: Option<Value>, key| {
        let Some(Value(value)) = found else { return };
        assert_eq!(value.key, key, "the value of another key");
        assert!(value.expires.is_none_or(|expires| asked < expires), "it had expired before");
    };
    // Some keys are asked for far more often than others.
    let key = rng.next_u64() % (1 + rng.next_u64() % KEYS);
    let weight = 1 + (rng.next_u64() % 64) * u64::from(rng.below(4) == 0);
    match rng.below(1_000) {
        0..600 => check(cache.get(&key), key),
        600..700 => cache.insert(key, Value::new(key, weight, None, alive)),
        700..850 => {
            let ttl = Duration::from_micros(rng.next_u64() % (1 << rng.below(22)));
            // The cache reads its clock later, and this thread may be held up in between.
            let expires = TokioClock.now() + ttl + Duration::from_secs(5);
            cache.insert_with(key, Value::new(key, weight, Some(expires), alive), &Keep::new().ttl(ttl));
        }
        850..900 => check(cache.remove(&key), key),
        900..930 => check(cache.peek(&key), key),
        930..940 => _ = cache.contains_key(&key),
        940..990 => {
            let lease = cache.lease(&key);
            let value = Value::new(key, weight, None, alive);
            if rng.below(3) == 0 {
                check(cache.remove(&key), key);
            }
            if rng.below(3) > 0 {
                lease.commit(value);
            }
        }
        990..998 => _ = cache.run_maintenance(Duration::from_micros(50)),
        998 if rng.below(1_000) == 0 => cache.clear(),
        _ => cache.insert(key, Value::new(key, CAPACITY + 1, None, alive)),
    }
}

/// The memory of this process in kB; 0 where that is not known.
fn resident() -> u64 {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
