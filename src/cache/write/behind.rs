//! Writes that are acknowledged before they are in the store.

use std::{
    fmt,
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout_at},
};

use super::{
    Store, Write, WriteTarget,
    buffer::{Buffer, Change},
};
use crate::{
    balance::{Backoff, InvalidBackoff},
    cache::caught::caught,
    rng::Rng,
};

/// Writes to a cache and a buffer, and from there to a store, many at once.
///
/// [`insert`](Self::insert) and [`remove`](Self::remove) return as soon as the write is in the buffer. A task writes the
/// buffer out in batches, and tries a batch again, after growing pauses, until the store takes it. Writes of the same key are
/// merged, and reach the store in order. When the buffer is full, callers wait for room.
///
/// **What may be lost**: what is in the buffer when the process or its runtime ends. So call [`shutdown`](Self::shutdown)
/// before. If the last handle is dropped without it, the task still writes everything out, as long as the runtime lives.
/// Callers may be cancelled at any time: a write is in the buffer or not at all.
///
/// **Who reads the store must look here first**, as it does not have everything yet: a loader asks
/// [`unsaved`](Self::unsaved). Entries that the cache evicts are still found there.
///
/// ```
/// use std::{convert::Infallible, sync::{Arc, Mutex}, time::Duration};
/// use buttress::cache::{MemoryCache, write::{Store, Write, WriteBehind}};
///
/// #[derive(Clone, Default)]
/// struct Log(Arc<Mutex<Vec<Write<&'static str, u32>>>>);
///
/// impl Store<&'static str, u32> for Log {
///     type Error = Infallible;
///
///     async fn write(&self, writes: Vec<Write<&'static str, u32>>) -> Result<(), Infallible> {
///         self.0.lock().unwrap().extend(writes);
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (cache, log) = (MemoryCache::new(1000), Log::default());
/// let visits = WriteBehind::builder(cache.clone(), log.clone()).delay(Duration::from_millis(50)).build()?;
/// for count in 1..=100 {
///     visits.insert("home", count).await?;
/// }
/// assert_eq!(cache.get("home"), Some(100));
/// visits.flush().await?;
/// assert_eq!(*log.0.lock().unwrap(), [Write::Put("home", 100)]);
/// # Ok(())
/// # }
/// ```
pub struct WriteBehind<K, V, C> {
    cache: C,
    shared: Arc<Shared<K, V>>,
    /// Tells the writer when the last handle goes.
    open: Arc<Open<K, V>>,
}

struct Shared<K, V> {
    state: Mutex<State<K, V>>,
    /// For keys in the buffer.
    room: Semaphore,
    /// There is something to do for the writer.
    work: Notify,
    /// Something has been done by the writer.
    done: Notify,
}

struct State<K, V> {
    buffer: Buffer<K, V>,
    /// No more writes are accepted.
    closed: bool,
    /// The writer is gone.
    stopped: bool,
    /// How many wait for the buffer to be written out.
    flushing: usize,
    /// How often in a row the store has failed.
    failures: u32,
}

impl<K, V> Shared<K, V> {
    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.work.notify_one();
    }
}

/// There is somebody who may write.
struct Open<K, V>(Arc<Shared<K, V>>);

impl<K, V> Drop for Open<K, V> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Nothing is written any more: after [`shutdown`](WriteBehind::shutdown), or because the runtime has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing is written any more: the writer was shut down, or its runtime has ended")]
pub struct WriterStopped;

impl<K, V, C> WriteBehind<K, V, C>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    C: WriteTarget<K, V>,
{
    /// Starts to set up a writer to `store`, behind `cache`.
    pub fn builder<W: Store<K, V>>(cache: C, store: W) -> WriteBehindBuilder<C, W> {
        WriteBehindBuilder::new(cache, store)
    }

    /// Gives a key a value: in the cache at once, in the store later. Waits for room in the buffer if it is full.
    ///
    /// # Errors
    /// After a shutdown. Nothing was written then.
    pub async fn insert(&self, key: K, value: V) -> Result<(), WriterStopped> {
        let right = self.accept(&key, Some(Arc::new(value.clone()))).await?;
        if !self.cache.commit(right, value) {
            // Another write at the same time: the buffer knows which of them is the last.
            self.cache.forget(&key);
        }
        Ok(())
    }

    /// Takes a key out: of the cache at once, of the store later. Waits for room in the buffer if it is full.
    ///
    /// # Errors
    /// After a shutdown. Nothing was written then.
    pub async fn remove(&self, key: K) -> Result<(), WriterStopped> {
        self.accept(&key, None).await?;
        self.cache.forget(&key);
        Ok(())
    }

    /// What was written to a key and is not in the store yet: a value, or that it was removed.
    #[allow(clippy::option_option, reason = "what is to become of the key, if anything is")]
    pub fn unsaved(&self, key: &K) -> Option<Option<V>> {
        let change = self.shared.lock().buffer.get(key);
        change.map(|change| change.map(Arc::unwrap_or_clone))
    }

    /// How many keys are not in the store as they were last written.
    pub fn pending(&self) -> usize {
        self.shared.lock().buffer.len()
    }

    /// How often in a row the store has failed until now.
    pub fn failures(&self) -> u32 {
        self.shared.lock().failures
    }

    /// Waits until all that was written before this call is in the store: for as long as that takes.
    ///
    /// # Errors
    /// If the runtime of the writer ends first.
    pub async fn flush(&self) -> Result<(), WriterStopped> {
        let number = self.shared.lock().buffer.accepted();
        let _flushing = Flushing::begin(&self.shared);
        loop {
            // Before the look, so that nothing is missed after it.
            let done = self.shared.done.notified();
            {
                let state = self.shared.lock();
                if state.buffer.is_stored(number) {
                    return Ok(());
                }
                if state.stopped {
                    return Err(WriterStopped);
                }
            }
            done.await;
        }
    }

    /// Accepts no more writes, and waits until all are in the store: for as long as that takes.
    ///
    /// # Errors
    /// If the runtime of the writer ends first.
    pub async fn shutdown(&self) -> Result<(), WriterStopped> {
        self.shared.close();
        self.flush().await
    }

    /// Puts a write into the buffer. Nothing is awaited after that.
    async fn accept(&self, key: &K, change: Change<V>) -> Result<C::Right, WriterStopped> {
        if let Some(right) = self.put(key, change.as_ref(), None)? {
            return Ok(right);
        }
        let place = self.shared.room.acquire().await.map_err(|_| WriterStopped)?;
        // With a place it is put in any case.
        self.put(key, change.as_ref(), Some(place))?.ok_or(WriterStopped)
    }

    /// Puts a write into the buffer, if its key has a place there or gets this one.
    fn put(
        &self,
        key: &K,
        change: Option<&Arc<V>>,
        place: Option<SemaphorePermit<'_>>,
    ) -> Result<Option<C::Right>, WriterStopped> {
        let (right, own) = (self.cache.begin(key), key.clone());
        let mut state = self.shared.lock();
        if state.closed {
            return Err(WriterStopped);
        }
        if !state.buffer.contains(key) {
            // Given back when the key is stored.
            let Some(place) = place else { return Ok(None) };
            place.forget();
        }
        let replaced = state.buffer.put(own, change.cloned());
        drop(state);
        drop(replaced);
        self.shared.work.notify_one();
        Ok(Some(right))
    }
}

/// Somebody waits for the buffer to be written out.
struct Flushing<'a, K, V>(&'a Shared<K, V>);

impl<'a, K, V> Flushing<'a, K, V> {
    fn begin(shared: &'a Shared<K, V>) -> Self {
        shared.lock().flushing += 1;
        shared.work.notify_one();
        Self(shared)
    }
}

impl<K, V> Drop for Flushing<'_, K, V> {
    fn drop(&mut self) {
        self.0.lock().flushing -= 1;
    }
}

impl<K, V, C: Clone> Clone for WriteBehind<K, V, C> {
    fn clone(&self) -> Self {
        let (shared, open) = (Arc::clone(&self.shared), Arc::clone(&self.open));
        Self { cache: self.cache.clone(), shared, open }
    }
}

impl<K, V, C: fmt::Debug> fmt::Debug for WriteBehind<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures = self.shared.lock().failures;
        f.debug_struct("WriteBehind")
            .field("cache", &self.cache)
            .field("failures", &failures)
            .finish_non_exhaustive()
    }
}

/// Sets up a [`WriteBehind`].
#[derive(Clone, Debug)]
#[must_use = "`build` starts the writer"]
pub struct WriteBehindBuilder<C, W> {
    cache: C,
    store: W,
    capacity: usize,
    batch: usize,
    delay: Duration,
    backoff: (Duration, Duration),
    rng: Rng,
}

/// Why a [`WriteBehind`] cannot be as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidWriteBehind {
    /// Nothing could be written.
    #[error("a buffer without room takes no writes: give a capacity above zero")]
    ZeroCapacity,
    /// Nothing could be written out.
    #[error("batches of nothing write nothing: give a size above zero")]
    ZeroBatch,
    /// The pause after a failure makes no sense.
    #[error(transparent)]
    Backoff(#[from] InvalidBackoff),
    /// There is no runtime for the task.
    #[error("writing behind needs a tokio runtime: build it inside of one")]
    NoRuntime,
}

impl<C, W> WriteBehindBuilder<C, W> {
    fn new(cache: C, store: W) -> Self {
        Self {
            cache,
            store,
            capacity: 10_000,
            batch: 100,
            delay: Duration::ZERO,
            backoff: (Duration::from_millis(50), Duration::from_secs(10)),
            rng: Rng::from_thread(),
        }
    }

    /// Sets how many keys may wait to be stored (default: 10,000). When so many do, writes of other keys wait.
    pub fn capacity(mut self, keys: usize) -> Self {
        self.capacity = keys;
        self
    }

    /// Sets how many keys are written with one call at most (default: 100).
    pub fn batch(mut self, keys: usize) -> Self {
        self.batch = keys;
        self
    }

    /// Sets how long the writer waits for more before it writes less than a whole batch (default: not at all). What is written
    /// to one key in the meantime is written once.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets the pause after a failure: up to `base` at first, twice that each time, and never more than `cap` (default: 50 ms
    /// and 10 s).
    pub fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.backoff = (base, cap);
        self
    }

    /// Sets what the pauses are drawn from (default: this thread's generator).
    pub fn rng(mut self, rng: Rng) -> Self {
        self.rng = rng;
        self
    }

    /// Starts the writer, as a task of the current tokio runtime.
    ///
    /// # Errors
    /// If the capacity or the batch is zero, the backoff makes no sense, or there is no runtime.
    pub fn build<K, V>(self) -> Result<WriteBehind<K, V, C>, InvalidWriteBehind>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        C: WriteTarget<K, V>,
        W: Store<K, V>,
    {
        if self.capacity == 0 {
            return Err(InvalidWriteBehind::ZeroCapacity);
        }
        if self.batch == 0 {
            return Err(InvalidWriteBehind::ZeroBatch);
        }
        let backoff = Backoff::new(self.backoff.0, self.backoff.1)?;
        let runtime = Handle::try_current().map_err(|_| InvalidWriteBehind::NoRuntime)?;
        let state = State { buffer: Buffer::new(), closed: false, stopped: false, flushing: 0, failures: 0 };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            room: Semaphore::new(self.capacity.min(Semaphore::MAX_PERMITS)),
            work: Notify::new(),
            done: Notify::new(),
        });
        let (batch, delay) = (self.batch, self.delay);
        let stopped = Stopped(Arc::clone(&shared));
        let writer = Writer { stopped, store: self.store, batch, delay, backoff, rng: self.rng };
        runtime.spawn(writer.run());
        let open = Arc::new(Open(Arc::clone(&shared)));
        Ok(WriteBehind { cache: self.cache, shared, open })
    }
}

/// Tells everybody when the writer is gone, however it went.
struct Stopped<K, V>(Arc<Shared<K, V>>);

impl<K, V> Drop for Stopped<K, V> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.close();
        self.0.done.notify_waiters();
    }
}

struct Writer<K, V, W> {
    stopped: Stopped<K, V>,
    store: W,
    batch: usize,
    delay: Duration,
    backoff: Backoff,
    rng: Rng,
}

impl<K, V, W> Writer<K, V, W>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    W: Store<K, V>,
{
    async fn run(mut self) {
        while self.wait().await {
            let changes = self.stopped.0.lock().buffer.take(self.batch);
            let written = self.write(&changes).await;
            let pause = self.settle(written);
            // The values that are not needed any more go here, and not under the lock: they may use the writer.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(changes)));
            if let Some(pause) = pause {
                sleep(pause).await;
            }
        }
    }

    /// After a batch. How long to wait before the next.
    fn settle(&mut self, written: bool) -> Option<Duration> {
        let shared = &*self.stopped.0;
        let mut state = shared.lock();
        if written {
            state.failures = 0;
            let left = state.buffer.stored();
            drop(state);
            shared.room.add_permits(left);
            shared.done.notify_waiters();
            return None;
        }
        let pause = self.backoff.delay(state.failures, &mut self.rng);
        state.failures = state.failures.saturating_add(1);
        state.buffer.failed();
        Some(pause)
    }

    /// Waits until there is something to write; false when there never will be.
    async fn wait(&self) -> bool {
        let shared = &*self.stopped.0;
        loop {
            {
                let state = shared.lock();
                if state.buffer.waiting() > 0 {
                    break;
                }
                if state.closed {
                    return false;
                }
            }
            shared.work.notified().await;
        }
        // What comes until then is written along.
        let until = Instant::now() + self.delay.min(LONGEST);
        loop {
            {
                let state = shared.lock();
                if state.closed || state.flushing > 0 || state.buffer.waiting() >= self.batch {
                    return true;
                }
            }
            if timeout_at(until, shared.work.notified()).await.is_err() {
                return true;
            }
        }
    }

    /// Whether the store has taken them. A panic of the store is a failure.
    async fn write(&self, changes: &[(K, Change<V>)]) -> bool {
        let writes = changes.iter().map(|(key, change)| match change {
            Some(value) => Write::Put(key.clone(), V::clone(value)),
            None => Write::Remove(key.clone()),
        });
        matches!(caught(async { self.store.write(writes.collect()).await }).await, Ok(Ok(())))
    }
}

/// The longest that the writer waits for more.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
