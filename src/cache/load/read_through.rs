//! The handle through which values are read.

use std::{
    fmt,
    hash::{BuildHasher, Hash},
    ops::Deref,
    panic, slice,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::Semaphore};

use super::{
    Load, LoadError, ReadThroughBuilder,
    freshness::{Advice, Freshness, Stamp},
    together,
};
use crate::{
    balance::Backoff,
    cache::{
        Keep, Lease, MemoryCache, RandomState,
        caught::caught,
        flight::{Leader, SingleFlight},
    },
    rng::Rng,
};

/// A value in the cache of a [`ReadThrough`], with what is known of its load. Cheap to clone.
pub struct Loaded<V>(Arc<Entry<V>>);

struct Entry<V> {
    value: V,
    stamp: Stamp,
    /// After a failed refresh: until when to rest, in nanoseconds after the value was loaded.
    rest: AtomicU64,
    failures: AtomicU32,
}

/// A cache that loads what it does not have.
///
/// It sits on a [`MemoryCache`] that the application makes and may keep a handle of: to see its statistics, or to invalidate
/// entries. Whatever is removed there while it is being loaded is not stored. One load goes on for each key, as in
/// [`MemoryCache::get_with`], and nobody who waits for it is harmed when another is cancelled.
///
/// What is loaded stays until it is evicted, or for the times that the [builder](Self::builder) is given:
///
/// ```text
///  loaded         refresh_ahead    ttl                      ttl + stale_while_revalidate   ttl + stale_if_error
///    │  served          │  served,   │  served, though expired,   │  the caller waits for a     │  the caller waits
///    │                  │  refreshed │  and refreshed             │  load; if it fails, served  │  for a load
/// ```
///
/// Refreshes run in the background, as tasks of tokio, one for each key and a bounded number of all; outside of a runtime there
/// are none, and callers wait once a value has expired. Only an expired value is served in place of an error, never one
/// that was removed.
///
/// ```
/// use std::{io, time::Duration};
/// use buttress::cache::{MemoryCache, load::ReadThrough};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let name = |id: u32| async move { Ok::<_, io::Error>((id == 42).then(|| "Ada".to_owned())) };
/// let names = ReadThrough::builder(MemoryCache::new(10_000), name)
///     .ttl(Duration::from_secs(60))
///     .jitter(0.1)
///     .refresh_ahead(0.8)
///     .stale_if_error(Duration::from_secs(3600))
///     .build()?;
/// assert_eq!(names.get(&42).await?.as_deref(), Some("Ada"));
/// assert_eq!(names.get(&7).await?, None);
/// # Ok(())
/// # }
/// ```
pub struct ReadThrough<K, V, L: Load<K, V>, S = RandomState> {
    inner: Arc<Inner<K, V, L, S>>,
}

pub(super) struct Inner<K, V, L: Load<K, V>, S> {
    pub(super) cache: MemoryCache<K, Loaded<V>, S>,
    pub(super) loader: L,
    pub(super) freshness: Freshness,
    /// The keys that have no value.
    pub(super) absent: Option<MemoryCache<K, ()>>,
    pub(super) flights: SingleFlight<K, Outcome<V, L::Error>>,
    pub(super) timeout: Option<Duration>,
    pub(super) retries: u32,
    pub(super) backoff: Backoff,
    pub(super) refreshes: Arc<Semaphore>,
    pub(super) dice: AtomicU64,
}

type Outcome<V, E> = Result<Option<Loaded<V>>, LoadError<E>>;

impl<K, V, L, S> ReadThrough<K, V, L, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    L: Load<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Starts a cache over `cache` that loads with `loader`.
    pub fn builder(cache: MemoryCache<K, Loaded<V>, S>, loader: L) -> ReadThroughBuilder<K, V, L, S> {
        ReadThroughBuilder::new(cache, loader)
    }

    pub(super) fn from_inner(inner: Inner<K, V, L, S>) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The value of a key, or `None` if it has none: from the cache, or loaded.
    ///
    /// # Errors
    /// If the load fails, takes too long, panics, or asks for its own key, and there is nothing to serve instead. Errors are
    /// not kept.
    pub fn get(
        &self,
        key: &K,
    ) -> impl Future<Output = Result<Option<V>, LoadError<L::Error>>> + Send + use<K, V, L, S>
    where
        V: Clone,
    {
        let found = self.find(key).ok_or_else(|| (self.clone(), key.clone()));
        async move {
            let loaded = match found {
                Ok(found) => found,
                Err((this, key)) => this.load(key).await?,
            };
            Ok(loaded.map(|loaded| loaded.0.value.clone()))
        }
    }

    async fn load(&self, key: K) -> Outcome<V, L::Error> {
        let mut retries = self.inner.retries;
        loop {
            let (this, own) = (self.clone(), key.clone());
            let mut join = self.inner.flights.run(key.clone(), move |leader| this.begin(own, leader));
            let outcome = (&mut join).await.unwrap_or_else(|error| Err(error.into()));
            match outcome {
                Ok(loaded) => return Ok(loaded),
                Err(_) if !join.leads() && retries > 0 => retries -= 1,
                Err(error) => return self.instead(&key).map(Some).ok_or(error),
            }
        }
    }

    /// The values of many keys, in their order: from the cache, or loaded with one call of [`Load::load_many`] for all that are
    /// missing and that nobody else is loading.
    ///
    /// # Errors
    /// As [`get`](Self::get), for any of the keys, but without another try where the load of somebody else failed or panicked.
    /// Those whose load did not fail are kept.
    pub fn get_many(
        &self,
        keys: &[K],
    ) -> impl Future<Output = Result<Vec<Option<V>>, LoadError<L::Error>>> + Send + use<K, V, L, S>
    where
        V: Clone,
    {
        let values: Vec<_> = keys.iter().map(|key| self.find(key).ok_or_else(|| key.clone())).collect();
        let this = self.clone();
        async move {
            let loaded = this.load_missing(values).await?;
            Ok(loaded.into_iter().map(|loaded| loaded.map(|loaded| loaded.0.value.clone())).collect())
        }
    }

    async fn load_missing(
        &self,
        values: Vec<Result<Option<Loaded<V>>, K>>,
    ) -> Result<Vec<Option<Loaded<V>>>, LoadError<L::Error>> {
        let missing: Vec<_> = values.iter().filter_map(|value| value.as_ref().err()).collect();
        let claim = |key: &K, leader: &mut Leader| {
            let right = Right::of(leader, &self.inner, key);
            match self.inner.fresh(key) {
                Some(found) => Err(Ok(found)),
                None => Ok(move |loaded: Option<&Loaded<V>>| {
                    right.settle(loaded);
                }),
            }
        };
        let load = |keys| Self::load_many(Arc::clone(&self.inner), keys);
        let outcomes = together::load(&self.inner.flights, &missing, claim, load).await;
        let mut outcomes = outcomes.into_iter();
        let mut all = Vec::with_capacity(values.len());
        for value in values {
            all.push(match value {
                Ok(found) => found,
                Err(key) => {
                    let outcome = outcomes.next().map(|(outcome, _)| outcome);
                    match outcome.map(|outcome| outcome.unwrap_or_else(|error| Err(error.into()))) {
                        Some(Ok(loaded)) => loaded,
                        Some(Err(error)) => Some(self.instead(&key).ok_or(error)?),
                        None => None,
                    }
                }
            });
        }
        Ok(all)
    }

    /// Keeps a value, as if it had just been loaded. Loads of this key that go on are not stored.
    pub fn insert(&self, key: K, value: V) {
        let loaded = self.inner.loaded(value, Duration::ZERO);
        let keep = self.inner.keep(&loaded);
        if let Some(absent) = &self.inner.absent {
            self.inner.cache.insert_with(key.clone(), loaded, &keep);
            absent.remove(&key);
        } else {
            self.inner.cache.insert_with(key, loaded, &keep);
        }
    }

    /// Forgets a key: the next caller loads it, and loads of it that go on are not stored.
    pub fn remove(&self, key: &K) {
        self.inner.cache.remove(key);
        if let Some(absent) = &self.inner.absent {
            absent.remove(key);
        }
    }

    /// Forgets all keys. Loads that go on are not stored.
    pub fn clear(&self) {
        self.inner.cache.clear();
        if let Some(absent) = &self.inner.absent {
            absent.clear();
        }
    }

    /// The cache that it sits on.
    pub fn cache(&self) -> &MemoryCache<K, Loaded<V>, S> {
        &self.inner.cache
    }

    pub(in crate::cache) fn right(&self, key: &K) -> Right<K, V, L, S> {
        Right::new(&self.inner, key)
    }

    /// What is here and may be served: a value, or that there is none. Sets off a refresh if one is due.
    #[allow(clippy::option_option, reason = "what is known, if it is known")]
    fn find(&self, key: &K) -> Option<Option<Loaded<V>>> {
        let inner = &self.inner;
        let Some(loaded) = inner.cache.get(key) else {
            return inner.is_absent(key).then_some(None);
        };
        let now = inner.cache.clock().now();
        let serve = match inner.freshness.advise(&loaded.0.stamp, now, loaded.is_resting(now)) {
            Advice::Serve => true,
            Advice::Refresh { stale } => self.refresh(key) || !stale,
            Advice::Load => false,
        };
        serve.then_some(Some(loaded))
    }

    /// Loads in the background, unless somebody is at it or enough others do. Whether that is possible at all.
    fn refresh(&self, key: &K) -> bool {
        if self.inner.flights.contains(key) {
            return true;
        }
        let Ok(runtime) = Handle::try_current() else { return false };
        let Ok(permit) = Arc::clone(&self.inner.refreshes).try_acquire_owned() else { return true };
        let (this, own) = (self.clone(), key.clone());
        let join = self.inner.flights.run(key.clone(), move |leader| this.begin(own, leader));
        runtime.spawn(async move {
            // An error is noted where the value is.
            drop(join.await);
            drop(permit);
        });
        true
    }

    /// What may be served in place of an error. What was removed in the meantime is not here.
    fn instead(&self, key: &K) -> Option<Loaded<V>> {
        let loaded = self.inner.cache.peek(key)?;
        self.inner.freshness.may_stand_in(&loaded.0.stamp, self.inner.cache.clock().now()).then_some(loaded)
    }

    /// A load, by whoever leads.
    fn begin(
        &self,
        key: K,
        leader: &mut Leader,
    ) -> impl Future<Output = Outcome<V, L::Error>> + Send + use<K, V, L, S> {
        let inner = Arc::clone(&self.inner);
        let right = Right::of(leader, &inner, &key);
        async move {
            // It may have come since the caller looked.
            if let Some(found) = inner.fresh(&key) {
                return Ok(found);
            }
            let start = inner.cache.clock().now();
            let load = async { inner.loader.load(key.clone()).await };
            let outcome = inner.attempt(slice::from_ref(&key), load).await;
            let took = inner.cache.clock().now().saturating_duration_since(start);
            let loaded = outcome?.map(|value| inner.loaded(value, took));
            right.settle(loaded.as_ref());
            Ok(loaded)
        }
    }

    async fn load_many(
        inner: Arc<Inner<K, V, L, S>>,
        keys: Vec<K>,
    ) -> Result<Vec<(K, Loaded<V>)>, LoadError<L::Error>> {
        let start = inner.cache.clock().now();
        let load = async { inner.loader.load_many(keys.clone()).await };
        let outcome = inner.attempt(&keys, load).await;
        let took = inner.cache.clock().now().saturating_duration_since(start);
        Ok(outcome?.into_iter().map(|(key, value)| (key, inner.loaded(value, took))).collect())
    }
}

impl<K, V, L, S> Inner<K, V, L, S>
where
    K: Hash + Eq + Clone,
    L: Load<K, V>,
    S: BuildHasher,
{
    /// What is here and needs no load, for whoever is about to begin one.
    #[allow(clippy::option_option, reason = "what is known, if it is known")]
    fn fresh(&self, key: &K) -> Option<Option<Loaded<V>>> {
        let Some(loaded) = self.cache.peek(key) else { return self.is_absent(key).then_some(None) };
        let now = self.cache.clock().now();
        (self.freshness.advise(&loaded.0.stamp, now, false) == Advice::Serve).then_some(Some(loaded))
    }

    fn is_absent(&self, key: &K) -> bool {
        self.absent.as_ref().is_some_and(|absent| absent.get(key).is_some())
    }

    fn loaded(&self, value: V, took: Duration) -> Loaded<V> {
        let stamp = self.freshness.stamp(self.cache.clock().now(), took, &mut self.rng());
        Loaded(Arc::new(Entry { value, stamp, rest: AtomicU64::new(0), failures: AtomicU32::new(0) }))
    }

    /// For as long as it is of any use.
    fn keep(&self, loaded: &Loaded<V>) -> Keep {
        match self.freshness.keep(&loaded.0.stamp) {
            Duration::MAX => Keep::new(),
            keep => Keep::new().ttl(keep),
        }
    }

    /// After a failure, what is here rests for a while.
    fn rest(&self, key: &K) {
        if let Some(loaded) = self.cache.peek(key) {
            let failures = loaded.0.failures.fetch_add(1, Relaxed);
            let delay = self.backoff.delay(failures, &mut self.rng());
            let age = self.cache.clock().now().saturating_duration_since(loaded.0.stamp.loaded);
            let until = u64::try_from(age.saturating_add(delay).as_nanos()).unwrap_or(u64::MAX);
            loaded.0.rest.store(until, Relaxed);
        }
    }

    /// A load of these keys. If it fails, or panics, they rest.
    async fn attempt<T>(
        &self,
        keys: &[K],
        load: impl Future<Output = Result<T, L::Error>>,
    ) -> Result<T, LoadError<L::Error>> {
        let outcome = caught(self.in_time(load)).await;
        if !matches!(outcome, Ok(Ok(_))) {
            for key in keys {
                self.rest(key);
            }
        }
        outcome.unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    async fn in_time<T>(
        &self,
        load: impl Future<Output = Result<T, L::Error>>,
    ) -> Result<T, LoadError<L::Error>> {
        let result = match self.timeout {
            None => load.await,
            Some(limit) => tokio::time::timeout(limit, load).await.map_err(|_| LoadError::TimedOut(limit))?,
        };
        result.map_err(|error| LoadError::Failed(Arc::new(error)))
    }

    /// Numbers that follow from the seed, in the order in which they are asked for.
    fn rng(&self) -> Rng {
        Rng::seeded(self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed))
    }
}

/// The right of a load, or of a write, to say what a key has: until something else happens to it.
pub struct Right<K, V, L: Load<K, V>, S> {
    inner: Arc<Inner<K, V, L, S>>,
    key: K,
    value: Lease<K, Loaded<V>, S>,
    absence: Option<Lease<K, ()>>,
}

impl<K, V, L, S> Right<K, V, L, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    L: Load<K, V>,
    S: BuildHasher + Send + Sync + 'static,
{
    fn new(inner: &Arc<Inner<K, V, L, S>>, key: &K) -> Self {
        let value = inner.cache.lease(key);
        let absence = inner.absent.as_ref().map(|absent| absent.lease(key));
        Self { inner: Arc::clone(inner), key: key.clone(), value, absence }
    }

    /// The right of whoever leads a load, which others may join as long as it is valid.
    fn of(leader: &mut Leader, inner: &Arc<Inner<K, V, L, S>>, key: &K) -> Self {
        let right = Self::new(inner, key);
        let (may_store, may_be_absent) = (right.value.watch(), right.absence.as_ref().map(Lease::watch));
        leader.joinable_while(move || may_store() && may_be_absent.as_ref().is_none_or(|may| may()));
        right
    }

    /// Keeps what was written; whether nothing has happened to the key since.
    pub(in crate::cache) fn keep(self, value: V) -> bool {
        let loaded = self.inner.loaded(value, Duration::ZERO);
        self.settle(Some(&loaded))
    }

    /// Keeps what was loaded; whether nothing has happened to the key since.
    fn settle(self, loaded: Option<&Loaded<V>>) -> bool {
        let absent = self.inner.absent.as_ref();
        match (loaded, absent, self.absence) {
            (Some(loaded), ..) => {
                let stored = self.value.commit_with(loaded.clone(), &self.inner.keep(loaded));
                if let (true, Some(absent)) = (stored, absent) {
                    absent.remove(&self.key);
                }
                stored
            }
            // What has no value any more must not be served.
            (None, _, absence) => {
                let valid = self.value.commit_absence();
                if let (true, Some(absence)) = (valid, absence) {
                    absence.commit(());
                }
                valid
            }
        }
    }
}

impl<K, V, L: Load<K, V>, S> fmt::Debug for Right<K, V, L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Right").field("value", &self.value).finish_non_exhaustive()
    }
}

impl<V> Loaded<V> {
    fn is_resting(&self, now: Instant) -> bool {
        let rest = Duration::from_nanos(self.0.rest.load(Relaxed));
        !rest.is_zero() && now.saturating_duration_since(self.0.stamp.loaded) < rest
    }
}

impl<V> Deref for Loaded<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.0.value
    }
}

impl<V> Clone for Loaded<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: fmt::Debug> fmt::Debug for Loaded<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loaded").field(&self.0.value).finish()
    }
}

impl<K, V, L: Load<K, V>, S> Clone for ReadThrough<K, V, L, S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K, V, L: Load<K, V>, S> fmt::Debug for ReadThrough<K, V, L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadThrough")
            .field("cache", &self.inner.cache)
            .field("flights", &self.inner.flights)
            .finish_non_exhaustive()
    }
}
