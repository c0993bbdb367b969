//! Writes that are in the store before they are in the cache.

use std::{fmt, marker::PhantomData, sync::Arc};

use super::{Store, Write, WriteTarget};

/// Writes to a store first, then to a cache.
///
/// A key that is being written is not in the cache: readers load it, and get what the store has. When writes of one key
/// overlap, nobody knows which of them the store keeps, so the cache keeps none of them. The same goes for a write that fails, or
/// whose caller is cancelled: it may still have reached the store. (It may even reach it later, when no call knows of it any
/// more: a TTL bounds for how long the cache may then be wrong.)
///
/// ```
/// use std::{collections::HashMap, convert::Infallible, sync::{Arc, Mutex}};
/// use buttress::cache::{MemoryCache, write::{Store, Write, WriteThrough}};
///
/// #[derive(Clone, Default)]
/// struct Table(Arc<Mutex<HashMap<u32, String>>>);
///
/// impl Store<u32, String> for Table {
///     type Error = Infallible;
///
///     async fn write(&self, writes: Vec<Write<u32, String>>) -> Result<(), Infallible> {
///         let mut table = self.0.lock().unwrap();
///         for write in writes {
///             match write {
///                 Write::Put(key, value) => table.insert(key, value),
///                 Write::Remove(key) => table.remove(&key),
///             };
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Infallible> {
/// let (cache, table) = (MemoryCache::new(100), Table::default());
/// let names = WriteThrough::new(cache.clone(), table.clone());
/// names.insert(42, "Ada".into()).await?;
/// assert_eq!(cache.get(&42).as_deref(), Some("Ada"));
/// assert_eq!(table.0.lock().unwrap().len(), 1);
/// # Ok(())
/// # }
/// ```
pub struct WriteThrough<K, V, C, W> {
    cache: C,
    store: Arc<W>,
    of: PhantomData<fn(K, V)>,
}

impl<K, V, C, W> WriteThrough<K, V, C, W>
where
    K: Clone,
    V: Clone,
    C: WriteTarget<K, V>,
    W: Store<K, V>,
{
    /// Writes to `store`, and keeps in `cache` what was written.
    pub fn new(cache: C, store: W) -> Self {
        Self { cache, store: Arc::new(store), of: PhantomData }
    }

    /// Gives a key a value, in the store and then in the cache.
    ///
    /// # Errors
    /// If the store fails: then it may have the value or not, and the cache does not.
    pub async fn insert(&self, key: K, value: V) -> Result<(), W::Error> {
        let mut unsure = Unsure::new(&self.cache, key.clone());
        let right = self.cache.begin(&key);
        self.store.write(vec![Write::Put(key, value.clone())]).await?;
        if self.cache.commit(right, value) {
            unsure.key = None;
        }
        Ok(())
    }

    /// Takes a key out of the store, and out of the cache.
    ///
    /// # Errors
    /// If the store fails: then it may have the value or not, and the cache does not.
    pub async fn remove(&self, key: K) -> Result<(), W::Error> {
        let _unsure = Unsure::new(&self.cache, key.clone());
        self.store.write(vec![Write::Remove(key)]).await
    }
}

/// A key whose value nobody knows: forgotten now, and again at the end, whichever that is.
struct Unsure<'a, K, V, C: WriteTarget<K, V>> {
    cache: &'a C,
    key: Option<K>,
    of: PhantomData<fn(V)>,
}

impl<'a, K, V, C: WriteTarget<K, V>> Unsure<'a, K, V, C> {
    fn new(cache: &'a C, key: K) -> Self {
        cache.forget(&key);
        Self { cache, key: Some(key), of: PhantomData }
    }
}

impl<K, V, C: WriteTarget<K, V>> Drop for Unsure<'_, K, V, C> {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.cache.forget(key);
        }
    }
}

impl<K, V, C: Clone, W> Clone for WriteThrough<K, V, C, W> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), store: Arc::clone(&self.store), of: PhantomData }
    }
}

impl<K, V, C: fmt::Debug, W> fmt::Debug for WriteThrough<K, V, C, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteThrough").field("cache", &self.cache).finish_non_exhaustive()
    }
}
