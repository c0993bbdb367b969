//! The cache of the `moka` crate.

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hash},
    num::NonZeroUsize,
    time::Duration,
};

use ::moka::sync::Cache as Moka;

use super::Cache;

/// The longest time to live that moka takes without a panic: 1000 years of 365 days.
const LONGEST: Duration = Duration::from_secs(1000 * 365 * 24 * 60 * 60);

/// Keeps the entries that are asked for most, and not for too long: the cache of the [`moka`](::moka) crate (0.12).
///
/// A newcomer that is asked for less often than the entry it would push out leaves first, maybe at once; so a scan does
/// not wash the popular entries away. Entries can also expire, by age or by disuse.
///
/// moka tidies up in batches, during later calls: for a while there may be more entries than the capacity, and
/// [`len`](Cache::len) and [`is_empty`](Cache::is_empty) are estimates that trail behind (right after an insert, `len`
/// may still be 0). Values that were evicted, removed or cleared are dropped later, at the latest some time after
/// the last handle, in whatever call tidies up: their drops must not panic. An expired value is never returned. [`clear`](Cache::clear) goes by the clock: an entry inserted in
/// the very tick of the clock in which it is called may stay.
///
/// Clones share their entries. Expiry follows moka's own clock, the machine's, not a paused one.
///
/// ```
/// use std::{num::NonZeroUsize, time::Duration};
///
/// use buttress::cache::{Cache, MokaCache};
///
/// let capacity = NonZeroUsize::new(10_000).unwrap();
/// let cache = MokaCache::builder(capacity).ttl(Duration::from_secs(300)).build();
/// cache.insert("user:42", "Ada");
/// assert_eq!(cache.get(&"user:42"), Some("Ada"));
/// ```
///
/// # From a moka cache to this
/// Whoever has a [`moka::sync::Cache`](Moka) keeps it, with its entries, weigher, listeners and hasher, and with a
/// clone of it whatever else moka can do. Its bound is then the one that it was built with. This conversion is why
/// moka's major version is part of this crate's interface.
///
/// ```
/// use buttress::cache::{Cache, MokaCache};
///
/// let mine = moka::sync::Cache::new(100);
/// let cache = MokaCache::from(mine.clone());
/// cache.insert(1, "one");
/// assert_eq!(mine.get_with(1, || "loaded"), "one");
/// ```
pub struct MokaCache<K, V, S = RandomState> {
    moka: Moka<K, V, S>,
}

impl<K, V> MokaCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A cache of about `capacity` entries that do not expire.
    pub fn new(capacity: NonZeroUsize) -> Self {
        MokaCache::builder(capacity).build()
    }
}

impl MokaCache<(), ()> {
    /// Starts a cache of about `capacity` entries, to say when they expire.
    pub fn builder(capacity: NonZeroUsize) -> MokaCacheBuilder {
        MokaCacheBuilder { capacity, ttl: None, tti: None }
    }
}

impl<K, V, S> From<Moka<K, V, S>> for MokaCache<K, V, S> {
    fn from(moka: Moka<K, V, S>) -> Self {
        Self { moka }
    }
}

impl<K, V, S> Cache<K, V> for MokaCache<K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    fn get(&self, key: &K) -> Option<V> {
        self.moka.get(key)
    }

    fn insert(&self, key: K, value: V) {
        self.moka.insert(key, value);
    }

    fn remove(&self, key: &K) -> Option<V> {
        // moka's `remove` also returns what has expired or was cleared, and is not tidied away yet.
        if !self.moka.contains_key(key) {
            return None;
        }
        self.moka.remove(key)
    }

    fn len(&self) -> usize {
        usize::try_from(self.moka.entry_count()).unwrap_or(usize::MAX)
    }

    fn clear(&self) {
        self.moka.invalidate_all();
    }
}

impl<K, V, S> Clone for MokaCache<K, V, S> {
    fn clone(&self) -> Self {
        Self { moka: self.moka.clone() }
    }
}

impl<K, V, S> fmt::Debug for MokaCache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MokaCache")
            .field("len", &self.moka.entry_count())
            .field("capacity", &self.moka.policy().max_capacity())
            .finish_non_exhaustive()
    }
}

/// Sets up a [`MokaCache`]. For more than this, build moka's own and convert it.
#[derive(Clone, Copy, Debug)]
#[must_use = "`build` makes the cache"]
pub struct MokaCacheBuilder {
    capacity: NonZeroUsize,
    ttl: Option<Duration>,
    tti: Option<Duration>,
}

impl MokaCacheBuilder {
    /// How long an entry lives after it was inserted. More than 1000 years count as 1000; with none at all, nothing
    /// is ever found.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl.min(LONGEST));
        self
    }

    /// How long an entry lives after it was last inserted or found. Limits as for [`ttl`](Self::ttl), which still
    /// holds when both are set.
    pub fn tti(mut self, tti: Duration) -> Self {
        self.tti = Some(tti.min(LONGEST));
        self
    }

    /// The cache, empty.
    pub fn build<K, V>(self) -> MokaCache<K, V>
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        let mut builder =
            Moka::builder().max_capacity(u64::try_from(self.capacity.get()).unwrap_or(u64::MAX));
        if let Some(ttl) = self.ttl {
            builder = builder.time_to_live(ttl);
        }
        if let Some(tti) = self.tti {
            builder = builder.time_to_idle(tti);
        }
        builder.build().into()
    }
}

#[cfg(test)]
mod tests;
