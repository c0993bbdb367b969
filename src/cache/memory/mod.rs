//! The cache of this crate's own.

use std::{
    borrow::Borrow,
    fmt,
    hash::{BuildHasher, Hash},
    mem,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire},
        },
    },
};

use self::{
    budget::Budget,
    builder::Weigher,
    lease::Held,
    listener::{Listener, Outgoing},
    shard::{Newcomer, Room, Seen, Shard, low},
    striped::Striped,
};
pub use self::{
    builder::MemoryCacheBuilder,
    entry::{Entry, Update},
    keep::Keep,
    lease::Lease,
    listener::Cause,
    scan::Iter,
    snapshot::Snapshot,
    stats::Stats,
};
use super::{
    Cache,
    evict::Eviction,
    expire::{Aging, Life, NEVER},
    load::Loads,
};
use crate::time::Clock;

mod batch;
mod budget;
mod builder;
mod entry;
#[allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    reason = "the path of a hit has no calls; hashes are cut on purpose"
)]
mod index;
mod keep;
mod lease;
mod listener;
mod maintain;
mod scan;
#[allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    reason = "the path of a hit has no calls; slots are below 2³¹"
)]
mod shard;
#[allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    reason = "the path of a hit has no calls; slots are below 2³¹"
)]
mod slab;
mod snapshot;
mod stats;
mod striped;
mod tags;

/// The hasher unless another is set: foldhash, seeded anew for each cache.
pub type RandomState = foldhash::fast::RandomState;

/// Keeps entries in memory, within a capacity that is never exceeded, for many threads.
///
/// Clones share their entries.
///
/// ```
/// use buttress::cache::MemoryCache;
///
/// let cache = MemoryCache::new(10_000);
/// cache.insert("user:42", "Ada");
/// assert_eq!(cache.get("user:42"), Some("Ada"));
/// ```
pub struct MemoryCache<K, V, S = RandomState> {
    inner: Arc<Inner<K, V, S>>,
}

struct Inner<K, V, S> {
    shards: Box<[Striped<Shard<K, V>>]>,
    hasher: S,
    exclusive_hits: bool,
    /// Whether hits are exclusive, or put deadlines off.
    busy_hits: bool,
    budget: Budget,
    eviction: Eviction,
    weigher: Option<Weigher<K, V>>,
    listener: Option<Listener<K, V>>,
    aging: Aging,
    tag_epoch: Epoch,
    /// What is being loaded, from the first load on.
    loads: OnceLock<Loads<K, V>>,
}

impl<K, V> MemoryCache<K, V>
where
    K: Hash + Eq,
{
    /// A cache of at most `capacity` entries. With a capacity of 0 it keeps nothing.
    pub fn new(capacity: usize) -> Self {
        Self::builder(capacity as u64).build()
    }

    /// Starts a cache of this capacity: a number of entries, or their weight if a weigher is set.
    pub fn builder(capacity: u64) -> MemoryCacheBuilder<K, V> {
        MemoryCacheBuilder::new(capacity)
    }
}

impl<K, V, S> MemoryCache<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// The value of a key, if it is here. Counts as a use.
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "a call saves registers to memory, and the lock waits for that: 2 ns of 13"
    )]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let inner = &*self.inner;
        let hash = self.hash(key);
        let lock = self.shard(hash);
        // What most caches do not need is kept out of the way of the others.
        if inner.busy_hits {
            return self.get_busily(lock, hash, key);
        }
        let (value, deadline) = {
            let shard = lock.read();
            let found = shard.find(hash, key);
            shard.count(found.is_some());
            let (slot, value) = found?;
            shard.touch(slot, hash);
            (value.clone(), shard.deadline(slot))
        };
        // The clock is read last and under no lock, and only for an entry that can expire.
        if deadline != NEVER && inner.aging.is_over(deadline) {
            lock.read().recount();
            return None;
        }
        Some(value)
    }

    /// The value of a key in a cache whose hits need more than a note: the shard for themselves, or the time.
    #[inline(never)]
    fn get_busily<Q>(&self, lock: &Striped<Shard<K, V>>, hash: u64, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
        V: Clone,
    {
        let inner = &*self.inner;
        let idle = inner.aging.idle();
        let is_fresh = |shard: &Shard<K, V>, slot| idle.is_none_or(|(now, _)| shard.is_fresh(slot, now));
        let (value, deadline) = if inner.exclusive_hits {
            let mut shard = lock.write();
            let found = shard.find(hash, key).filter(|(slot, _)| is_fresh(&shard, *slot));
            let found = found.map(|(slot, value)| (slot, value.clone()));
            shard.count(found.is_some());
            let (slot, value) = found?;
            shard.promote(slot, hash);
            (value, shard.use_until(slot, idle))
        } else {
            let shard = lock.read();
            let found = shard.find(hash, key).filter(|(slot, _)| is_fresh(&shard, *slot));
            shard.count(found.is_some());
            let (slot, value) = found?;
            shard.touch(slot, hash);
            (value.clone(), shard.use_until(slot, idle))
        };
        if inner.aging.is_over(deadline) {
            lock.read().recount();
            return None;
        }
        Some(value)
    }

    /// The value of a key, if it is here, without counting as a use or a lookup.
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let hash = self.hash(key);
        let now = self.now();
        let lock = self.shard(hash);
        let shard = lock.read();
        let (_, value) = shard.find(hash, key).filter(|(slot, _)| shard.is_fresh(*slot, now))?;
        Some(value.clone())
    }

    /// Whether a key is here. Does not count as a use.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let now = self.now();
        let lock = self.shard(hash);
        let shard = lock.read();
        shard.find(hash, key).is_some_and(|(slot, _)| shard.is_fresh(slot, now))
    }

    /// Keeps a value, in place of an older one of the same key.
    ///
    /// A value that weighs more than the capacity is not kept, and neither is the older one then.
    pub fn insert(&self, key: K, value: V) {
        self.insert_with(key, value, const { &Keep::new() });
    }

    /// Keeps a value, and says how.
    pub fn insert_with(&self, key: K, value: V, keep: &Keep) {
        let hash = self.hash(&key);
        self.put(key, value, hash, keep, None);
    }

    /// Takes a value out.
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.take_out(key, self.hash(key), None).flatten()
    }

    /// Takes a value out, unless a lease is given which is void.
    #[allow(clippy::option_option, reason = "what was there, if the lease was valid")]
    fn take_out<Q>(&self, key: &Q, hash: u64, lease: Option<Held>) -> Option<Option<V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let now = self.now();
        let removed = {
            let lock = self.shard(hash);
            let mut shard = lock.write();
            if lease.is_some_and(|held| !shard.leases.end(hash, held.id)) {
                return None;
            }
            shard.leases.void(hash);
            let Some((slot, _)) = shard.find(hash, key) else { return Some(None) };
            let cause = if shard.is_fresh(slot, now) { Cause::Removed } else { Cause::Expired };
            shard.remove(slot, cause).map(|(key, value)| (key, value, cause))
        };
        let Some((key, value, cause)) = removed else { return Some(None) };
        if let Some(listener) = &self.inner.listener {
            listener(&key, &value, cause);
        }
        Some((cause == Cause::Removed).then_some(value))
    }

    /// Inserts, unless a lease is given which is void; whether it was valid.
    #[inline]
    fn put(&self, key: K, value: V, hash: u64, keep: &Keep, lease: Option<Held>) -> bool {
        let inner = &*self.inner;
        let weight = inner.weigher.as_ref().map_or(1, |weigher| weigher(&key, &value).max(1));
        let (now, life) = inner.aging.begin(hash, keep.ttl);
        let newcomer = Newcomer { hash, weight, now, life: life.unwrap_or(Life::ENDLESS), tags: &keep.tags };
        if life.is_none() {
            self.turn_away(key, value, &newcomer, lease, Cause::Expired)
        } else if weight > inner.budget.capacity() {
            self.turn_away(key, value, &newcomer, lease, Cause::TooLarge)
        } else {
            self.admit(key, value, &newcomer, lease, Grant { budget: &inner.budget, amount: 0 }, 1)
        }
    }

    /// Inserts what may be inserted. The grant is for its shard.
    fn admit(
        &self,
        key: K,
        value: V,
        newcomer: &Newcomer<'_>,
        lease: Option<Held>,
        mut grant: Grant<'_>,
        attempt: u32,
    ) -> bool {
        let inner = &*self.inner;
        let hash = newcomer.hash;
        let mut out = Outgoing::new();
        let mut shard = self.shard(hash).write();
        if lease.is_some_and(|held| !self.end_lease(&mut shard, newcomer, held)) {
            return false;
        }
        shard.warm(hash);
        shard.expire(newcomer.now, &mut { maintain::STEPS }, &mut out);
        let old = shard.find(hash, &key).map(|(slot, _)| slot);
        shard.leases.void(hash);
        if grant.amount > 0 {
            shard.grant(mem::take(&mut grant.amount));
        }
        match shard.make_room(old, newcomer, &inner.budget, &mut out) {
            Room::Made => {
                shard.insert(key, value, newcomer, &inner.budget);
                drop(shard);
                inner.aging.alarm().note(newcomer.life.deadline);
            }
            Room::Taken(slot) => {
                let value = shard.replace(slot, value, newcomer);
                drop(shard);
                inner.aging.alarm().note(newcomer.life.deadline);
                out.push(key, value, Cause::Replaced);
            }
            Room::Starved(missing) if attempt < ATTEMPTS => {
                // What happens to the key before the next attempt voids it as before.
                let lease = lease.map(|held| Held { id: shard.leases.begin(hash), ..held });
                drop(shard);
                grant.amount = self.gather(newcomer, missing, &mut out);
                out.settle(inner.listener.as_ref());
                return self.admit(key, value, newcomer, lease, grant, attempt + 1);
            }
            Room::Refused | Room::Starved(_) => {
                shard.counts.refused += 1;
                drop(shard);
                out.push(key, value, Cause::Refused);
            }
        }
        out.settle(inner.listener.as_ref());
        true
    }

    /// What is not to be inserted at all. What is there is out of date all the same.
    #[cold]
    fn turn_away(
        &self,
        key: K,
        value: V,
        newcomer: &Newcomer<'_>,
        lease: Option<Held>,
        cause: Cause,
    ) -> bool {
        let mut out = Outgoing::new();
        let mut shard = self.shard(newcomer.hash).write();
        if lease.is_some_and(|held| !self.end_lease(&mut shard, newcomer, held)) {
            return false;
        }
        shard.expire(newcomer.now, &mut { maintain::STEPS }, &mut out);
        shard.leases.void(newcomer.hash);
        let old = shard.find(newcomer.hash, &key).map(|(slot, _)| slot);
        if let Some((key, value)) = old.and_then(|slot| shard.remove(slot, Cause::Removed)) {
            out.push(key, value, Cause::Replaced);
        }
        shard.counts.refused += 1;
        drop(shard);
        out.push(key, value, cause);
        out.settle(self.inner.listener.as_ref());
        true
    }

    /// Ends a lease; whether it was valid. A value that was loaded under it may have tags only if none was invalidated since.
    fn end_lease(&self, shard: &mut Shard<K, V>, newcomer: &Newcomer<'_>, held: Held) -> bool {
        shard.leases.end(newcomer.hash, held.id)
            && (newcomer.tags.is_empty() || self.inner.tag_epoch.now() == held.epoch)
    }

    /// Takes quota from other shards, for a newcomer to one whose share is too small.
    #[cold]
    fn gather(&self, newcomer: &Newcomer<'_>, missing: u64, out: &mut Outgoing<K, V>) -> u64 {
        let inner = &*self.inner;
        let &Newcomer { hash, weight, .. } = newcomer;
        let home = self.place(hash);
        let mut gathered = inner.budget.claim(missing, 0);
        let others = (1..inner.shards.len()).map(|step| (home + step) % inner.shards.len());
        // All give the same part of what they have.
        let total = inner.budget.capacity().max(1);
        for round in 0..2 {
            for other in others.clone() {
                let wanted = missing.saturating_sub(gathered);
                if wanted == 0 {
                    return gathered;
                }
                let lock = &inner.shards[other];
                let mut shard = lock.write();
                let part = u128::from(shard.quota()) * u128::from(missing) / u128::from(total);
                let part =
                    if round == 0 { u64::try_from(part).unwrap_or(wanted).saturating_add(1) } else { wanted };
                gathered += shard.yield_quota(part.min(wanted), (low(hash), weight), out);
            }
        }
        gathered
    }
}

/// Counts the invalidations by tag.
#[derive(Debug, Default)]
struct Epoch(AtomicU64);

impl Epoch {
    fn now(&self) -> u64 {
        self.0.load(Acquire)
    }

    fn advance(&self) {
        self.0.fetch_add(1, AcqRel);
    }
}

/// How often an insertion tries, with quota of other shards from the second time on.
const ATTEMPTS: u32 = 4;

/// Quota on its way from one shard to another.
struct Grant<'a> {
    budget: &'a Budget,
    amount: u64,
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        self.budget.release(self.amount);
    }
}

impl<K, V, S> MemoryCache<K, V, S>
where
    S: BuildHasher,
{
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the two halves are folded")]
    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        // A hasher may leave patterns in its bits: foldhash does for some seeds, others always do.
        let product = u128::from(self.inner.hasher.hash_one(key)) * 0x9e37_79b9_7f4a_7c15;
        product as u64 ^ (product >> 64) as u64
    }
}

impl<K, V, S> MemoryCache<K, V, S> {
    /// Drops every entry.
    pub fn clear(&self) {
        let inner = &*self.inner;
        for lock in &inner.shards {
            let policy = inner.eviction.policy(inner.budget.fair());
            let (slab, quota) = lock.write().clear(policy);
            inner.budget.release(quota);
            for (key, value) in slab.into_entries() {
                if let Some(listener) = &inner.listener {
                    listener(&key, &value, Cause::Removed);
                }
            }
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        let len: usize = self.inner.shards.iter().map(|shard| shard.read().len()).sum();
        len.min(usize::try_from(self.inner.budget.capacity()).unwrap_or(usize::MAX))
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the entries weigh: their number, without a weigher.
    pub fn weight(&self) -> u64 {
        let weight: u64 = self.inner.shards.iter().map(|shard| shard.read().weight()).sum();
        weight.min(self.inner.budget.capacity())
    }

    /// The most that the entries may weigh: their number, without a weigher.
    pub fn capacity(&self) -> u64 {
        self.inner.budget.capacity()
    }

    /// What the cache has done so far, and what it holds.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for lock in &self.inner.shards {
            let (hits, misses) = lock.counts();
            let shard = lock.read();
            stats.hits += hits;
            stats.misses += misses;
            stats.insertions += shard.counts.insertions;
            stats.replaced += shard.counts.replaced;
            stats.evicted += shard.counts.evicted;
            stats.expired += shard.counts.expired;
            stats.removed += shard.counts.removed;
            stats.refused += shard.counts.refused;
            stats.len += shard.len();
            stats.weight += shard.weight();
        }
        stats
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        self.inner.aging.clock()
    }

    pub(super) fn loads(&self) -> &Loads<K, V> {
        self.inner.loads.get_or_init(Loads::new)
    }

    /// The shard of a hash: a power of two of them are chosen from by bits that nobody else looks at.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "32 bits")]
    fn place(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.inner.shards.len() - 1)
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Striped<Shard<K, V>> {
        &self.inner.shards[self.place(hash)]
    }

    /// The time; 0 as long as nothing can expire.
    #[inline]
    fn now(&self) -> u64 {
        self.inner.aging.now()
    }
}

impl<K, V, S> Clone for MemoryCache<K, V, S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K, V, S> fmt::Debug for MemoryCache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache")
            .field("len", &self.len())
            .field("weight", &self.weight())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

impl<K, V, S> Cache<K, V> for MemoryCache<K, V, S>
where
    K: Hash + Eq + Send + Sync,
    V: Clone + Send + Sync,
    S: BuildHasher + Send + Sync,
{
    fn get(&self, key: &K) -> Option<V> {
        MemoryCache::get(self, key)
    }

    fn insert(&self, key: K, value: V) {
        MemoryCache::insert(self, key, value);
    }

    fn remove(&self, key: &K) -> Option<V> {
        MemoryCache::remove(self, key)
    }

    fn len(&self) -> usize {
        MemoryCache::len(self)
    }

    fn clear(&self) {
        MemoryCache::clear(self);
    }
}

#[cfg(test)]
mod tests;
