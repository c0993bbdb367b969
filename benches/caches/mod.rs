//! What the benches of caches share: the caches, what is asked of them, and who asks.

#![allow(dead_code, reason = "no bench uses all of it")]

use std::{
    hint::black_box,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use buttress::rng::Rng;

use self::zipf::Zipf;

pub(crate) mod compare;
pub(crate) mod memory;
pub(crate) mod ours;
pub(crate) mod peers;
mod zipf;

/// How many entries the caches have room for.
pub(crate) const SIZES: [u32; 2] = [10_000, 1_000_000];
pub(crate) const THREADS: [usize; 2] = [1, 2];
/// As many keys are asked for in the mix as ten times what fits.
const MIX: u64 = 10;
const MIX_EXPONENT: f64 = 0.99;
/// Keys from here on were never asked for.
const FRESH: u64 = 1 << 40;

/// A cache from `u64` to `u64`, as all of them are here.
pub(crate) trait Table: Send + Sync + 'static {
    fn get(&self, key: u64) -> Option<u64>;
    fn insert(&self, key: u64, value: u64);

    /// Looks all of them up.
    fn get_all(&self, keys: &[u32]) {
        for key in keys {
            black_box(self.get(u64::from(*key)));
        }
    }
}

/// What is asked of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Keys that are there, in an order of their own.
    Hit,
    /// A key that is not there, and then is, while another leaves.
    Miss,
    /// Keys by Zipf's law, inserted where they are missing.
    Mix,
}

impl Workload {
    pub(crate) const ALL: [Self; 3] = [Self::Hit, Self::Miss, Self::Mix];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hit => "get hit",
            Self::Miss => "get miss + insert",
            Self::Mix => "zipf 0.99 read-through",
        }
    }
}

/// The keys of a mix: the same for every cache.
pub(crate) fn mix(entries: u32) -> Arc<[u32]> {
    let zipf = Zipf::new(u64::from(entries) * MIX, MIX_EXPONENT);
    let mut rng = Rng::seeded(1);
    let requests = (entries as usize * 4).max(1 << 18);
    (0..requests).map(|_| u32::try_from(zipf.draw(&mut rng)).expect("few keys")).collect()
}

/// A cache that takes part, filled to its capacity.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    cache: Box<dyn Asked>,
}

impl Contender {
    pub(crate) fn new(name: &'static str, cache: impl Table, entries: u32, mix: &Arc<[u32]>) -> Self {
        for key in 0..entries {
            cache.insert(key.into(), key.into());
        }
        // Not all are kept by those that divide their room.
        let mut present: Vec<_> = (0..entries).filter(|key| cache.get((*key).into()).is_some()).collect();
        let mut rng = Rng::seeded(2);
        for i in (1..present.len()).rev() {
            present.swap(i, rng.below(i + 1));
        }
        let fresh = AtomicU64::new(FRESH);
        Self { name, cache: Box::new(Subject { cache, present, mix: Arc::clone(mix), fresh }) }
    }

    /// The keys that were there for `Workload::Hit` may have left in the other workloads: it comes first.
    pub(crate) fn time(&self, workload: Workload, threads: usize, operations: u64) -> Duration {
        if threads == 1 {
            return self.cache.time(workload, 0, operations);
        }
        let share = operations.div_ceil(threads as u64);
        let (start, end) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
        thread::scope(|scope| {
            for thread in 0..threads {
                let (start, end) = (&start, &end);
                scope.spawn(move || {
                    start.wait();
                    self.cache.time(workload, thread, share);
                    end.wait();
                });
            }
            start.wait();
            let started = now();
            end.wait();
            started.elapsed()
        })
    }

    /// Requests of the mix until what is kept is what the mix asks for.
    pub(crate) fn warm_mix(&self) {
        self.cache.warm_mix();
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is about real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// [`Contender::time`] for a cache whose type is forgotten: the loops inside know it.
trait Asked: Send + Sync {
    fn time(&self, workload: Workload, thread: usize, operations: u64) -> Duration;
    fn warm_mix(&self);
}

struct Subject<C> {
    cache: C,
    present: Vec<u32>,
    mix: Arc<[u32]>,
    fresh: AtomicU64,
}

impl<C: Table> Asked for Subject<C> {
    fn time(&self, workload: Workload, thread: usize, operations: u64) -> Duration {
        let fresh = self.fresh.fetch_add(operations, Relaxed);
        // Threads begin at different keys, and each round goes on somewhere else.
        let begin = usize::try_from(fresh - FRESH).unwrap_or(0) + thread * self.mix.len() / 2;
        let start = now();
        match workload {
            Workload::Hit => hits(&self.cache, &self.present, begin, operations),
            Workload::Miss => misses(&self.cache, fresh, operations),
            Workload::Mix => read_through(&self.cache, &self.mix, begin, operations),
        }
        start.elapsed()
    }

    fn warm_mix(&self) {
        read_through(&self.cache, &self.mix, 0, self.mix.len() as u64);
    }
}

#[inline(never)]
fn hits<C: Table>(cache: &C, keys: &[u32], start: usize, operations: u64) {
    for stretch in stretches(keys, start, operations) {
        cache.get_all(stretch);
    }
}

#[inline(never)]
fn misses<C: Table>(cache: &C, fresh: u64, operations: u64) {
    for key in fresh..fresh + operations {
        if black_box(cache.get(key)).is_none() {
            cache.insert(key, key);
        }
    }
}

#[inline(never)]
fn read_through<C: Table>(cache: &C, keys: &[u32], start: usize, operations: u64) {
    for stretch in stretches(keys, start, operations) {
        for key in stretch {
            let key = u64::from(*key);
            if black_box(cache.get(key)).is_none() {
                cache.insert(key, key);
            }
        }
    }
}

/// So many keys, round and round, in slices, so that stepping through them costs next to nothing.
fn stretches(keys: &[u32], start: usize, count: u64) -> impl Iterator<Item = &[u32]> {
    let (mut at, mut left) = (start % keys.len(), usize::try_from(count).unwrap_or(usize::MAX));
    std::iter::from_fn(move || {
        let stretch = &keys[at..keys.len().min(at.saturating_add(left))];
        left -= stretch.len();
        at = 0;
        (!stretch.is_empty()).then_some(stretch)
    })
}
