//! A cache that starts warm.

use std::{
    hash::{BuildHasher, Hash},
    time::{Duration, SystemTime},
};

use super::{Keep, MemoryCache};

/// The entries of a cache at one time, for one that is to start with them. From [`MemoryCache::snapshot`].
///
/// With the feature `serde` it can be written to a file and read again.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Snapshot<K, V> {
    taken: SystemTime,
    entries: Vec<Kept<K, V>>,
}

#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Kept<K, V> {
    key: K,
    value: V,
    /// The time that it had left.
    ttl: Option<Duration>,
    tags: Vec<u64>,
}

impl<K, V> Snapshot<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<K, V, S> MemoryCache<K, V, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    S: BuildHasher,
{
    /// The entries as they are, with the time that they have left, and their tags.
    ///
    /// Taken like [`iter`](Self::iter): what changes in the meantime may be missed.
    ///
    /// ```
    /// use buttress::cache::MemoryCache;
    ///
    /// let before = MemoryCache::new(100);
    /// before.insert("ada", 36);
    /// let snapshot = before.snapshot();
    ///
    /// let after = MemoryCache::new(100);
    /// after.restore(snapshot);
    /// assert_eq!(after.get("ada"), Some(36));
    /// ```
    pub fn snapshot(&self) -> Snapshot<K, V> {
        let taken = self.clock().wall();
        let mut entries = Vec::new();
        let (mut shard, mut slot) = (0, 0);
        while let Some(slice) = self.slice(&mut shard, &mut slot) {
            entries.extend(slice.into_iter().map(|seen| Kept {
                ttl: self.inner.aging.left(seen.deadline),
                key: seen.key,
                value: seen.value,
                tags: seen.tags,
            }));
        }
        Snapshot { taken, entries }
    }

    /// Puts the entries of a snapshot in, each for the time that it has left: the time since the snapshot was taken, by the
    /// time of day, counts. Keys that are here already keep their values.
    pub fn restore(&self, snapshot: Snapshot<K, V>) {
        let passed = self.clock().wall().duration_since(snapshot.taken).unwrap_or_default();
        for Kept { key, value, ttl, tags } in snapshot.entries {
            let ttl = ttl.map(|ttl| ttl.saturating_sub(passed));
            if ttl.is_some_and(|ttl| ttl.is_zero()) || self.contains_key(&key) {
                continue;
            }
            self.insert_with(key, value, &Keep { ttl, tags });
        }
    }
}
