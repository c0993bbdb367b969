//! What a [`ReadThrough`] is told.

use std::{
    fmt,
    hash::{BuildHasher, Hash},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::sync::Semaphore;

use super::{Load, Loaded, ReadThrough, freshness::Freshness, read_through::Inner};
use crate::{
    balance::{Backoff, InvalidBackoff},
    cache::{MemoryCache, flight::SingleFlight},
    rng::Rng,
};

/// Background refreshes that go on at once, unless set otherwise.
const REFRESHES: usize = 64;

/// Sets up a [`ReadThrough`].
#[must_use = "`build` makes the cache"]
pub struct ReadThroughBuilder<K, V, L, S> {
    cache: MemoryCache<K, Loaded<V>, S>,
    loader: L,
    freshness: Freshness,
    refresh_ahead: Option<f64>,
    absent: Option<(usize, Duration)>,
    timeout: Option<Duration>,
    retries: u32,
    backoff: (Duration, Duration),
    refreshes: usize,
    spawned: bool,
    rng: Rng,
}

/// Why a [`ReadThrough`] cannot be as it is told.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidReadThrough {
    /// The jitter is not a share.
    #[error("a jitter of {0} makes no sense: give the largest share of the TTL to take off, from 0 to 1")]
    Jitter(f64),
    /// Values cannot be refreshed then.
    #[error("values cannot be refreshed after {0} of their TTL: give a share between 0 and 1")]
    RefreshAhead(f64),
    /// β makes no sense.
    #[error("an early expiry with a beta of {0} makes no sense: give 1, or a little more for earlier")]
    EarlyExpiry(f64),
    /// The pause after a failed load makes no sense.
    #[error(transparent)]
    Backoff(#[from] InvalidBackoff),
}

impl<K, V, L, S> ReadThroughBuilder<K, V, L, S> {
    pub(super) fn new(cache: MemoryCache<K, Loaded<V>, S>, loader: L) -> Self {
        Self {
            cache,
            loader,
            freshness: Freshness::FOREVER,
            refresh_ahead: None,
            absent: None,
            timeout: None,
            retries: 0,
            backoff: (Duration::from_millis(100), Duration::from_secs(10)),
            refreshes: REFRESHES,
            spawned: false,
            rng: Rng::from_thread(),
        }
    }

    /// Sets how long a value is served before another is loaded (default: for ever). It counts from the end of the load.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.freshness.ttl = ttl;
        self
    }

    /// Takes a random share of the TTL off, at most this one (default: 0), so that what was loaded together does not expire
    /// together.
    pub fn jitter(mut self, share: f64) -> Self {
        self.freshness.jitter = share;
        self
    }

    /// Refreshes a value in the background when it is asked for after this share of its TTL (default: not before it has
    /// expired). Callers of a key that is asked for often never wait again.
    pub fn refresh_ahead(mut self, share: f64) -> Self {
        self.refresh_ahead = Some(share);
        self
    }

    /// Refreshes a value in the background at a random time, some load times before it expires: `XFetch`. A `beta` of 1 is the
    /// best by the paper; more is earlier.
    ///
    /// Many processes that share an origin and have loaded at the same time then load at different times again. A load that
    /// takes no time expires when it should. Source: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache
    /// Stampede Prevention", VLDB 2015. The dice are thrown once in each load time and not for each request, so that a key
    /// that is asked for a thousand times a second is not loaded more often than its neighbour.
    pub fn early_expiry(mut self, beta: f64) -> Self {
        self.freshness.early = beta;
        self
    }

    /// Serves a value for so long after it has expired, while another is loaded in the background (default: not at all).
    /// Source: RFC 5861, section 3.
    pub fn stale_while_revalidate(mut self, time: Duration) -> Self {
        self.freshness.while_revalidate = time;
        self
    }

    /// Serves a value for so long after it has expired if no other can be loaded (default: not at all). Source: RFC 5861,
    /// section 4.
    pub fn stale_if_error(mut self, time: Duration) -> Self {
        self.freshness.if_error = time;
        self
    }

    /// Remembers for so long which keys have no value, at most so many of them (default: none). They have room of their own: a
    /// flood of them evicts no value. What is invalidated in the [`MemoryCache`] alone does not make them forgotten:
    /// [`ReadThrough::remove`] and [`clear`](ReadThrough::clear) do.
    pub fn negative(mut self, capacity: usize, ttl: Duration) -> Self {
        self.absent = Some((capacity, ttl));
        self
    }

    /// Gives up a load after so long (default: never). Uses tokio's timer.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Loads again when a load fails that another caller began, so many times at most (default: 0, all who wait share the error).
    /// However many wait, there is one load at a time, and so many and one in all.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets how long a key rests after a failed load, while there is a value to serve (default: 100 ms, and up to 10 s).
    pub fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.backoff = (base, cap);
        self
    }

    /// Sets how many refreshes run in the background at once (default: 64). With none, callers are served what there is, as
    /// long as it may be served.
    pub fn refreshes(mut self, at_once: usize) -> Self {
        self.refreshes = at_once.min(Semaphore::MAX_PERMITS);
        self
    }

    /// Runs every load as a task of tokio: it comes to its end, and is stored, though all callers leave.
    pub fn spawned(mut self) -> Self {
        self.spawned = true;
        self
    }

    /// Sets where jitter and early expiry come from (default: this thread's generator).
    pub fn rng(mut self, rng: Rng) -> Self {
        self.rng = rng;
        self
    }

    /// The cache.
    ///
    /// # Errors
    /// If a share is not one, a beta is negative, or the backoff makes no sense.
    pub fn build(mut self) -> Result<ReadThrough<K, V, L, S>, InvalidReadThrough>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Send + Sync + 'static,
        L: Load<K, V>,
        S: BuildHasher + Send + Sync + 'static,
    {
        let Freshness { jitter, early, .. } = self.freshness;
        if !(0.0..=1.0).contains(&jitter) {
            return Err(InvalidReadThrough::Jitter(jitter));
        }
        if let Some(share) = self.refresh_ahead {
            if !(share > 0.0 && share < 1.0) {
                return Err(InvalidReadThrough::RefreshAhead(share));
            }
            self.freshness.refresh_ahead = share;
        }
        if !(early >= 0.0 && early.is_finite()) {
            return Err(InvalidReadThrough::EarlyExpiry(early));
        }
        let flights = SingleFlight::new();
        let absent = self.absent.map(|(capacity, ttl)| {
            let capacity = u64::try_from(capacity).unwrap_or(u64::MAX);
            MemoryCache::builder(capacity).clock(Arc::clone(self.cache.clock())).ttl(ttl).build()
        });
        Ok(ReadThrough::from_inner(Inner {
            cache: self.cache,
            loader: self.loader,
            freshness: self.freshness,
            absent,
            flights: if self.spawned { flights.spawned() } else { flights },
            timeout: self.timeout,
            retries: self.retries,
            backoff: Backoff::new(self.backoff.0, self.backoff.1)?,
            refreshes: Arc::new(Semaphore::new(self.refreshes)),
            dice: AtomicU64::new(self.rng.next_u64()),
        }))
    }
}

impl<K, V, L, S> fmt::Debug for ReadThroughBuilder<K, V, L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadThroughBuilder").field("cache", &self.cache).finish_non_exhaustive()
    }
}
