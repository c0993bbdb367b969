//! A set-associative cache: a key has one small set where it can be, as in a processor's cache.

use std::{
    borrow::Borrow,
    fmt,
    hash::{BuildHasher, Hash},
    mem,
    sync::Arc,
};

use foldhash::fast::RandomState;

use self::table::Table;
use super::Cache;

mod builder;
mod ghosts;
mod group;
mod table;
mod tags;
#[cfg(test)]
mod tests;
mod ways;

pub use self::builder::{CapacityError, SetCacheBuilder};

/// Keeps a number of entries, in as little time and memory as can be.
///
/// A key can be in one small set only, of 16 entries on average. A lookup locks that set, compares a byte of hash with
/// the set's 24 at once, and reads the entry: two cache lines, with no list to move and no clock to read. An entry takes
/// some 7 bytes beyond its key and value, and inserting into a full cache allocates nothing.
///
/// Reach for it when entries are alike in size and number in the thousands or millions, and a lookup is on the hot
/// path. Take another cache for entries that expire or have weights, listeners, or a strict order of eviction; for
/// those, a set has no room.
///
/// # Who leaves
/// When a newcomer finds no room, an entry of its set leaves: the policy is S3-FIFO (Yang et al., SOSP 2023) within the
/// set, which keeps what is used again and lets go of what was asked for once, so that scans pass through. As a set
/// knows only its own keys, the choice is a little worse than that of one queue for all.
///
/// There are never more entries than [`capacity`](Self::capacity); a capacity of 0 keeps nothing. Up to a capacity of
/// 24 there is one set, and no entry leaves before the cache is full. In larger caches keys fall unevenly, and a set
/// that is at its limit of 24 evicts while others have room: of as many keys as the capacity, inserted once, 98 % are
/// kept. The places that are left fill up later.
///
/// # Concurrency
/// Each set has a lock of its own, so threads meet only when they use keys of the same set at the same time. Keys are
/// hashed and entries dropped outside the locks. Keys are compared and values cloned under them: keep both cheap (an
/// [`Arc`] around a large value), and let neither use the same cache, as that could deadlock.
///
/// The hasher is seeded at random. Even where many keys have the same hash, no lookup compares more than 24.
///
/// Clones share their entries.
///
/// ```
/// use buttress::cache::SetCache;
///
/// let cache = SetCache::new(10_000);
/// cache.insert("user:42".to_owned(), "Ada");
/// assert_eq!(cache.get("user:42"), Some("Ada"));
/// assert_eq!(cache.get("user:43"), None);
/// ```
///
/// # Panics
/// A method panics where hashing, comparing, cloning or dropping a key or value does. The cache stays usable, with its
/// other entries; after a drop that panics, [`clear`](Self::clear) may have left some.
pub struct SetCache<K, V, S = RandomState> {
    table: Arc<Table<K, V>>,
    hasher: S,
}

impl<K, V> SetCache<K, V> {
    /// A cache of at most `capacity` entries.
    ///
    /// # Panics
    /// If there is no memory for that many, see [`SetCacheBuilder::build`], which tells instead.
    pub fn new(capacity: usize) -> Self {
        match Self::builder(capacity).build() {
            Ok(cache) => cache,
            Err(error) => panic!("{error}"),
        }
    }

    /// A cache of at most `capacity` entries, with settings of its own.
    ///
    /// ```
    /// use std::hash::RandomState;
    ///
    /// use buttress::cache::SetCache;
    ///
    /// let cache = SetCache::builder(1000).hasher(RandomState::new()).build()?;
    /// cache.insert(1, 2);
    /// assert_eq!(cache.get(&1), Some(2));
    /// # Ok::<_, buttress::cache::CapacityError>(())
    /// ```
    pub fn builder(capacity: usize) -> SetCacheBuilder<K, V> {
        SetCacheBuilder::new(capacity)
    }
}

impl<K, V, S> SetCache<K, V, S> {
    /// The most entries that it keeps.
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// How many entries there are, never more than [`capacity`](Self::capacity). Exact, unless others insert or remove
    /// at the same time. Adds up a number for every 1024 entries of the capacity.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no entry; no more exact than [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops every entry that was inserted before this call, and gives their memory back.
    pub fn clear(&self) {
        self.table.drain().for_each(drop);
    }

    /// Clones of all entries, in no particular order. Not a snapshot: what others change meanwhile may be seen or not.
    pub fn iter(&self) -> impl Iterator<Item = (K, V)>
    where
        K: Clone,
        V: Clone,
    {
        self.table.each().flat_map(|ways| ways.entries().to_vec())
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> SetCache<K, V, S> {
    /// The value of a key, if it is here. Counts as a use.
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let place = self.table.place(self.hasher.hash_one(key));
        let mut ways = self.table.lock(place)?;
        let way = ways.find(place.tag, key)?;
        Some(ways.hit(way).clone())
    }

    /// Whether a key is here. Does not count as a use.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let place = self.table.place(self.hasher.hash_one(key));
        self.table.lock(place).is_some_and(|ways| ways.find(place.tag, key).is_some())
    }

    /// Keeps a value, in place of an older one of the same key, which counts as a use.
    pub fn insert(&self, key: K, value: V) {
        let place = self.table.place(self.hasher.hash_one(&key));
        let Some(mut ways) = self.table.lock(place) else { return };
        if let Some(way) = ways.find(place.tag, &key) {
            let old = mem::replace(ways.hit(way), value);
            // Before the old value is dropped.
            drop(ways);
            drop(old);
        } else if let Some(evicted) = self.table.admit(ways, place, (key, value))
            && evicted.early
        {
            self.table.remember(self.table.place(self.hasher.hash_one(&evicted.entry.0)));
        }
    }

    /// Takes a value out.
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let place = self.table.place(self.hasher.hash_one(key));
        let ways = self.table.lock(place)?;
        let way = ways.find(place.tag, key)?;
        let (key, value) = self.table.remove(ways, place, way);
        drop(key);
        Some(value)
    }
}

#[cfg(test)]
impl<K: Hash + Eq, V, S: BuildHasher> SetCache<K, V, S> {
    fn check(&self) {
        assert!(self.len() <= self.capacity());
        self.table.check(|key| self.hasher.hash_one(key));
    }
}

impl<K, V, S> Cache<K, V> for SetCache<K, V, S>
where
    K: Hash + Eq + Send,
    V: Clone + Send,
    S: BuildHasher + Send + Sync,
{
    fn get(&self, key: &K) -> Option<V> {
        self.get(key)
    }

    fn insert(&self, key: K, value: V) {
        self.insert(key, value);
    }

    fn remove(&self, key: &K) -> Option<V> {
        self.remove(key)
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn clear(&self) {
        self.clear();
    }
}

impl<K, V, S: Clone> Clone for SetCache<K, V, S> {
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table), hasher: self.hasher.clone() }
    }
}

impl<K, V, S> fmt::Debug for SetCache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetCache")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
