//! The policies of this crate.

use buttress::cache::{MemoryCache, SetCache, evict::Eviction};

use super::{
    replay::{Contestant, Entrant, Outcome, Room, replay},
    trace::Trace,
};

pub(crate) const ENTRANTS: &[Entrant] = &[
    Entrant { name: "default", play: |trace, room| Some(memory(trace, room, Eviction::default())) },
    Entrant { name: "fifo", play: |trace, room| Some(memory(trace, room, Eviction::fifo())) },
    Entrant { name: "lru", play: |trace, room| Some(memory(trace, room, Eviction::lru())) },
    Entrant { name: "lfu", play: |trace, room| Some(memory(trace, room, Eviction::lfu())) },
    Entrant { name: "sieve", play: |trace, room| Some(memory(trace, room, Eviction::sieve())) },
    Entrant { name: "s3-fifo", play: |trace, room| Some(memory(trace, room, Eviction::s3_fifo())) },
    Entrant { name: "w-tinylfu", play: |trace, room| Some(memory(trace, room, Eviction::w_tiny_lfu())) },
    Entrant { name: "set", play: set },
    Entrant { name: "gdsf", play: |trace, room| Some(memory(trace, room, Eviction::gdsf())) },
];

fn memory(trace: &Trace, room: Room, eviction: Eviction) -> Outcome {
    let builder = MemoryCache::builder(room.capacity()).eviction(eviction);
    let cache = match room {
        Room::Entries(_) => builder.build(),
        Room::Bytes(_) => builder.weigher(|_, size| u64::from(*size)).build(),
    };
    replay(cache, trace)
}

/// It counts entries, not bytes.
fn set(trace: &Trace, room: Room) -> Option<Outcome> {
    let Room::Entries(_) = room else { return None };
    Some(replay(SetCache::builder(room.entries(trace)).build().ok()?, trace))
}

impl Contestant for SetCache<u64, u32> {
    fn get(&mut self, key: u64) -> bool {
        SetCache::get(self, &key).is_some()
    }

    fn insert(&mut self, key: u64, size: u32) {
        SetCache::insert(self, key, size);
    }

    fn kept(&self) -> u64 {
        self.len() as u64
    }
}

impl Contestant for MemoryCache<u64, u32> {
    fn get(&mut self, key: u64) -> bool {
        MemoryCache::get(self, &key).is_some()
    }

    fn insert(&mut self, key: u64, size: u32) {
        MemoryCache::insert(self, key, size);
    }

    fn kept(&self) -> u64 {
        self.weight()
    }
}
