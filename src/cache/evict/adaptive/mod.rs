//! Policies that choose their rules by what the traffic is like.

use std::{
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use self::{
    segments::{Rules, Segments},
    trial::{Trial, sampled},
};
use super::{Evict, Slot, Victim, short};

mod segments;
mod trial;

/// What the shards of a cache have in common: the trial, and what came of it.
#[derive(Debug)]
pub(super) struct Shared {
    rules: &'static [Rules],
    trial: Mutex<Trial>,
    chosen: AtomicUsize,
    limit: AtomicU32,
    /// The capacities of all shards, each at most [`MOST`].
    capacity: AtomicU64,
}

/// What the default chooses from. The first is the start.
const ADAPTIVE: &[Rules] = &[
    // S3-FIFO, but for one hit instead of two: it is better by a hair.
    Rules { window: 102, promote: 1, contest: None, easy: 0, ghost: true },
    // Where recency counts most.
    Rules { window: 307, promote: 1, contest: None, easy: 0, ghost: true },
    // W-TinyLFU with a second way in, for what was given up too early. Without the margin a loop finds nothing: each entry has
    // been seen as often as the next.
    Rules { window: 10, promote: 0, contest: Some(1), easy: 0, ghost: true },
    // W-TinyLFU for loops and scans.
    Rules { window: 10, promote: 0, contest: Some(1), easy: 7, ghost: false },
];

/// W-TinyLFU with windows of 1, 5, 20 and 60 %.
const W_TINY_LFU: &[Rules] = &[
    Rules { window: 10, promote: 0, contest: Some(1), easy: 7, ghost: false },
    Rules { window: 51, promote: 0, contest: Some(0), easy: 0, ghost: false },
    Rules { window: 205, promote: 0, contest: Some(0), easy: 0, ghost: false },
    Rules { window: 614, promote: 0, contest: Some(0), easy: 0, ghost: false },
];

impl Shared {
    pub(super) fn adaptive() -> Arc<Self> {
        Self::new(ADAPTIVE)
    }

    pub(super) fn w_tiny_lfu() -> Arc<Self> {
        Self::new(W_TINY_LFU)
    }

    /// The like for another cache.
    pub(super) fn anew(&self) -> Arc<Self> {
        Self::new(self.rules)
    }

    fn new(rules: &'static [Rules]) -> Arc<Self> {
        Arc::new(Self {
            rules,
            trial: Mutex::new(Trial::new(rules)),
            chosen: AtomicUsize::new(0),
            limit: AtomicU32::new(u32::MAX),
            capacity: AtomicU64::new(0),
        })
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> u64 {
        self.capacity.load(Relaxed)
    }

    fn rules(&self) -> &'static Rules {
        &self.rules[self.chosen.load(Relaxed)]
    }
}

/// Chooses between ways to evict by what the traffic is like.
///
/// No fixed policy is good at everything: one that keeps what came last finds nothing in a loop, and one that keeps what comes
/// often is late where all is new. So this one plays several on a sample of the keys, each in a cache of 256 to 512 entries, and
/// takes the one that hits most, as soon as its lead is beyond chance. The sample is all of a small cache, and one key in 4096 of
/// one that has two million entries or more. All of them are rules for one structure: a window in which newcomers begin, a main
/// queue in which hits are worth more rounds, and a [`Recall`](super::Recall) that knows what left, and how often it was seen. A
/// change of rules moves no entry.
///
/// 19 bytes an entry, and up to 200 KiB for the trials of a cache of a million. A hit counts, and one of the sample is noted: both
/// need no lock. Where an entry must win a contest to stay, one that weighs twice as much must have been seen twice as often;
/// and one that was seen often wins some lost contests by chance, so that nobody can fill the cache with keys that cannot be
/// beaten.
///
/// Sources: Einziger, Friedman, Manes, "`TinyLFU`: A Highly Efficient Cache Admission Policy", 2017; Yang and others, "FIFO queues
/// are all you need for cache eviction", 2023; Waldspurger and others, "Cache Modeling and Optimization using Miniature
/// Simulations", 2017. W-TinyLFU is in a lazy form here: hits are counted at their entry, and told to the sketch when its turn
/// comes, which costs a hit nothing, and hits more than lists that each hit moves.
#[derive(Debug)]
pub struct Adaptive {
    segments: Segments,
    heard: Box<Heard>,
    shared: Arc<Shared>,
    /// What of the capacity is this shard's.
    share: u64,
}

/// The slots of sampled hits, which the trial is told of at the next miss. When there is no more room they are lost: a cache that
/// misses so rarely has little to gain.
#[derive(Debug)]
struct Heard {
    slots: [AtomicU32; ROOM],
    len: AtomicUsize,
    /// What tells a key of the sample.
    limit: u32,
}

const ROOM: usize = 64;

/// The most that counts of the capacity of a shard, so that the sum of thousands of them fits.
const MOST: u64 = 1 << 48;

impl Adaptive {
    /// A policy for the only shard of a cache, which chooses between rules of S3-FIFO and of W-TinyLFU.
    pub fn new(capacity: u64) -> Self {
        Self::one_of_many(capacity, Shared::adaptive())
    }

    /// A policy for the only shard of a cache: W-TinyLFU, which chooses the size of its window.
    pub fn w_tiny_lfu(capacity: u64) -> Self {
        Self::one_of_many(capacity, Shared::w_tiny_lfu())
    }

    /// A policy for one of several shards.
    pub(super) fn one_of_many(capacity: u64, shared: Arc<Shared>) -> Self {
        let share = capacity.min(MOST);
        shared.capacity.fetch_add(share, Relaxed);
        let heard = Heard::new(shared.limit.load(Relaxed));
        Self { segments: Segments::new(capacity), heard: Box::new(heard), shared, share }
    }

    /// Has fetched from memory what an eviction needs; the slots that it will look at first.
    #[inline]
    pub(super) fn warm(&self, newcomer: u64) -> [Option<Slot>; 2] {
        self.segments.warm(short(newcomer))
    }

    #[cfg(test)]
    pub(super) fn hits(&self, slot: Slot) -> u8 {
        self.segments.hits(slot)
    }

    /// Tells the trial of the hits since the last miss, and of the miss. If another shard is there, that has to wait.
    #[inline]
    fn tell(&mut self, hash: u32, weight: u64) {
        if *self.heard.len.get_mut() > 0 || sampled(hash, self.heard.limit) {
            self.tell_trial(hash, weight);
        }
    }

    #[inline(never)]
    fn tell_trial(&mut self, hash: u32, weight: u64) {
        let Ok(mut trial) = self.shared.trial.try_lock() else { return };
        trial.resize(self.shared.capacity.load(Relaxed));
        let heard = &mut *self.heard;
        let len = mem::take(heard.len.get_mut());
        for slot in heard.slots.iter_mut().take(len) {
            let (hash, weight) = self.segments.entry(*slot.get_mut());
            trial.request(hash, weight);
        }
        trial.request(hash, weight);
        heard.limit = trial.limit();
        self.shared.limit.store(trial.limit(), Relaxed);
        self.shared.chosen.store(trial.chosen(), Relaxed);
    }
}

impl Heard {
    fn new(limit: u32) -> Self {
        Self { slots: [const { AtomicU32::new(0) }; ROOM], len: AtomicUsize::new(0), limit }
    }

    #[inline]
    fn hear(&self, slot: Slot, hash: u64) {
        if self.len.load(Relaxed) >= ROOM || !sampled(short(hash), self.limit) {
            return;
        }
        if let Some(free) = self.slots.get(self.len.fetch_add(1, Relaxed)) {
            free.store(slot, Relaxed);
        }
    }
}

impl Evict for Adaptive {
    #[inline]
    fn touch(&self, slot: Slot, hash: u64) {
        self.segments.touch(slot);
        self.heard.hear(slot, hash);
    }

    #[inline]
    fn insert(&mut self, slot: Slot, hash: u64, weight: u64) {
        let hash = short(hash);
        self.tell(hash, weight);
        self.segments.insert(slot, hash, weight, self.shared.rules());
    }

    fn reweigh(&mut self, slot: Slot, _: u64, weight: u64) {
        self.segments.reweigh(slot, weight);
    }

    #[inline]
    fn remove(&mut self, slot: Slot, _: u64) {
        self.segments.remove(slot);
    }

    #[inline]
    fn evict(&mut self, _: u64, _: u64) -> Victim {
        self.segments.evict(self.shared.rules())
    }

    fn resize(&mut self, capacity: u64) {
        let share = capacity.min(MOST);
        self.shared.capacity.fetch_add(share.wrapping_sub(self.share), Relaxed);
        self.share = share;
        self.segments.resize(capacity);
    }
}

impl Drop for Adaptive {
    fn drop(&mut self) {
        self.shared.capacity.fetch_sub(self.share, Relaxed);
    }
}
