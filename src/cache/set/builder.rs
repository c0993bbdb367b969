//! How a cache is made.

use std::{collections::TryReserveError, fmt, marker::PhantomData, sync::Arc};

use foldhash::fast::RandomState;

use super::{SetCache, table::Table};

/// Settings of a [`SetCache`].
#[must_use]
pub struct SetCacheBuilder<K, V, S = RandomState> {
    capacity: usize,
    hasher: S,
    entries: PhantomData<fn() -> (K, V)>,
}

/// There is no memory for a cache of this capacity.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no memory for a cache of {capacity} entries; a smaller capacity may do")]
pub struct CapacityError {
    pub(super) capacity: usize,
    pub(super) source: TryReserveError,
}

impl<K, V> SetCacheBuilder<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, hasher: RandomState::default(), entries: PhantomData }
    }
}

impl<K, V, S> SetCacheBuilder<K, V, S> {
    /// Hashes keys with this hasher. It need not spread its bits well, as they are mixed once more. If keys come from
    /// clients, it should be seeded at random.
    pub fn hasher<T>(self, hasher: T) -> SetCacheBuilder<K, V, T> {
        SetCacheBuilder { capacity: self.capacity, hasher, entries: PhantomData }
    }

    /// Makes the cache. It takes 6 bytes for each entry of the capacity at once; the rest comes with the entries.
    ///
    /// # Errors
    /// When those are not to be had.
    pub fn build(self) -> Result<SetCache<K, V, S>, CapacityError> {
        let Self { capacity, hasher, .. } = self;
        let table = Table::new(capacity).map_err(|source| CapacityError { capacity, source })?;
        Ok(SetCache { table: Arc::new(table), hasher })
    }
}

impl<K, V, S> fmt::Debug for SetCacheBuilder<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetCacheBuilder").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
