//! Where values are written to, and the caches in front of it.

use std::hash::{BuildHasher, Hash};

use crate::cache::{
    Lease, MemoryCache,
    load::{Load, ReadThrough, Right},
};

/// Keeps values for good: a database, say.
pub trait Store<K, V>: Send + Sync + 'static {
    /// Why a write fails.
    type Error: Send + Sync + 'static;

    /// Writes all of these, of which no two have the same key.
    ///
    /// After an error any of them may have been written or not, and a [`WriteBehind`](super::WriteBehind) sends them again: writing
    /// the same twice must do no harm.
    fn write(&self, writes: Vec<Write<K, V>>) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What is to become of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write<K, V> {
    /// It has this value from now on.
    Put(K, V),
    /// It has none any more.
    Remove(K),
}

/// A cache that writes can pass: [`MemoryCache`] and [`ReadThrough`].
pub trait WriteTarget<K, V>: Clone + Send + Sync + 'static {
    /// The right to keep a value, as long as nothing else happens to its key.
    type Right: Send;

    /// Forgets what is here, and everything that is under way.
    fn forget(&self, key: &K);

    /// Begins a write.
    fn begin(&self, key: &K) -> Self::Right;

    /// Keeps what was written, unless something else has happened to the key; whether it has not.
    fn commit(&self, right: Self::Right, value: V) -> bool;
}

impl<K, V, S> WriteTarget<K, V> for MemoryCache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    type Right = Lease<K, V, S>;

    fn forget(&self, key: &K) {
        self.remove(key);
    }

    fn begin(&self, key: &K) -> Self::Right {
        self.lease(key)
    }

    fn commit(&self, right: Self::Right, value: V) -> bool {
        right.commit(value)
    }
}

impl<K, V, L, S> WriteTarget<K, V> for ReadThrough<K, V, L, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    L: Load<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    type Right = Right<K, V, L, S>;

    fn forget(&self, key: &K) {
        self.remove(key);
    }

    fn begin(&self, key: &K) -> Self::Right {
        self.right(key)
    }

    fn commit(&self, right: Self::Right, value: V) -> bool {
        right.keep(value)
    }
}
