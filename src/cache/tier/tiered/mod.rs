//! Memory, and the tiers below it, as one cache.

use std::{
    any::Any,
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::Mutex, task::AbortHandle};

use self::{floor::Floor, read::Descent};
use super::{Tier, TierError};
use crate::{
    cache::{MemoryCache, RandomState, flight::SingleFlight},
    time::{Clock, TokioClock},
};

mod floor;
mod read;
mod write;

/// Changes of keys that share a stripe are made one after the other.
const STRIPES: usize = 64;

/// A memory cache above other tiers: say memory, then disk, then a server that many nodes share, then whatever loads.
///
/// *Reads* go down until a tier has the value and copy it into the tiers above, for no longer than the lower tier says.
/// A tier that fails is passed over. *Writes and removals* go to all tiers, the lowest first; who reads meanwhile cannot
/// bring an old value back, as its leases and tickets are void. *One flight*: many who want the same key ask each tier
/// once, and load once.
///
/// Nodes that share a tier which tells of changes (`RedisTier` does) forget what another node has changed. Such messages can be
/// lost. So what is local (memory, disk) is kept for at most [`max_staleness`](TieredBuilder::max_staleness), and dropped
/// when messages may have been lost. What the disk kept while this node was down is used until then.
///
/// The memory cache may be used directly too: for what concerns this node only.
///
/// A cheap handle: clones share everything. Needs a tokio runtime.
///
/// ```
/// use std::{convert::Infallible, time::Duration};
/// use buttress::cache::{MemoryCache, tier::Tiered};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // `.tier(disk).tier(redis)`, in this order, from the nearest to the farthest.
/// let users = Tiered::builder(MemoryCache::new(10_000)).ttl(Duration::from_secs(600)).build();
///
/// let user = users.try_get_with(&42, || async { Ok::<_, Infallible>("Ada") }).await?;
/// assert_eq!((user, users.get(&42).await), ("Ada", Some("Ada")));
/// users.remove(&42).await?;
/// assert_eq!(users.get(&42).await, None);
/// # Ok(())
/// # }
/// ```
pub struct Tiered<K, V> {
    shared: Arc<Shared<K, V>>,
}

struct Shared<K, V> {
    memory: MemoryCache<K, V>,
    /// From the nearest to the farthest.
    floors: Vec<Arc<Floor<K, V>>>,
    lookups: SingleFlight<K, Descent<V>>,
    loads: SingleFlight<K, Loaded<V>>,
    hasher: RandomState,
    stripes: [Mutex<()>; STRIPES],
    ttl: Option<Duration>,
    /// The longest that a local tier keeps anything.
    local: Option<Duration>,
    clock: Arc<dyn Clock>,
    followers: std::sync::Mutex<Vec<AbortHandle>>,
    loads_done: AtomicU64,
    loads_failed: AtomicU64,
}

/// What a load came to; nothing, if it found the value in a tier no more and had nothing to load it with.
type Loaded<V> = Option<Result<V, Arc<dyn Any + Send + Sync>>>;

/// A change that some tiers may not have made.
#[derive(Debug, thiserror::Error)]
#[error("not done in every tier: {}", describe(failures))]
pub struct Incomplete {
    /// Which they are, and why.
    pub failures: Vec<(&'static str, TierError)>,
}

fn describe(failures: &[(&str, TierError)]) -> String {
    let failures: Vec<_> = failures.iter().map(|(name, error)| format!("{name}: {error}")).collect();
    failures.join(", ")
}

impl Incomplete {
    fn unless_empty(failures: Vec<(&'static str, TierError)>) -> Result<(), Self> {
        if failures.is_empty() { Ok(()) } else { Err(Self { failures }) }
    }
}

/// What a tier of a [`Tiered`] has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierStats {
    /// The tier: `memory`, `disk`, `redis`, `loader`.
    pub name: &'static str,
    /// Lookups that found a value; of the loader, loads that gave one.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Calls that failed; of the loader, loads that failed.
    pub failures: u64,
    /// Values that were copied into it from below.
    pub fills: u64,
    /// Copies that it refused, because the key was changed in the meantime.
    pub refused: u64,
    /// Changes that it has not been told of yet, because it failed then. The keys they concern are not read from it.
    pub owed: usize,
}

impl<K, V> Tiered<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Starts with the memory cache, which comes first.
    pub fn builder(memory: MemoryCache<K, V>) -> TieredBuilder<K, V> {
        TieredBuilder {
            memory,
            tiers: Vec::new(),
            ttl: None,
            max_staleness: None,
            clock: Arc::new(TokioClock),
        }
    }

    /// The memory cache. What is done to it directly concerns no other tier.
    pub fn memory(&self) -> &MemoryCache<K, V> {
        &self.shared.memory
    }

    /// What each tier has done so far: memory, the others in their order, and the loader.
    pub fn stats(&self) -> Vec<TierStats> {
        let shared = &*self.shared;
        let memory = shared.memory.stats();
        let none = TierStats { name: "", hits: 0, misses: 0, failures: 0, fills: 0, refused: 0, owed: 0 };
        let mut stats = vec![TierStats { name: "memory", hits: memory.hits, misses: memory.misses, ..none }];
        stats.extend(shared.floors.iter().map(|floor| floor.stats()));
        stats.push(TierStats {
            name: "loader",
            hits: shared.loads_done.load(Relaxed),
            failures: shared.loads_failed.load(Relaxed),
            ..none
        });
        stats
    }
}

impl<K, V> Shared<K, V> {
    /// How long a local tier may keep what lives for `ttl`.
    fn locally(&self, ttl: Option<Duration>) -> Option<Duration> {
        match (ttl, self.local) {
            (Some(ttl), Some(local)) => Some(ttl.min(local)),
            (ttl, local) => ttl.or(local),
        }
    }
}

impl<K, V> Drop for Shared<K, V> {
    fn drop(&mut self) {
        let followers = self.followers.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        followers.iter().for_each(AbortHandle::abort);
    }
}

impl<K, V> Clone for Tiered<K, V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K, V> fmt::Debug for Tiered<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tiers: Vec<_> = self.shared.floors.iter().map(|floor| &floor.tier).collect();
        f.debug_struct("Tiered")
            .field("memory", &self.shared.memory)
            .field("tiers", &tiers)
            .finish_non_exhaustive()
    }
}

/// Sets up a [`Tiered`].
#[must_use = "`build` makes the cache"]
pub struct TieredBuilder<K, V> {
    memory: MemoryCache<K, V>,
    tiers: Vec<Arc<dyn Tier<K, V>>>,
    ttl: Option<Duration>,
    max_staleness: Option<Duration>,
    clock: Arc<dyn Clock>,
}

/// How long a node may go by what it has kept, unless it is said otherwise.
const MAX_STALENESS: Duration = Duration::from_secs(300);

impl<K, V> TieredBuilder<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Adds a tier below those that there are.
    pub fn tier(mut self, tier: impl Tier<K, V> + 'static) -> Self {
        self.tiers.push(Arc::new(tier));
        self
    }

    /// How long values live that are loaded or inserted. For ever unless set.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How long this node may keep a value without asking the shared tier again: the longest that it can miss a change of
    /// another node, if every message is lost. 5 minutes unless set; of no use without a shared tier.
    pub fn max_staleness(mut self, max_staleness: Duration) -> Self {
        self.max_staleness = Some(max_staleness);
        self
    }

    /// The clock by which values age on their way up.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The cache. Starts a task for each tier that tells of changes, which needs a tokio runtime.
    pub fn build(self) -> Tiered<K, V> {
        let is_shared = self.tiers.iter().any(|tier| tier.is_shared());
        let shared = Arc::new(Shared {
            memory: self.memory,
            floors: self.tiers.into_iter().map(|tier| Arc::new(Floor::new(tier))).collect(),
            lookups: SingleFlight::new(),
            loads: SingleFlight::new(),
            hasher: RandomState::default(),
            stripes: std::array::from_fn(|_| Mutex::new(())),
            ttl: self.ttl,
            local: is_shared.then(|| self.max_staleness.unwrap_or(MAX_STALENESS)),
            clock: self.clock,
            followers: std::sync::Mutex::default(),
            loads_done: AtomicU64::new(0),
            loads_failed: AtomicU64::new(0),
        });
        let mut followers = Vec::new();
        for (at, floor) in shared.floors.iter().enumerate() {
            if let Some(notices) = floor.tier.notices() {
                let follow = write::follow(Arc::downgrade(&shared), at, notices);
                followers.push(tokio::spawn(follow).abort_handle());
            }
        }
        *shared.followers.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = followers;
        Tiered { shared }
    }
}

impl<K, V> fmt::Debug for TieredBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredBuilder").field("tiers", &self.tiers).finish_non_exhaustive()
    }
}
