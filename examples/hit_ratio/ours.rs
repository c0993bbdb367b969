//! The policies of this crate.

use buttress::cache::{MemoryCache, evict::Eviction};

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
    Entrant { name: "gdsf", play: |trace, room| Some(memory(trace, room, Eviction::gdsf())) },
];

struct Memory {
    cache: MemoryCache<u64, u32>,
}

fn memory(trace: &Trace, room: Room, eviction: Eviction) -> Outcome {
    let builder = MemoryCache::builder(room.capacity()).eviction(eviction);
    let cache = match room {
        Room::Entries(_) => builder.build(),
        Room::Bytes(_) => builder.weigher(|_, size| u64::from(*size)).build(),
    };
    replay(Memory { cache }, trace)
}

impl Contestant for Memory {
    fn get(&mut self, key: u64) -> bool {
        self.cache.get(&key).is_some()
    }

    fn insert(&mut self, key: u64, size: u32) {
        self.cache.insert(key, size);
    }

    fn kept(&self) -> u64 {
        self.cache.weight()
    }
}
