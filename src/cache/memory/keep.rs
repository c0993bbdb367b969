//! How a value is kept.

use std::{
    hash::{Hash, Hasher},
    time::Duration,
};

use xxhash_rust::xxh3::Xxh3Default;

/// How to keep one value: unless it says otherwise, as the cache does.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Keep {
    pub(super) ttl: Option<Duration>,
    pub(super) tags: Vec<u64>,
}

impl Keep {
    /// As the cache keeps all.
    pub const fn new() -> Self {
        Self { ttl: None, tags: Vec::new() }
    }

    /// Sets how long the value lives. With no time at all it is not kept.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Adds a tag, by which entries that belong together can be invalidated at once: see
    /// [`MemoryCache::invalidate_tag`](super::MemoryCache::invalidate_tag).
    pub fn tag(mut self, tag: impl Hash) -> Self {
        let tag = tag_of(&tag);
        if !self.tags.contains(&tag) {
            self.tags.push(tag);
        }
        self
    }
}

/// What a cache knows of a tag: its hash, the same in every process. Two tags that share one are invalidated together, which
/// costs loads and harms nobody.
pub(super) fn tag_of(tag: &impl Hash) -> u64 {
    let mut hasher = Xxh3Default::new();
    tag.hash(&mut hasher);
    hasher.finish()
}
