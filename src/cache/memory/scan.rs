//! All entries, a few at a time.

use std::{
    fmt,
    hash::{BuildHasher, Hash},
    vec,
};

use super::{
    MemoryCache, RandomState, Seen,
    keep::tag_of,
    listener::{Cause, Outgoing},
};

/// How many slots are looked at, or entries removed, in a row with a shard locked: some ten microseconds.
const SLICE: usize = 64;

/// Entries of a [`MemoryCache`], as clones. From [`MemoryCache::iter`].
pub struct Iter<K, V, S = RandomState> {
    cache: MemoryCache<K, V, S>,
    shard: usize,
    slot: usize,
    slice: vec::IntoIter<Seen<K, V>>,
}

impl<K, V, S> MemoryCache<K, V, S>
where
    K: Clone,
    V: Clone,
{
    /// Every entry, as clones of key and value, in no particular order.
    ///
    /// No lock is held between two of them, so the cache may be used, and changes, in the meantime: what is in it all the time
    /// comes exactly once, what comes or goes may be missed. Counts as no use.
    ///
    /// ```
    /// use buttress::cache::MemoryCache;
    ///
    /// let cache = MemoryCache::new(100);
    /// (0..10).for_each(|n| cache.insert(n, n * n));
    /// assert_eq!(cache.iter().map(|(_, square)| square).sum::<u32>(), 285);
    /// ```
    pub fn iter(&self) -> Iter<K, V, S> {
        Iter { cache: self.clone(), shard: 0, slot: 0, slice: Vec::new().into_iter() }
    }

    /// What entries there are in the next slots, and whether there are more slots.
    pub(super) fn slice(&self, shard: &mut usize, slot: &mut usize) -> Option<Vec<Seen<K, V>>> {
        let now = self.now();
        let lock = self.inner.shards.get(*shard)?;
        let (seen, next) = lock.read().slice(*slot, SLICE, now);
        if let Some(next) = next {
            *slot = next;
        } else {
            (*shard, *slot) = (*shard + 1, 0);
        }
        Some(seen)
    }
}

impl<K, V, S> Iterator for Iter<K, V, S>
where
    K: Clone,
    V: Clone,
{
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        loop {
            if let Some(seen) = self.slice.next() {
                return Some((seen.key, seen.value));
            }
            self.slice = self.cache.slice(&mut self.shard, &mut self.slot)?.into_iter();
        }
    }
}

impl<K, V, S> fmt::Debug for Iter<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

impl<K, V, S> IntoIterator for &MemoryCache<K, V, S>
where
    K: Clone,
    V: Clone,
{
    type Item = (K, V);
    type IntoIter = Iter<K, V, S>;

    fn into_iter(self) -> Iter<K, V, S> {
        self.iter()
    }
}

impl<K, V, S> MemoryCache<K, V, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    S: BuildHasher,
{
    /// Takes out every entry for which `is_out` holds, and voids all leases; how many entries.
    ///
    /// What is in the cache when this is called is gone when it returns, if `is_out` says so of it. A value that takes the
    /// place of one that is out, in the meantime, may go with it. `is_out` is called with clones, and no lock held. O(slots).
    ///
    /// ```
    /// use buttress::cache::MemoryCache;
    ///
    /// let cache = MemoryCache::new(100);
    /// (0..10).for_each(|n| cache.insert(n, n * n));
    /// assert_eq!(cache.invalidate_if(|_, square| square % 2 == 0), 5);
    /// assert_eq!((cache.get(&4), cache.get(&5)), (None, Some(25)));
    /// ```
    pub fn invalidate_if(&self, mut is_out: impl FnMut(&K, &V) -> bool) -> usize {
        let mut removed = 0;
        self.inner.shards.iter().for_each(|lock| lock.write().leases.void_all());
        let (mut shard, mut slot) = (0, 0);
        loop {
            let Some(lock) = self.inner.shards.get(shard) else { return removed };
            let Some(mut seen) = self.slice(&mut shard, &mut slot) else { return removed };
            seen.retain(|seen| is_out(&seen.key, &seen.value));
            if seen.is_empty() {
                continue;
            }
            let mut out = Outgoing::new();
            {
                let mut shard = lock.write();
                for seen in &seen {
                    if shard.holds(seen.slot, &seen.key)
                        && let Some((key, value)) = shard.remove(seen.slot, Cause::Removed)
                    {
                        removed += 1;
                        out.push(key, value, Cause::Removed);
                    }
                }
            }
            out.settle(self.inner.listener.as_ref());
        }
    }
}

impl<K, V, S> MemoryCache<K, V, S> {
    /// Takes out every entry that was inserted with this tag; how many.
    ///
    /// Leases that began before are void for values with tags: such a value may belong to it, and be out of date. O(entries
    /// with the tag).
    ///
    /// ```
    /// use buttress::cache::{Keep, MemoryCache};
    ///
    /// let cache = MemoryCache::new(100);
    /// cache.insert_with("/cart", "3 books", &Keep::new().tag("user:42"));
    /// cache.insert_with("/orders", "none", &Keep::new().tag("user:42").tag("orders"));
    /// cache.insert("/about", "us");
    /// assert_eq!(cache.invalidate_tag("user:42"), 2);
    /// assert_eq!(cache.len(), 1);
    /// ```
    pub fn invalidate_tag(&self, tag: impl Hash) -> usize {
        let tag = tag_of(&tag);
        let mut removed = 0;
        // Before any shard is visited: a commit that does not see this yet is seen there.
        self.inner.tag_epoch.advance();
        for lock in &self.inner.shards {
            loop {
                let mut out = Outgoing::new();
                let taken = lock.write().remove_tagged(tag, SLICE, &mut out);
                out.settle(self.inner.listener.as_ref());
                removed += taken;
                if taken < SLICE {
                    break;
                }
            }
        }
        removed
    }
}
