//! The caches that a Rust service would pick otherwise, each with its defaults.

use std::num::NonZeroUsize;

use foyer_memory::{CacheBuilder, EvictionConfig, FifoConfig, LfuConfig, LruConfig, S3FifoConfig};
use moka::policy::EvictionPolicy;
use sieve_cache::SieveCache;
use tinyufo::TinyUfo;

use super::{
    replay::{Contestant, Entrant, Outcome, Room, replay},
    trace::Trace,
};

pub(crate) const ENTRANTS: &[Entrant] = &[
    Entrant { name: "peer:lru", play: |trace, room| entries(room, trace, lru::LruCache::new) },
    Entrant { name: "peer:moka", play: |trace, room| Some(moka(trace, room, EvictionPolicy::tiny_lfu())) },
    Entrant { name: "peer:moka-lru", play: |trace, room| Some(moka(trace, room, EvictionPolicy::lru())) },
    Entrant { name: "peer:quick_cache", play: |trace, room| Some(quick_cache(trace, room)) },
    Entrant { name: "peer:foyer-fifo", play: |trace, room| foyer(trace, room, FifoConfig::default()) },
    Entrant { name: "peer:foyer-lru", play: |trace, room| foyer(trace, room, LruConfig::default()) },
    Entrant { name: "peer:foyer-w-tinylfu", play: |trace, room| foyer(trace, room, LfuConfig::default()) },
    Entrant { name: "peer:foyer-s3-fifo", play: |trace, room| foyer(trace, room, S3FifoConfig::default()) },
    Entrant {
        name: "peer:tinyufo",
        play: |trace, room| {
            entries(room, trace, |room| Ufo { cache: TinyUfo::new(room.get(), room.get()), kept: 0 })
        },
    },
    Entrant {
        name: "peer:sieve-cache",
        play: |trace, room| entries(room, trace, |room| SieveCache::new(room.get()).expect("not 0")),
    },
];

/// Plays with a cache that counts entries only.
fn entries<C: Contestant>(
    room: Room,
    trace: &Trace,
    cache: impl FnOnce(NonZeroUsize) -> C,
) -> Option<Outcome> {
    match room {
        Room::Entries(_) => Some(replay(cache(NonZeroUsize::new(room.entries(trace))?), trace)),
        Room::Bytes(_) => None,
    }
}

impl Contestant for lru::LruCache<u64, u32> {
    fn get(&mut self, key: u64) -> bool {
        lru::LruCache::get(self, &key).is_some()
    }

    fn insert(&mut self, key: u64, size: u32) {
        self.put(key, size);
    }

    fn kept(&self) -> u64 {
        self.len() as u64
    }
}

impl Contestant for SieveCache<u64, u32> {
    fn get(&mut self, key: u64) -> bool {
        SieveCache::get(self, &key).is_some()
    }

    fn insert(&mut self, key: u64, size: u32) {
        SieveCache::insert(self, key, size);
    }

    fn kept(&self) -> u64 {
        self.len() as u64
    }
}

/// It does not tell how much it keeps, but it tells what leaves.
struct Ufo {
    cache: TinyUfo<u64, u32>,
    kept: u64,
}

impl Contestant for Ufo {
    fn get(&mut self, key: u64) -> bool {
        self.cache.get(&key).is_some()
    }

    fn insert(&mut self, key: u64, size: u32) {
        self.kept += 1;
        self.kept -= self.cache.put(key, size, 1).len() as u64;
    }

    fn kept(&self) -> u64 {
        self.kept
    }
}

/// It tidies up in batches and holds more than its capacity until then. It counts what it holds only then, so that its
/// entries are counted for it, now and then.
struct Moka {
    cache: moka::sync::Cache<u64, u32>,
    room: Room,
    /// So many insertions lie between two counts.
    rest: usize,
    inserted: usize,
    kept: u64,
}

fn moka(trace: &Trace, room: Room, policy: EvictionPolicy) -> Outcome {
    let builder = moka::sync::Cache::builder().max_capacity(room.capacity()).eviction_policy(policy);
    let cache = match room {
        Room::Entries(_) => builder.build(),
        Room::Bytes(_) => builder.weigher(|_, size| *size).build(),
    };
    replay(Moka { cache, room, rest: (room.entries(trace) / 8).max(32), inserted: 0, kept: 0 }, trace)
}

impl Contestant for Moka {
    fn get(&mut self, key: u64) -> bool {
        self.cache.get(&key).is_some()
    }

    fn insert(&mut self, key: u64, size: u32) {
        self.cache.insert(key, size);
        self.inserted += 1;
        if self.inserted.is_multiple_of(self.rest) {
            let weight = BySize(self.room);
            self.kept = self.cache.iter().map(|(_, size)| u64::from(weight.weight(size))).sum();
        }
    }

    fn kept(&self) -> u64 {
        self.kept
    }
}

/// Weighs an entry as the room asks.
#[derive(Clone, Copy)]
struct BySize(Room);

impl BySize {
    fn weight(self, size: u32) -> u32 {
        match self.0 {
            Room::Entries(_) => 1,
            Room::Bytes(_) => size,
        }
    }
}

impl quick_cache::Weighter<u64, u32> for BySize {
    fn weight(&self, _key: &u64, size: &u32) -> u64 {
        Self::weight(*self, *size).into()
    }
}

type Quick = quick_cache::sync::Cache<u64, u32, BySize>;

fn quick_cache(trace: &Trace, room: Room) -> Outcome {
    replay(Quick::with_weighter(room.entries(trace), room.capacity(), BySize(room)), trace)
}

impl Contestant for Quick {
    fn get(&mut self, key: u64) -> bool {
        quick_cache::sync::Cache::get(self, &key).is_some()
    }

    fn insert(&mut self, key: u64, size: u32) {
        quick_cache::sync::Cache::insert(self, key, size);
    }

    fn kept(&self) -> u64 {
        self.weight()
    }
}

type Foyer = foyer_memory::Cache<u64, u32>;

fn foyer(trace: &Trace, room: Room, policy: impl Into<EvictionConfig>) -> Option<Outcome> {
    let capacity = usize::try_from(room.capacity()).ok()?;
    let weigher = BySize(room);
    let cache: Foyer = CacheBuilder::new(capacity)
        .with_weighter(move |_: &u64, size: &u32| weigher.weight(*size) as usize)
        .with_eviction_config(policy)
        .build();
    Some(replay(cache, trace))
}

impl Contestant for Foyer {
    fn get(&mut self, key: u64) -> bool {
        foyer_memory::Cache::get(self, &key).is_some()
    }

    fn insert(&mut self, key: u64, size: u32) {
        foyer_memory::Cache::insert(self, key, size);
    }

    fn kept(&self) -> u64 {
        self.usage() as u64
    }
}
