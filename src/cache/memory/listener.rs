//! Who is told of what leaves a cache.

use std::{fmt, mem, sync::Arc};

/// Why an entry left a cache, or did not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The cache was full.
    Evicted,
    /// Its time was over.
    Expired,
    /// Another value of the same key took its place.
    Replaced,
    /// The application took it out: by key, by tag, by a predicate, or with everything else.
    Removed,
    /// It weighs more than the whole cache may. It never was in it.
    TooLarge,
    /// The eviction policy preferred what it had. It never was in the cache.
    Refused,
}

pub(super) type Listener<K, V> = Arc<dyn Fn(&K, &V, Cause) + Send + Sync>;

/// What left a shard while it was locked. Nothing of it is dropped, and nobody is told of it, until the lock is free.
pub(super) struct Outgoing<K, V> {
    // One by one is the rule, and takes no allocation.
    first: Option<(K, V, Cause)>,
    more: Vec<(K, V, Cause)>,
}

impl<K, V> Outgoing<K, V> {
    pub(super) const fn new() -> Self {
        Self { first: None, more: Vec::new() }
    }

    pub(super) fn push(&mut self, key: K, value: V, cause: Cause) {
        if self.first.is_none() {
            self.first = Some((key, value, cause));
        } else {
            self.more.push((key, value, cause));
        }
    }

    /// Tells the listener of each, and drops it.
    #[inline]
    pub(super) fn settle(&mut self, listener: Option<&Listener<K, V>>) {
        let tell = |(key, value, cause): (K, V, Cause)| {
            if let Some(listener) = listener {
                listener(&key, &value, cause);
            }
        };
        self.first.take().map(tell);
        if !self.more.is_empty() {
            mem::take(&mut self.more).into_iter().for_each(tell);
        }
    }
}

impl<K, V> fmt::Debug for Outgoing<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").finish_non_exhaustive()
    }
}
