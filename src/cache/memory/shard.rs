//! A part of the table: told the hash and the time, and under a lock of its own.

use std::{borrow::Borrow, mem};

use super::{
    super::{
        evict::{Evict, Policy, Slot, Victim},
        expire::{Life, NEVER, Timers},
    },
    budget::Budget,
    index::{self, Index},
    lease::Leases,
    listener::{Cause, Outgoing},
    slab::Slab,
    tags::Tags,
};

/// How many slots a shard begins with.
const FIRST: usize = 16;

/// An empty shard keeps the memory of so many slots.
const SPARE: usize = 64;

/// A shard of fewer entries is in the processor's caches, more or less.
const FAR: usize = 1 << 13;

#[derive(Debug)]
pub(super) struct Shard<K, V> {
    index: Index,
    slab: Slab<K, V>,
    policy: Policy,
    /// The weight of the entries, and how much they may weigh.
    weight: u64,
    quota: u64,
    /// The capacity that the policy was told.
    told: u64,
    /// By slot, if there is a weigher.
    weights: Option<Vec<u64>>,
    timers: Timers,
    /// From the first entry that has any.
    tags: Option<Box<Tags>>,
    pub(super) leases: Leases,
    pub(super) counts: Counts,
}

/// What writers count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) insertions: u64,
    pub(super) replaced: u64,
    pub(super) evicted: u64,
    pub(super) expired: u64,
    pub(super) removed: u64,
    pub(super) refused: u64,
}

/// What is inserted, but for the key and the value.
pub(super) struct Newcomer<'a> {
    pub(super) hash: u64,
    pub(super) weight: u64,
    /// The time.
    pub(super) now: u64,
    pub(super) life: Life,
    pub(super) tags: &'a [u64],
}

/// An entry, as it was.
pub(super) struct Seen<K, V> {
    pub(super) slot: Slot,
    pub(super) key: K,
    pub(super) value: V,
    pub(super) deadline: u64,
    pub(super) tags: Vec<u64>,
}

/// Whether something fits.
pub(super) enum Room {
    /// In a slot of its own.
    Made,
    /// In this slot, in place of the value that is there.
    Taken(Slot),
    Refused,
    /// The quota of the shard has to grow by so much.
    Starved(u64),
}

/// Of a hash, what the table and the policy see. The rest chose the shard.
#[inline]
pub(super) fn low(hash: u64) -> u32 {
    hash as u32
}

/// Spreads the part of a hash that the table keeps over 64 bits, for policies.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl<K, V> Shard<K, V> {
    /// An empty shard. `share` is what it may expect of the capacity.
    pub(super) fn new(policy: Policy, share: u64, weighted: bool) -> Self {
        Self {
            index: Index::new(),
            slab: Slab::new(),
            policy,
            weight: 0,
            quota: 0,
            told: share,
            weights: weighted.then(Vec::new),
            timers: Timers::new(),
            tags: None,
            leases: Leases::default(),
            counts: Counts::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) fn exclusive_hits(&self) -> bool {
        self.policy.exclusive_hits()
    }

    #[inline(always)]
    pub(super) fn find<Q>(&self, hash: u64, key: &Q) -> Option<(Slot, &V)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.index.find(low(hash), |slot| {
            let (found, value) = self.slab.get(slot)?;
            (found.borrow() == key).then_some((slot, value))
        })
    }

    /// The slot where a key probably is, if anywhere.
    #[inline]
    pub(super) fn hint(&self, hash: u64) -> Slot {
        self.index.hint(low(hash))
    }

    /// The value of a key whose slot may be this.
    #[inline(always)]
    pub(super) fn check_hint<Q>(&self, slot: Slot, key: &Q) -> Option<(Slot, &V)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let (found, value) = self.slab.get(slot)?;
        (found.borrow() == key).then_some((slot, value))
    }

    /// Whether the entry may still be returned.
    #[inline]
    pub(super) fn is_fresh(&self, slot: Slot, now: u64) -> bool {
        now < self.timers.deadline(slot)
    }

    /// From when on the value of an entry may not be returned.
    #[inline(always)]
    pub(super) fn deadline(&self, slot: Slot) -> u64 {
        self.timers.deadline(slot)
    }

    /// From when on the value of an entry that is in use now may not be returned.
    ///
    /// If uses put deadlines off, the entry has been found fresh at the time that comes with the idle time.
    #[inline]
    pub(super) fn use_until(&self, slot: Slot, idle: Option<(u64, u64)>) -> u64 {
        match idle {
            Some((now, idle)) => {
                self.timers.touch(slot, now, idle);
                NEVER
            }
            None => self.timers.deadline(slot),
        }
    }

    /// Takes out entries whose time is over, in at most so many steps of constant time, which are counted down.
    #[inline]
    pub(super) fn expire(&mut self, now: u64, steps: &mut u32, out: &mut Outgoing<K, V>) {
        // In most caches nothing ever expires, and nobody reads the clock.
        if now > 0 {
            self.expire_before(now, steps, out);
        }
    }

    #[inline(never)]
    fn expire_before(&mut self, now: u64, steps: &mut u32, out: &mut Outgoing<K, V>) {
        while let Some(slot) = self.timers.expired(now, steps) {
            if let Some((key, value)) = self.remove(slot, Cause::Expired) {
                out.push(key, value, Cause::Expired);
            }
        }
    }

    /// Whether the shard has much memory for nothing.
    pub(super) fn is_spare(&self) -> bool {
        self.slab.len() == 0 && self.slab.slots() > SPARE
    }

    /// Gives memory back, if the shard is still empty. The policy begins anew.
    pub(super) fn shrink(&mut self, policy: Policy) -> Option<Slab<K, V>> {
        self.is_spare().then(|| self.reset(policy))
    }

    /// When to look for expired entries again: at most a tick after the first deadline.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.timers.next_deadline()
    }

    /// Notes a use, under a shared lock.
    #[inline]
    pub(super) fn touch(&self, slot: Slot, hash: u64) {
        self.policy.touch(slot, spread(low(hash)));
    }

    /// Notes a use.
    pub(super) fn promote(&mut self, slot: Slot, hash: u64) {
        self.policy.promote(slot, spread(low(hash)));
    }

    fn weight_of(&self, slot: Slot) -> u64 {
        let Some(weights) = &self.weights else { return 1 };
        weights.get(slot as usize).copied().unwrap_or(1)
    }

    /// Takes an entry out of everything but the policy.
    #[inline(always)]
    fn unlink(&mut self, slot: Slot) -> Option<(K, V)> {
        let weight = self.weight_of(slot);
        let (hash, key, value) = self.slab.remove(slot)?;
        self.index.remove(hash, slot);
        self.weight -= weight;
        self.timers.clear(slot);
        self.set_tags(slot, &[]);
        Some((key, value))
    }

    /// Takes an entry out, for another reason than to make room.
    pub(super) fn remove(&mut self, slot: Slot, cause: Cause) -> Option<(K, V)> {
        let hash = self.slab.hash(slot)?;
        self.policy.remove(slot, spread(hash));
        match cause {
            Cause::Expired => self.counts.expired += 1,
            _ => self.counts.removed += 1,
        }
        self.unlink(slot)
    }

    /// Lets one entry go, to make room for `newcomer`.
    #[inline]
    fn evict(&mut self, newcomer: u64, weight: u64, out: &mut Outgoing<K, V>) -> Victim {
        let victim = self.policy.evict(newcomer, weight);
        if let Victim::Slot(slot) = victim {
            // A policy of the user's may name any slot.
            let Some((key, value)) = self.unlink(slot) else { return Victim::Refuse };
            self.counts.evicted += 1;
            out.push(key, value, Cause::Evicted);
        }
        victim
    }

    /// Has fetched from memory what the eviction for a newcomer needs, while it is not needed yet: all at once.
    #[inline]
    pub(super) fn warm(&self, hash: u64) {
        if self.slab.len() < FAR || self.weight < self.quota {
            return;
        }
        let first = self.policy.warm(spread(low(hash)));
        for hash in first.into_iter().flatten().filter_map(|slot| self.slab.hash(slot)) {
            self.index.warm(hash);
        }
    }

    /// Makes room for a newcomer; `old` is the slot of the value with the same key.
    #[inline]
    pub(super) fn make_room(
        &mut self,
        old: Option<Slot>,
        newcomer: &Newcomer<'_>,
        budget: &Budget,
        out: &mut Outgoing<K, V>,
    ) -> Room {
        if let Some(slot) = old {
            if newcomer.weight <= self.weight_of(slot) {
                return Room::Taken(slot);
            }
            // It does not stay in any case, and makes most of the room.
            if let Some((key, value)) = self.remove(slot, Cause::Replaced) {
                self.counts.removed -= 1;
                self.counts.replaced += 1;
                out.push(key, value, Cause::Replaced);
            }
        }
        let weight = newcomer.weight;
        loop {
            let need = self.weight.checked_add(weight);
            let full = self.slab.len() >= index::MOST;
            if need.is_some_and(|need| need <= self.quota) && !full {
                return Room::Made;
            }
            if !full {
                let claimed = budget.claim(need.unwrap_or(u64::MAX) - self.quota, self.quota);
                if claimed > 0 {
                    self.grant(claimed);
                    continue;
                }
                if weight > self.quota {
                    // With room for what is here already, if the cache is large enough: perhaps nothing has to leave.
                    let need = need.unwrap_or(u64::MAX).min(budget.capacity());
                    return Room::Starved(need - self.quota);
                }
            }
            let part = budget.share_out(self.quota);
            match self.evict(spread(low(newcomer.hash)), weight, out) {
                Victim::Slot(_) => {}
                Victim::Refuse | Victim::Empty => return Room::Refused,
            }
            if let Some(part) = part {
                let given = self.yield_quota(part, (0, 0), out);
                budget.release(given);
            }
        }
    }

    /// Raises the quota.
    pub(super) fn grant(&mut self, more: u64) {
        self.quota += more;
        // While the cache fills, less than its share says nothing of a shard.
        if self.quota > self.told.saturating_add(self.told / 8) {
            self.tell();
        }
    }

    /// Lowers the quota by at most `wanted`, and evicts what does not fit any more; by how much. The newcomer is the hash and
    /// the weight of what comes to another shard for it, or 0.
    pub(super) fn yield_quota(
        &mut self,
        wanted: u64,
        (hash, weight): (u32, u64),
        out: &mut Outgoing<K, V>,
    ) -> u64 {
        let given = wanted.min(self.quota);
        let quota = self.quota - given;
        while self.weight > quota {
            if !matches!(self.evict(spread(hash), weight, out), Victim::Slot(_)) {
                break;
            }
        }
        let given = (self.quota - self.weight).min(given);
        self.quota -= given;
        if self.quota < self.told - self.told / 8 {
            self.tell();
        }
        given
    }

    /// How much its entries may weigh.
    pub(super) fn quota(&self) -> u64 {
        self.quota
    }

    /// Tells the policy of a new capacity, if it differs by much: most of what a shard gains and loses is small change.
    fn tell(&mut self) {
        self.told = self.quota;
        self.policy.resize(self.quota);
    }

    /// Puts an entry in, for which there is [`Room::Made`].
    #[inline]
    pub(super) fn insert(&mut self, key: K, value: V, newcomer: &Newcomer<'_>, budget: &Budget) {
        if self.slab.is_full() {
            self.grow(budget);
        }
        let hash = low(newcomer.hash);
        let slot = self.slab.vacant() as Slot;
        self.policy.insert(slot, spread(hash), newcomer.weight);
        self.slab.insert(hash, key, value);
        self.index.insert(hash, slot);
        self.weight += newcomer.weight;
        self.note(slot, newcomer);
    }

    /// Puts a value in place of the one in this slot, which weighs as much at least, and returns that one.
    pub(super) fn replace(&mut self, slot: Slot, value: V, newcomer: &Newcomer<'_>) -> V {
        let Some(old) = self.slab.value_mut(slot) else { return value };
        let old = mem::replace(old, value);
        let hash = spread(low(newcomer.hash));
        self.policy.reweigh(slot, hash, newcomer.weight);
        self.policy.promote(slot, hash);
        self.weight -= self.weight_of(slot) - newcomer.weight;
        self.counts.replaced += 1;
        self.note(slot, newcomer);
        old
    }

    /// Notes what else there is to know of a newcomer.
    #[inline(always)]
    fn note(&mut self, slot: Slot, newcomer: &Newcomer<'_>) {
        if let Some(weights) = &mut self.weights {
            set(weights, slot, newcomer.weight, 1);
        }
        self.timers.set(slot, newcomer.life);
        self.set_tags(slot, newcomer.tags);
        self.counts.insertions += 1;
    }

    #[inline]
    fn set_tags(&mut self, slot: Slot, tags: &[u64]) {
        match &mut self.tags {
            Some(known) => {
                known.set(slot, tags);
                if known.is_empty() {
                    self.tags = None;
                }
            }
            None if tags.is_empty() => {}
            None => self.tags.insert(Box::default()).set(slot, tags),
        }
    }

    /// Takes out up to `most` entries with this tag; how many.
    pub(super) fn remove_tagged(&mut self, tag: u64, most: usize, out: &mut Outgoing<K, V>) -> usize {
        for removed in 0..most {
            let slot = self.tags.as_ref().and_then(|tags| tags.any(tag));
            let Some((key, value)) = slot.and_then(|slot| self.remove(slot, Cause::Removed)) else {
                return removed;
            };
            out.push(key, value, Cause::Removed);
        }
        most
    }

    /// The entries in up to `most` slots from `from` on, and where to go on, if there are more slots.
    pub(super) fn slice(&self, from: usize, most: usize, now: u64) -> (Vec<Seen<K, V>>, Option<usize>)
    where
        K: Clone,
        V: Clone,
    {
        let to = from.saturating_add(most).min(self.slab.slots());
        let fresh = (from..to).map(|slot| slot as Slot).filter(|slot| self.is_fresh(*slot, now));
        let seen = fresh.filter_map(|slot| {
            let (key, value) = self.slab.get(slot)?;
            let tags = self.tags.as_ref().map_or(Vec::new(), |tags| tags.tags(slot).collect());
            let deadline = self.timers.deadline(slot);
            Some(Seen { slot, key: key.clone(), value: value.clone(), deadline, tags })
        });
        (seen.collect(), (to < self.slab.slots()).then_some(to))
    }

    /// Whether the entry of this key is in this slot.
    pub(super) fn holds(&self, slot: Slot, key: &K) -> bool
    where
        K: Eq,
    {
        self.slab.get(slot).is_some_and(|(found, _)| found == key)
    }

    /// Makes room for more slots: twice as many, but not many more than the shard should have.
    #[cold]
    fn grow(&mut self, budget: &Budget) {
        let slots = self.slab.slots();
        let share = match self.weights {
            None => usize::try_from(budget.fair()).unwrap_or(index::MOST),
            Some(_) => index::MOST,
        };
        // Shards differ by chance: by four standard deviations now and then.
        let share = share.saturating_add(4 * share.isqrt() + FIRST).min(index::MOST);
        let wanted = if slots < share { (2 * slots).max(FIRST).min(share) } else { slots + slots / 16 };
        let wanted = wanted.min(index::MOST);
        self.slab.reserve(wanted);
        if wanted > self.index.limit() {
            self.index.grow(wanted, self.slab.hashes());
        }
    }

    /// Takes everything out: what is left is an empty shard, without any quota.
    pub(super) fn clear(&mut self, policy: Policy) -> (Slab<K, V>, u64) {
        self.leases.void_all();
        self.counts.removed += self.slab.len() as u64;
        self.weight = 0;
        let quota = mem::take(&mut self.quota);
        (self.reset(policy), quota)
    }

    /// Forgets what is known by slots.
    fn reset(&mut self, policy: Policy) -> Slab<K, V> {
        self.policy = policy;
        // It was made for an equal share.
        self.policy.resize(self.told);
        self.weights = self.weights.take().map(|_| Vec::new());
        self.timers = Timers::new();
        self.tags = None;
        self.index = Index::new();
        mem::replace(&mut self.slab, Slab::new())
    }
}

fn set(values: &mut Vec<u64>, slot: Slot, value: u64, default: u64) {
    let slot = slot as usize;
    if slot >= values.len() {
        values.resize(slot + 1, default);
    }
    values[slot] = value;
}

#[cfg(test)]
impl<K, V> Shard<K, V> {
    /// Panics unless all parts agree.
    pub(super) fn check(&self) {
        let mut weight = 0;
        let mut len = 0;
        for (slot, hash) in self.slab.hashes() {
            len += 1;
            weight += self.weight_of(slot);
            assert_eq!(self.index.find(hash, |found| (found == slot).then_some(slot)), Some(slot));
        }
        assert_eq!((len, weight), (self.slab.len(), self.weight));
        assert_eq!(self.index.count(), len);
        assert!(self.weight <= self.quota, "{} of {}", self.weight, self.quota);
        if let Some(tags) = &self.tags {
            tags.check();
            assert!(tags.slots().all(|slot| self.slab.get(slot).is_some()));
        }
    }
}
