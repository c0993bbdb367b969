//! The policies of this crate.

use std::num::NonZeroUsize;

use buttress::cache::{Cache, LruCache};

use super::replay::{Contestant, Entrant, Room, replay};

pub(crate) const ENTRANTS: &[Entrant] = &[Entrant {
    name: "lru",
    play: |trace, room| match room {
        Room::Entries(_) => {
            let capacity = NonZeroUsize::new(room.entries(trace))?;
            Some(replay(Ours(LruCache::new(capacity)), trace))
        }
        Room::Bytes(_) => None,
    },
}];

struct Ours<C>(C);

impl<C: Cache<u64, u32>> Contestant for Ours<C> {
    fn get(&mut self, key: u64) -> bool {
        self.0.get(&key).is_some()
    }

    fn insert(&mut self, key: u64, size: u32) {
        self.0.insert(key, size);
    }

    fn kept(&self) -> u64 {
        self.0.len() as u64
    }
}
