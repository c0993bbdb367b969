//! Single flight: however many ask for the same at once, it is fetched once.
//!
//! A cache that expires under load would otherwise send every caller who misses to the origin: a stampede. With a
//! [`SingleFlight`] the first caller begins the load and the others join it.
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
//! use buttress::cache::flight::SingleFlight;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), buttress::cache::flight::FlightError> {
//! static LOADS: AtomicU32 = AtomicU32::new(0);
//! let flights = SingleFlight::new();
//! let page = || flights.run("/", |_| async {
//!     tokio::task::yield_now().await;
//!     LOADS.fetch_add(1, Relaxed);
//!     "the page"
//! });
//! let (one, other) = tokio::join!(page(), page());
//! assert_eq!((one?, other?), ("the page", "the page"));
//! assert_eq!(LOADS.load(Relaxed), 1);
//! # Ok(())
//! # }
//! ```
//!
//! **The load belongs to nobody.** Whoever waits polls it, so it goes on when the caller who began it is cancelled, and it
//! needs no task. When all have left it is dropped. With [`SingleFlight::spawned`] it runs as a task of its own, and to its
//! end in any case.
//!
//! **Nothing poisons a key.** A load that panics is over; of those who waited, each has a load of its own, and one of them
//! begins it.

mod join;
mod shared;
mod together;

use std::{
    fmt,
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

pub use self::join::{Join, Leader};
use self::shared::{Caller, Flight};
pub(crate) use self::together::Shared;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// Callers of different keys seldom meet at a lock, which is held for tens of nanoseconds.
const SHARDS: usize = 16;

/// Loads by key, of which there is one at a time for each.
///
/// What is shared is cloned for each caller: put an `Arc` around it if it is large. A result is shared with those who came
/// while it was being loaded, and with nobody else: keeping it is a cache's business. So whoever looks into a cache, finds
/// nothing and comes here, should look once more when the load begins: it may have been filled in between.
///
/// Clones share the loads. The table holds what is being loaded and nothing else.
pub struct SingleFlight<K, T> {
    table: Arc<Table<K, T>>,
    spawned: bool,
}

/// Why a load has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlightError {
    /// It panicked. Whoever joined it may load again.
    #[error("the load panicked: {0}")]
    Panicked(Arc<str>),
    /// The load of a key asked for that very key: it would wait for itself.
    #[error("the load of a key waits for itself: load that part under another key, or without the cache")]
    Recursive,
}

pub(super) struct Table<K, T> {
    hasher: RandomState,
    shards: [Mutex<HashTable<(K, Arc<Flight<T>>)>>; SHARDS],
}

impl<K, T> SingleFlight<K, T> {
    /// Loads that are polled by those who wait for them.
    pub fn new() -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(HashTable::new()));
        Self { table: Arc::new(Table { hasher: RandomState::default(), shards }), spawned: false }
    }

    /// Runs loads as tasks of tokio, from now on and for this handle and its clones: they come to their end though all
    /// callers leave, and though none of them is polled. Outside of a runtime they are polled by those who wait.
    #[must_use]
    pub fn spawned(mut self) -> Self {
        self.spawned = true;
        self
    }

    /// How many loads go on.
    pub fn len(&self) -> usize {
        self.table.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether no load goes on.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq, T> SingleFlight<K, T> {
    /// Joins the load of `key`, or begins it with `begin`, at once: what is returned is only to be awaited.
    ///
    /// `begin` is called if nobody else is loading this key, and gets the [`Leader`]. Its future is shared, so it must own
    /// what it uses.
    pub fn run<F, Fut>(&self, key: K, begin: F) -> Join<K, T, F>
    where
        K: Clone + Send + Sync + 'static,
        T: Clone + Send + Sync + 'static,
        F: FnOnce(&mut Leader) -> Fut,
        Fut: Future<Output = T> + Send + 'static,
    {
        Join::new(self.clone(), key, begin)
    }

    /// Whether this key is being loaded. By the time the caller looks at the answer, it may have changed.
    pub fn contains(&self, key: &K) -> bool {
        let hash = self.table.hasher.hash_one(key);
        lock(self.table.shard(hash)).find(hash, |(other, _)| other == key).is_some()
    }
}

impl<K, T> Table<K, T> {
    #[allow(clippy::cast_possible_truncation, reason = "the upper bits, of which a few are wanted")]
    fn shard(&self, hash: u64) -> &Mutex<HashTable<(K, Arc<Flight<T>>)>> {
        // The table of a shard goes by the lowest bits and the highest seven.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

impl<K: Hash + Eq + Clone, T> Table<K, T> {
    /// Joins the load of `key`, or becomes the first caller of a new one, which is still to be started.
    fn enter(&self, key: &K) -> (Caller<T>, bool) {
        let hash = self.hasher.hash_one(key);
        let owned = key.clone();
        let mut stale: Option<Arc<Flight<T>>> = None;
        loop {
            let mut shard = lock(self.shard(hash));
            let found = shard.find_mut(hash, |(other, _)| other == key);
            let flight = match found {
                // Neither over nor void, as far as is known.
                Some((_, flight)) if stale.as_ref().is_none_or(|stale| !Arc::ptr_eq(stale, flight)) => {
                    Arc::clone(flight)
                }
                Some((_, flight)) => {
                    let caller = Caller::new();
                    *flight = Arc::clone(caller.flight());
                    return (caller, true);
                }
                None => {
                    let caller = Caller::new();
                    let entry = (owned, Arc::clone(caller.flight()));
                    shard.insert_unique(hash, entry, |(key, _)| self.hasher.hash_one(key));
                    return (caller, true);
                }
            };
            drop(shard);
            match flight.join() {
                Some(caller) => return (caller, false),
                None => stale = Some(flight),
            }
        }
    }

    /// Takes a load out that is over, unless another has its place already.
    fn forget(&self, key: &K, flight: &Arc<Flight<T>>) {
        let hash = self.hasher.hash_one(key);
        let mut shard = lock(self.shard(hash));
        let found = shard.find_entry(hash, |(_, other)| Arc::ptr_eq(other, flight));
        let removed = found.ok().map(|entry| entry.remove().0);
        drop(shard);
        drop(removed);
    }
}

impl<K, T> Clone for SingleFlight<K, T> {
    fn clone(&self) -> Self {
        Self { table: Arc::clone(&self.table), spawned: self.spawned }
    }
}

impl<K, T> Default for SingleFlight<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, T> fmt::Debug for SingleFlight<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight").field("len", &self.len()).field("spawned", &self.spawned).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A key whose comparison panics leaves the table as it was.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
