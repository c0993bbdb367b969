//! Strict least-recently-used order, by the `lru` crate.

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, BuildHasherDefault, Hash},
    mem,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::key::{Hashed, Lookup, Stored};
use super::Cache;

mod key;

/// Keeps the entries that were used last: when it is full, the one whose last use is longest ago makes room.
///
/// Exact: what was inserted stays until `capacity` other keys were used after it, [`len`](Cache::len) is the number of
/// entries, and one that leaves is dropped by the call that evicts it. [`get`](Cache::get) and
/// [`insert`](Cache::insert) are uses.
///
/// One lock guards the entries; reach for another cache when many threads meet at it. Keys are hashed and values
/// dropped outside the lock. Keys are compared and values cloned under it: keep both cheap (an `Arc` around a large
/// value), and let neither use the same cache, as that would deadlock.
///
/// Memory grows with the entries, not with the capacity. Clones share their entries.
///
/// ```
/// use std::num::NonZeroUsize;
///
/// use buttress::cache::{Cache, LruCache};
///
/// let cache = LruCache::new(NonZeroUsize::new(2).unwrap());
/// cache.insert("a", 1);
/// cache.insert("b", 2);
/// assert_eq!(cache.get(&"a"), Some(1));
/// cache.insert("c", 3);
/// assert_eq!(cache.get(&"b"), None, "it was used before a was");
/// assert_eq!(cache.len(), 2);
/// ```
///
/// # Panics
/// A method panics where hashing, comparing, cloning or dropping a key or value does, and the cache stays usable, with
/// all its other entries. (If a drop panics while the last handle is dropped, other entries may be leaked.)
pub struct LruCache<K, V> {
    capacity: NonZeroUsize,
    hasher: RandomState,
    entries: Arc<Mutex<Entries<K, V>>>,
}

type Entries<K, V> = ::lru::LruCache<Hashed<K>, V, BuildHasherDefault<Stored>>;

impl<K, V> LruCache<K, V> {
    /// A cache of at most `capacity` entries.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self { capacity, hasher: RandomState::new(), entries: Arc::new(Mutex::new(empty(capacity))) }
    }

    /// The most entries that it keeps.
    pub fn capacity(&self) -> NonZeroUsize {
        self.capacity
    }

    fn lock(&self) -> MutexGuard<'_, Entries<K, V>> {
        // Code of keys and values that runs under the lock and may panic, `eq` in a lookup and `clone`, does so before
        // or after a change, never in its midst.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Cache<K, V> for LruCache<K, V>
where
    K: Hash + Eq + Send,
    V: Clone + Send,
{
    fn get(&self, key: &K) -> Option<V> {
        let wanted = (self.hasher.hash_one(key), key);
        self.lock().get(&wanted as &dyn Lookup<K>).cloned()
    }

    fn insert(&self, key: K, value: V) {
        let hash = self.hasher.hash_one(&key);
        let outgoing = {
            let mut entries = self.lock();
            match entries.get_mut(&(hash, &key) as &dyn Lookup<K>) {
                Some(slot) => (None, Some(mem::replace(slot, value))),
                None => (entries.push(Hashed { hash, key }, value), None),
            }
        };
        // Only now: their drops may use this cache.
        drop(outgoing);
    }

    fn remove(&self, key: &K) -> Option<V> {
        let wanted = (self.hasher.hash_one(key), key);
        let removed = self.lock().pop_entry(&wanted as &dyn Lookup<K>);
        removed.map(|(_, value)| value)
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn clear(&self) {
        let mut old = mem::replace(&mut *self.lock(), empty(self.capacity));
        // One by one: a drop that panics then leaks no other entry.
        while old.pop_lru().is_some() {}
    }
}

impl<K, V> Clone for LruCache<K, V> {
    fn clone(&self) -> Self {
        Self { capacity: self.capacity, hasher: self.hasher.clone(), entries: Arc::clone(&self.entries) }
    }
}

impl<K, V> fmt::Debug for LruCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.lock().len();
        f.debug_struct("LruCache")
            .field("len", &len)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

fn empty<K, V>(capacity: NonZeroUsize) -> Entries<K, V> {
    // `with_hasher` would allocate the whole capacity.
    let mut entries = Entries::unbounded_with_hasher(BuildHasherDefault::default());
    entries.resize(capacity);
    entries
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
