//! Loads that are under way, so that none stores a value which is out of date.

use std::{
    borrow::Borrow,
    fmt,
    hash::{BuildHasher, Hash},
};

use hashbrown::HashTable;

use super::{Keep, MemoryCache};

/// How many places an empty list of leases may keep.
const SPARE: usize = 64;

/// The leases of a shard that are alive and valid.
///
/// A lease is known by the hash of its key: an unrelated key with the same 64 bits voids it for nothing, which costs a load
/// and harms nobody.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// The hash and the number of each.
    live: HashTable<(u64, u64)>,
    last: u64,
}

impl Leases {
    pub(super) fn begin(&mut self, hash: u64) -> u64 {
        self.last += 1;
        self.live.insert_unique(hash, (hash, self.last), |lease| lease.0);
        self.last
    }

    /// Ends a lease; whether it was still valid.
    pub(super) fn end(&mut self, hash: u64, id: u64) -> bool {
        let Ok(lease) = self.live.find_entry(hash, |lease| *lease == (hash, id)) else { return false };
        lease.remove();
        self.shrink();
        true
    }

    /// Ends all leases of a key.
    #[inline]
    pub(super) fn void(&mut self, hash: u64) {
        if !self.live.is_empty() {
            while let Ok(lease) = self.live.find_entry(hash, |lease| lease.0 == hash) {
                lease.remove();
            }
            self.shrink();
        }
    }

    pub(super) fn void_all(&mut self) {
        self.live.clear();
        self.shrink();
    }

    fn shrink(&mut self) {
        if self.live.is_empty() && self.live.capacity() > SPARE {
            self.live = HashTable::new();
        }
    }

    fn contains(&self, hash: u64, id: u64) -> bool {
        self.live.find(hash, |lease| *lease == (hash, id)).is_some()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }
}

/// The right to store the value of a key that is being loaded, for as long as nothing happens to that key.
///
/// From [`MemoryCache::lease`]. Dropped, it is given up.
#[must_use = "a lease that is dropped is given up"]
pub struct Lease<K, V, S = super::RandomState> {
    cache: MemoryCache<K, V, S>,
    /// Until it is committed.
    key: Option<K>,
    hash: u64,
    id: u64,
}

impl<K, V, S> Lease<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// Stores what was loaded, unless the lease is void; whether it was valid.
    pub fn commit(self, value: V) -> bool {
        self.commit_with(value, &Keep::new())
    }

    /// Stores what was loaded, unless the lease is void, and says how to keep it; whether the lease was valid.
    ///
    /// A valid lease does not make the cache keep what it would refuse otherwise: a value too large, say.
    pub fn commit_with(mut self, value: V, keep: &Keep) -> bool {
        let Some(key) = self.key.take() else { return false };
        self.cache.put(key, value, self.hash, keep, Some(self.id))
    }

    /// Takes the value of the key out, as a load has found that there is none, unless the lease is void; whether it was
    /// valid.
    pub fn commit_absence(mut self) -> bool {
        let Some(key) = self.key.take() else { return false };
        self.cache.take_out(&key, self.hash, Some(self.id)).is_some()
    }
}

impl<K, V, S> Lease<K, V, S> {
    /// Says later on whether the lease is still valid: neither void nor committed nor dropped.
    pub(in crate::cache) fn watch(&self) -> impl Fn() -> bool + use<K, V, S> {
        let (cache, hash, id) = (self.cache.clone(), self.hash, self.id);
        move || cache.shard(hash).read().leases.contains(hash, id)
    }
}

impl<K, V, S> Drop for Lease<K, V, S> {
    fn drop(&mut self) {
        if self.key.is_some() {
            self.cache.shard(self.hash).write().leases.end(self.hash, self.id);
        }
    }
}

impl<K, V, S> fmt::Debug for Lease<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<K, V, S> MemoryCache<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// Begins a load: a lease stores its value only if nothing happens to the key in the meantime.
    ///
    /// A load takes time, and what it read may be out of date when it is done. A lease is void as soon as its key is inserted
    /// or removed, and after [`clear`](Self::clear) and every invalidation: then its value is not stored.
    ///
    /// ```
    /// use buttress::cache::MemoryCache;
    ///
    /// let cache = MemoryCache::new(100);
    /// let lease = cache.lease(&"price");
    /// // While the price is being loaded, somebody changes it.
    /// cache.remove(&"price");
    /// assert!(!lease.commit(17), "it may be the old one");
    /// assert_eq!(cache.get(&"price"), None);
    /// ```
    pub fn lease<Q>(&self, key: &Q) -> Lease<K, V, S>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let hash = self.hash(key);
        let key = key.to_owned();
        let id = self.shard(hash).write().leases.begin(hash);
        Lease { cache: self.clone(), key: Some(key), hash, id }
    }
}
