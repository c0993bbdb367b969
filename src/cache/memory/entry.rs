//! One key, looked at and changed in one step.

use std::{
    fmt,
    hash::{BuildHasher, Hash},
};

use super::{MemoryCache, RandomState};

/// A key, and what is to become of its value. From [`MemoryCache::entry`].
#[must_use]
pub struct Entry<'a, K, V, S = RandomState> {
    cache: &'a MemoryCache<K, V, S>,
    key: K,
}

/// What is to become of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Update<V> {
    /// It stays as it is.
    Leave,
    /// This one takes its place.
    Put(V),
    /// It is taken out.
    Remove,
}

impl<K, V, S> MemoryCache<K, V, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    S: BuildHasher,
{
    /// One key, to be looked at and changed in one step.
    ///
    /// No lock is held while a function of yours runs. Instead the step counts only if nothing happened to the key in the
    /// meantime, and is done again otherwise.
    ///
    /// ```
    /// use buttress::cache::{MemoryCache, Update};
    ///
    /// let visits = MemoryCache::new(1000);
    /// for _ in 0..3 {
    ///     visits.entry("ada").update(|count| Update::Put(count.unwrap_or(0) + 1));
    /// }
    /// assert_eq!(visits.get("ada"), Some(3));
    /// ```
    pub fn entry(&self, key: K) -> Entry<'_, K, V, S> {
        Entry { cache: self, key }
    }
}

impl<K, V, S> Entry<'_, K, V, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    S: BuildHasher,
{
    /// The value, which `make` makes if there is none.
    ///
    /// Threads that find none at the same time all make one, and all get that of the first who was done, if the cache kept it.
    /// For one load however many ask, see `get_with`.
    pub fn or_insert_with(self, mut make: impl FnMut() -> V) -> V {
        loop {
            let lease = self.cache.lease::<K>(&self.key);
            if let Some(value) = self.cache.get(&self.key) {
                return value;
            }
            let value = make();
            if lease.commit(value.clone()) {
                return value;
            }
        }
    }

    /// Does to the value what `update` says, who is told what it is; what it is afterwards.
    ///
    /// `update` is called again if the key was inserted, removed or invalidated while it ran.
    pub fn update(self, mut update: impl FnMut(Option<V>) -> Update<V>) -> Option<V> {
        loop {
            let lease = self.cache.lease::<K>(&self.key);
            let value = self.cache.get(&self.key);
            match update(value.clone()) {
                Update::Leave => return value,
                Update::Put(value) => {
                    if lease.commit(value.clone()) {
                        return Some(value);
                    }
                }
                Update::Remove => {
                    if lease.commit_absence() {
                        return None;
                    }
                }
            }
        }
    }
}

impl<K, V, S> fmt::Debug for Entry<'_, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}
