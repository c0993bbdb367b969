//! Which answers are on their way.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, Hash},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use foldhash::fast::RandomState;

use super::{Budget, Fill, Reader, Writer};

const SHARDS: usize = 16;

/// Answers on their way to one key at once: one for each variant that is asked for.
const VARIANTS: usize = 16;

/// The answers that are on their way and may be shared, by key.
pub(crate) struct Fills<K, H> {
    shards: [Mutex<Shard<K, H>>; SHARDS],
    hasher: RandomState,
    count: AtomicUsize,
    limit: usize,
}

type Shard<K, H> = HashMap<K, Vec<Fill<H>>, RandomState>;

/// What a request meets.
#[derive(Debug)]
pub(crate) enum Entered<H> {
    /// An answer that is on its way.
    Follow(Reader<H>),
    /// Nothing: it goes to the origin, and others may follow.
    Lead(Writer<H>, Reader<H>),
    /// Too much is on its way already: it goes to the origin alone.
    Full,
}

impl<K: Hash + Eq + Clone, H> Fills<K, H> {
    /// At most `limit` answers at once.
    pub(crate) fn new(limit: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(HashMap::with_hasher(RandomState::default())));
        Self { shards, hasher: RandomState::default(), count: AtomicUsize::new(0), limit }
    }

    /// Joins an answer that is on its way, if `suits` likes its head (or that there is none yet), or begins one.
    pub(crate) fn enter(
        &self,
        key: &K,
        go_on: bool,
        budget: &Arc<Budget>,
        suits: impl Fn(Option<&H>) -> bool,
    ) -> Entered<H> {
        let mut shard = self.shard(key);
        if let Some(fills) = shard.get(key) {
            let mut readers = fills.iter().filter(|fill| fill.is_open(&suits)).filter_map(Fill::join);
            if let Some(reader) = readers.next() {
                return Entered::Follow(reader);
            }
            if fills.len() >= VARIANTS {
                return Entered::Full;
            }
        }
        self.begin(&mut shard, key, go_on, budget)
    }

    /// Begins an answer unless one is on its way that nobody has seen yet: for what is done once, in the background.
    pub(crate) fn begin_alone(&self, key: &K, budget: &Arc<Budget>) -> Option<Writer<H>> {
        let mut shard = self.shard(key);
        if shard.contains_key(key) {
            return None;
        }
        match self.begin(&mut shard, key, true, budget) {
            Entered::Lead(writer, _) => Some(writer),
            Entered::Follow(_) | Entered::Full => None,
        }
    }

    fn begin(&self, shard: &mut Shard<K, H>, key: &K, go_on: bool, budget: &Arc<Budget>) -> Entered<H> {
        let count =
            self.count.fetch_update(Relaxed, Relaxed, |count| (count < self.limit).then_some(count + 1));
        if count.is_err() {
            return Entered::Full;
        }
        let (writer, fill) = Fill::new(go_on, Arc::clone(budget));
        let Some(reader) = fill.join() else { return Entered::Full };
        shard.entry(key.clone()).or_default().push(fill);
        Entered::Lead(writer, reader)
    }

    /// Forgets an answer: it is stored, or will not be.
    pub(crate) fn forget(&self, key: &K, fill: &Fill<H>) {
        let mut shard = self.shard(key);
        let Some(fills) = shard.get_mut(key) else { return };
        let Some(index) = fills.iter().position(|other| other.is(fill)) else { return };
        let gone = fills.swap_remove(index);
        let emptied = if fills.is_empty() { shard.remove_entry(key) } else { None };
        self.count.fetch_sub(1, Relaxed);
        drop(shard);
        drop((gone, emptied));
    }

    /// How many answers are on their way.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    #[allow(clippy::cast_possible_truncation, reason = "some of the bits are enough")]
    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K, H>> {
        let shard = &self.shards[self.hasher.hash_one(key) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone, H> fmt::Debug for Fills<K, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fills").field("len", &self.len()).finish_non_exhaustive()
    }
}
