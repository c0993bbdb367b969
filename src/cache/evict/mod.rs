//! Which entry leaves when a cache is full.
//!
//! [`Eviction`] names a policy where a cache is built; without a word about it a cache takes [`Eviction::adaptive`].
//!
//! | choose | when |
//! |---|---|
//! | [`adaptive`](Eviction::adaptive) | you have no reason to choose: it finds out what serves the traffic |
//! | [`gdsf`](Eviction::gdsf) | entries differ much in weight, and hits count more than bytes |
//! | [`lru`](Eviction::lru), [`fifo`](Eviction::fifo) | somebody must be able to foretell what leaves |
//! | [`none`](Eviction::none) | what is in must stay in, and newcomers may be turned away |
//!
//! The others stand for themselves, for whoever knows that one fits. [`Evict`] is what a policy has to do, for one of your
//! own; [`Lists`], [`Marks`], [`Ghost`] and [`Recall`] are what those here are made of, and a [`Simulation`] tells how often one
//! would hit, and whether it keeps its promises.

use std::{fmt, sync::Arc};

use self::adaptive::Shared;

mod adaptive;
mod fifo;
mod gdsf;
mod ghost;
mod hash;
mod lfu;
mod list;
mod lru;
mod marks;
mod recall;
mod refuse;
mod s3_fifo;
mod sieve;
mod simulation;
mod weights;

pub use self::{
    adaptive::Adaptive, fifo::Fifo, gdsf::Gdsf, ghost::Ghost, hash::short, lfu::Lfu, list::Lists, lru::Lru,
    marks::Marks, recall::Recall, refuse::NoEviction, s3_fifo::S3Fifo, sieve::Sieve, simulation::Simulation,
};

/// The place of an entry in its shard's table. Slots are dense: the lowest free one is near, and those of entries that have
/// left are used again. A shard has fewer than 2³¹.
pub type Slot = u32;

/// How many entries a policy spares at most before it gives one up that should have been spared: no eviction takes longer.
/// Where half of the entries that it looks at are to be spared this never happens, and where 95 % are, once in 500,000 times.
const PATIENCE: usize = 256;

/// Decides which entry leaves.
///
/// A policy knows slots and hashes, not keys or values, and keeps what it must remember of a slot in arrays of its own.
/// There is one instance for each shard of a cache, under the lock of that shard: it waits for nobody, and calls nobody.
///
/// **The table promises**: a slot is inserted when it is free, with the same hash for as long as it is taken, and every
/// other call names a slot that is taken. Before a newcomer is inserted, `evict` is called until it fits, so the weights
/// never add up to more than the capacity. [`touch`](Self::touch) comes from many threads at once; everything else has the
/// shard to itself.
///
/// **The policy promises**: [`evict`](Self::evict) names a slot that is taken, and forgets it; it says
/// [`Empty`](Victim::Empty) only when no slot is taken, and [`Refuse`](Victim::Refuse) only to a newcomer. Operations
/// should take O(1), on average at least, and allocate only to grow. Nothing panics.
///
/// A table whose policy breaks its promise stays sound: it ignores a slot that is not taken and refuses the newcomer. A
/// [`Simulation`] panics instead, so play one some traffic in your tests.
///
/// # A policy of your own
///
/// Evict at random, with the dice at hand:
///
/// ```
/// use buttress::{
///     cache::evict::{Evict, Simulation, Slot, Victim},
///     rng::Rng,
/// };
///
/// #[derive(Debug)]
/// struct Random {
///     taken: Vec<Slot>,
///     place: Vec<usize>, // of each slot in `taken`
///     rng: Rng,
/// }
///
/// impl Evict for Random {
///     fn touch(&self, _slot: Slot, _hash: u64) {}
///
///     fn insert(&mut self, slot: Slot, _hash: u64, _weight: u64) {
///         let slots = self.place.len().max(slot as usize + 1);
///         self.place.resize(slots, 0);
///         self.place[slot as usize] = self.taken.len();
///         self.taken.push(slot);
///     }
///
///     fn reweigh(&mut self, _slot: Slot, _hash: u64, _weight: u64) {}
///
///     fn remove(&mut self, slot: Slot, _hash: u64) {
///         let place = self.place[slot as usize];
///         self.taken.swap_remove(place);
///         if let Some(&moved) = self.taken.get(place) {
///             self.place[moved as usize] = place;
///         }
///     }
///
///     fn evict(&mut self, newcomer: u64, _weight: u64) -> Victim {
///         if self.taken.is_empty() {
///             return Victim::Empty;
///         }
///         let slot = self.taken[self.rng.below(self.taken.len())];
///         self.remove(slot, newcomer);
///         Victim::Slot(slot)
///     }
///
///     fn resize(&mut self, _capacity: u64) {}
/// }
///
/// let policy = Random { taken: vec![], place: vec![], rng: Rng::seeded(1) };
/// let mut cache = Simulation::new(policy, 50);
/// let hits = (0..10_000).filter(|n| cache.request(n * n % 173, 1)).count();
/// assert!(hits > 4_000, "{hits} hits with 50 of 87 keys");
/// ```
pub trait Evict: Send + Sync + fmt::Debug {
    /// Whether a hit must have the shard to itself: then hits call [`promote`](Self::promote), and else
    /// [`touch`](Self::touch). The same answer at any time.
    fn exclusive_hits(&self) -> bool {
        false
    }

    /// An entry was used. Others may be touched at the same time, or this one, so note it in an atomic, relaxed: hits
    /// are many, and one that is lost does no harm.
    fn touch(&self, slot: Slot, hash: u64);

    /// An entry was used, and nobody else is here.
    fn promote(&mut self, slot: Slot, hash: u64) {
        self.touch(slot, hash);
    }

    /// A new entry took this slot. It weighs 1 at least.
    fn insert(&mut self, slot: Slot, hash: u64, weight: u64);

    /// The value of an entry was replaced by one of this weight, at least 1. Whether that is a use is the table's to say: it touches
    /// what was used.
    fn reweigh(&mut self, slot: Slot, hash: u64, weight: u64);

    /// An entry left for another reason than its eviction: removed, expired, replaced by a heavier one. A shard that is cleared
    /// gets a new policy instead.
    fn remove(&mut self, slot: Slot, hash: u64);

    /// Gives one entry up, for a newcomer of this hash and weight.
    ///
    /// A `weight` of 0 says that nobody comes: the budget shrank or a value grew, and an entry must go.
    fn evict(&mut self, newcomer: u64, weight: u64) -> Victim;

    /// The capacity of this shard changed. If its entries no longer fit, `evict` is called next.
    fn resize(&mut self, capacity: u64);
}

/// What [`Evict::evict`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// This entry leaves. The policy has forgotten it.
    Slot(Slot),
    /// The newcomer is worth less than any entry: do not keep it.
    Refuse,
    /// There is no entry.
    Empty,
}

/// Makes the policy of a shard whose capacity this is.
type Factory = dyn Fn(u64) -> Box<dyn Evict> + Send + Sync;

/// The choice of an eviction policy.
///
/// | policy | which entry leaves |
/// |---|---|
/// | [`adaptive`](Self::adaptive), the default | what serves this traffic best: it tries several ways on a sample |
/// | [`fifo`](Self::fifo) | the one that came first |
/// | [`lru`](Self::lru) | the one whose last use is longest ago |
/// | [`lfu`](Self::lfu) | the one that was used least often, lately |
/// | [`sieve`](Self::sieve) | the next one that was not used since it was last looked at |
/// | [`s3_fifo`](Self::s3_fifo) | one that was not used twice while it was new; in the end others |
/// | [`w_tiny_lfu`](Self::w_tiny_lfu) | one that was seen less often than those in the main part, unless it is new |
/// | [`gdsf`](Self::gdsf) | the one of the fewest uses for its weight |
/// | [`none`](Self::none) | none: newcomers are refused when the cache is full |
/// | [`custom`](Self::custom) | what a policy of your own says |
#[derive(Clone, Debug)]
pub struct Eviction(Kind);

enum Kind {
    Adaptive(Arc<Shared>),
    Fifo,
    Lru,
    Lfu,
    Sieve,
    S3Fifo,
    Gdsf,
    NoEviction,
    Custom(Arc<Factory>),
}

impl Eviction {
    /// Chooses between rules of S3-FIFO and of W-TinyLFU, by what the traffic is like: [`Adaptive`].
    pub fn adaptive() -> Self {
        Self(Kind::Adaptive(Shared::adaptive()))
    }

    /// W-TinyLFU, with a window that is sized by what the traffic is like: [`Adaptive::w_tiny_lfu`].
    pub fn w_tiny_lfu() -> Self {
        Self(Kind::Adaptive(Shared::w_tiny_lfu()))
    }

    /// First in, first out: [`Fifo`].
    pub fn fifo() -> Self {
        Self(Kind::Fifo)
    }

    /// Least recently used, exactly: [`Lru`].
    pub fn lru() -> Self {
        Self(Kind::Lru)
    }

    /// Least frequently used, with ageing: [`Lfu`].
    pub fn lfu() -> Self {
        Self(Kind::Lfu)
    }

    /// SIEVE: [`Sieve`].
    pub fn sieve() -> Self {
        Self(Kind::Sieve)
    }

    /// S3-FIFO: [`S3Fifo`].
    pub fn s3_fifo() -> Self {
        Self(Kind::S3Fifo)
    }

    /// Greedy dual size frequency, for entries of different weights: [`Gdsf`].
    pub fn gdsf() -> Self {
        Self(Kind::Gdsf)
    }

    /// Newcomers are refused when the cache is full: [`NoEviction`].
    pub fn none() -> Self {
        Self(Kind::NoEviction)
    }

    /// A policy of your own. The factory makes one for each shard, and another one when the shard is cleared, and is told the
    /// shard's capacity. All have to be of one kind.
    ///
    /// ```
    /// use buttress::cache::evict::{Eviction, Lru};
    ///
    /// let eviction = Eviction::custom(|_capacity| Box::new(Lru::new()));
    /// ```
    pub fn custom(factory: impl Fn(u64) -> Box<dyn Evict> + Send + Sync + 'static) -> Self {
        Self(Kind::Custom(Arc::new(factory)))
    }

    /// The policy of a shard whose capacity this is. May call the user's factory.
    #[allow(dead_code, reason = "the memory cache is its user")]
    pub(crate) fn policy(&self, capacity: u64) -> Policy {
        match &self.0 {
            Kind::Adaptive(shared) => Policy::Adaptive(Adaptive::one_of_many(capacity, Arc::clone(shared))),
            Kind::Fifo => Policy::Fifo(Fifo::new()),
            Kind::Lru => Policy::Lru(Lru::new()),
            Kind::Lfu => Policy::Lfu(Lfu::new()),
            Kind::Sieve => Policy::Sieve(Sieve::new()),
            Kind::S3Fifo => Policy::S3Fifo(S3Fifo::new(capacity)),
            Kind::Gdsf => Policy::Gdsf(Gdsf::new()),
            Kind::NoEviction => Policy::NoEviction(NoEviction::new()),
            Kind::Custom(factory) => Policy::Custom(factory(capacity)),
        }
    }
}

impl Default for Eviction {
    fn default() -> Self {
        Self::adaptive()
    }
}

impl Clone for Kind {
    fn clone(&self) -> Self {
        match self {
            // The clone is for another cache, with traffic of its own.
            Self::Adaptive(shared) => Self::Adaptive(shared.anew()),
            Self::Fifo => Self::Fifo,
            Self::Lru => Self::Lru,
            Self::Lfu => Self::Lfu,
            Self::Sieve => Self::Sieve,
            Self::S3Fifo => Self::S3Fifo,
            Self::Gdsf => Self::Gdsf,
            Self::NoEviction => Self::NoEviction,
            Self::Custom(factory) => Self::Custom(Arc::clone(factory)),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Adaptive(_) => "Adaptive",
            Self::Fifo => "Fifo",
            Self::Lru => "Lru",
            Self::Lfu => "Lfu",
            Self::Sieve => "Sieve",
            Self::S3Fifo => "S3Fifo",
            Self::Gdsf => "Gdsf",
            Self::NoEviction => "NoEviction",
            Self::Custom(_) => "Custom",
        })
    }
}

/// The policy of a shard: a `match` instead of a call through a table of functions.
#[derive(Debug)]
#[allow(dead_code, reason = "the memory cache is its user")]
pub(crate) enum Policy {
    Adaptive(Adaptive),
    Fifo(Fifo),
    Lru(Lru),
    Lfu(Lfu),
    Sieve(Sieve),
    S3Fifo(S3Fifo),
    Gdsf(Gdsf),
    NoEviction(NoEviction),
    Custom(Box<dyn Evict>),
}

macro_rules! each {
    ($policy:expr, $evict:ident => $call:expr) => {
        match $policy {
            Policy::Adaptive($evict) => $call,
            Policy::Fifo($evict) => $call,
            Policy::Lru($evict) => $call,
            Policy::Lfu($evict) => $call,
            Policy::Sieve($evict) => $call,
            Policy::S3Fifo($evict) => $call,
            Policy::Gdsf($evict) => $call,
            Policy::NoEviction($evict) => $call,
            Policy::Custom($evict) => $call,
        }
    };
}

impl Policy {
    /// A touch of what is not the default, out of the way of a hit.
    #[inline(never)]
    fn touch_other(&self, slot: Slot, hash: u64) {
        each!(self, policy => policy.touch(slot, hash));
    }

    /// Has fetched from memory what an eviction for this newcomer needs; the slots that it will look at first, if known.
    #[inline]
    pub(crate) fn warm(&self, newcomer: u64) -> [Option<Slot>; 2] {
        match self {
            Self::Adaptive(policy) => policy.warm(newcomer),
            _ => [None; 2],
        }
    }
}

impl Evict for Policy {
    #[inline]
    fn exclusive_hits(&self) -> bool {
        each!(self, policy => policy.exclusive_hits())
    }

    #[inline]
    fn touch(&self, slot: Slot, hash: u64) {
        match self {
            Self::Adaptive(policy) => policy.touch(slot, hash),
            other => other.touch_other(slot, hash),
        }
    }

    #[inline]
    fn promote(&mut self, slot: Slot, hash: u64) {
        each!(self, policy => policy.promote(slot, hash));
    }

    #[inline]
    fn insert(&mut self, slot: Slot, hash: u64, weight: u64) {
        each!(self, policy => policy.insert(slot, hash, weight));
    }

    #[inline]
    fn reweigh(&mut self, slot: Slot, hash: u64, weight: u64) {
        each!(self, policy => policy.reweigh(slot, hash, weight));
    }

    #[inline]
    fn remove(&mut self, slot: Slot, hash: u64) {
        each!(self, policy => policy.remove(slot, hash));
    }

    #[inline]
    fn evict(&mut self, newcomer: u64, weight: u64) -> Victim {
        each!(self, policy => policy.evict(newcomer, weight))
    }

    #[inline]
    fn resize(&mut self, capacity: u64) {
        each!(self, policy => policy.resize(capacity));
    }
}

#[cfg(test)]
mod tests;
