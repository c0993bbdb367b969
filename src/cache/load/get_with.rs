//! Loads of a [`MemoryCache`].

use std::{
    any::Any,
    convert::Infallible,
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use super::{LoadError, together};
use crate::cache::{
    Lease, MemoryCache,
    flight::{FlightError, Leader, SingleFlight},
};

/// The loads of a cache: those of one key may differ in the type of their errors. No value and no error means that a batch
/// did not have it.
pub(in crate::cache) type Loads<K, V> = SingleFlight<K, Loaded<V>>;
pub(in crate::cache) type Loaded<V> = Result<Option<V>, Arc<dyn Any + Send + Sync>>;

/// How often a caller joins loads of another kind, which end without a value and without an error that it can name.
const OTHERS: usize = 8;

impl<K, V, S> MemoryCache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// The value of a key: from the cache, or loaded.
    ///
    /// However many ask at once, there is one load, which whoever waits polls: so it goes on when the caller who began it is
    /// cancelled, and it must own what it uses. It is dropped when all have left. A load that began before its key was
    /// inserted, removed or invalidated is not stored, and who comes after that does not join it.
    ///
    /// ```
    /// use buttress::cache::MemoryCache;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let cache = MemoryCache::new(1000);
    /// let price = || cache.get_with(&"apple", || async { 17 });
    /// assert_eq!(tokio::join!(price(), price()), (17, 17));
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the load panics, or asks for its own key. Of those who wait for a load that panics, one begins a load of its own.
    pub async fn get_with<F, Fut>(&self, key: &K, load: F) -> V
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = V> + Send + 'static,
    {
        let load = || {
            let load = load();
            async { Ok::<_, Infallible>(load.await) }
        };
        self.try_get_with(key, load).await.unwrap_or_else(|error| error.panic())
    }

    /// The value of a key: from the cache, or loaded, unless that fails. As [`get_with`](Self::get_with).
    ///
    /// An error is shared with all who wait for the same load, and is not kept: the next caller loads again.
    ///
    /// ```
    /// use buttress::cache::{MemoryCache, load::LoadError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), LoadError<std::num::ParseIntError>> {
    /// let cache = MemoryCache::new(1000);
    /// let answer = cache.try_get_with(&"answer", || async { "42".parse() }).await?;
    /// assert_eq!((answer, cache.get("answer")), (42, Some(42)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the load fails or panics, or asks for its own key.
    pub async fn try_get_with<F, Fut, E>(&self, key: &K, load: F) -> Result<V, LoadError<E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        if let Some(value) = self.get(key) {
            return Ok(value);
        }
        let mut load = Some(load);
        for _ in 0..OTHERS {
            let begin = |leader: &mut Leader| {
                let lease = self.lease(key);
                leader.joinable_while(lease.watch());
                // It may have come since this caller looked.
                let found = self.peek(key);
                let load = if found.is_none() { load.take().map(|load| load()) } else { None };
                finish(found, load, lease)
            };
            match self.loads().run(key.clone(), begin).await? {
                Ok(Some(value)) => return Ok(value),
                Err(error) => match error.downcast() {
                    Ok(error) => return Err(LoadError::Failed(error)),
                    Err(_of_another_kind) => {}
                },
                Ok(None) => {}
            }
        }
        // Never alone with its key: as good as a miss in a cache that keeps nothing.
        match load {
            Some(load) => load().await.map_err(|error| LoadError::Failed(Arc::new(error))),
            None => Err(LoadError::Broken(FlightError::Recursive)),
        }
    }

    /// The values of many keys, in their order: from the cache, or loaded with one call for all that are missing.
    ///
    /// `load` gets the keys that nobody else is loading, and returns pairs; the rest are waited for. Overlapping batches load
    /// no key twice. A key that `load` does not return has no value, which is not kept. It is called again only for
    /// keys whose load by somebody else came to nothing. For the rest as [`try_get_with`](Self::try_get_with).
    ///
    /// ```
    /// use buttress::cache::MemoryCache;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), buttress::cache::load::LoadError<std::io::Error>> {
    /// let cache = MemoryCache::new(1000);
    /// cache.insert(1, "one");
    /// let rest = |keys: Vec<u32>| async move {
    ///     assert_eq!(keys, [2, 3]);
    ///     Ok(vec![(2, "two")])
    /// };
    /// let values = cache.get_many_with(&[1, 2, 3], rest).await?;
    /// assert_eq!(values, [Some("one"), Some("two"), None]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a load fails or panics, or asks for one of its own keys: those that did not fail are kept.
    pub async fn get_many_with<F, Fut, E>(&self, keys: &[K], load: F) -> Result<Vec<Option<V>>, LoadError<E>>
    where
        F: Fn(Vec<K>) -> Fut,
        Fut: Future<Output = Result<Vec<(K, V)>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let mut values: Vec<_> = keys.iter().map(|key| self.get(key)).collect();
        let mut missing: Vec<_> = (0..keys.len()).filter(|at| values[*at].is_none()).collect();
        for _ in 0..OTHERS {
            if missing.is_empty() {
                break;
            }
            let lead = |key: &K, leader: &mut Leader| {
                let lease = self.lease(key);
                leader.joinable_while(lease.watch());
                match self.peek(key) {
                    Some(found) => Err(Ok(Some(found))),
                    None => Ok(move |value: Option<&V>| {
                        value.map(|value| lease.commit(value.clone()));
                    }),
                }
            };
            let load = |keys| {
                let load = load(keys);
                async { load.await.map_err(|error| Arc::new(error) as Arc<dyn Any + Send + Sync>) }
            };
            let wanted: Vec<_> = missing.iter().map(|at| &keys[*at]).collect();
            let outcomes = together::load(self.loads(), &wanted, lead, load).await;
            let mut again = Vec::new();
            for (at, (outcome, led)) in missing.into_iter().zip(outcomes) {
                match outcome {
                    Ok(Ok(Some(value))) => values[at] = Some(value),
                    Ok(Ok(None)) if led => {}
                    Ok(Err(error)) => match error.downcast() {
                        Ok(error) => return Err(LoadError::Failed(error)),
                        Err(_of_another_kind) => again.push(at),
                    },
                    Err(error) if led => return Err(error.into()),
                    Ok(Ok(None)) | Err(_) => again.push(at),
                }
            }
            missing = again;
        }
        Ok(values)
    }
}

/// The rest of a load, once it has begun.
async fn finish<K, V, S, E>(
    found: Option<V>,
    load: Option<impl Future<Output = Result<V, E>>>,
    lease: Lease<K, V, S>,
) -> Loaded<V>
where
    K: Hash + Eq,
    V: Clone,
    S: BuildHasher,
    E: Send + Sync + 'static,
{
    let Some(load) = load else { return Ok(found) };
    match load.await {
        Ok(value) => {
            lease.commit(value.clone());
            Ok(Some(value))
        }
        Err(error) => Err(Arc::new(error)),
    }
}
