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

/// The answers that are on their way and may be shared, by key; each with what `T` says about its request.
pub(crate) struct Fills<K, T, H> {
    shards: [Mutex<Shard<K, T, H>>; SHARDS],
    hasher: RandomState,
    count: AtomicUsize,
    limit: usize,
    budget: Arc<Budget>,
}

type Shard<K, T, H> = HashMap<K, Vec<(T, Fill<H>)>, RandomState>;

/// What a request meets.
#[derive(Debug)]
pub(crate) enum Entered<T, H> {
    /// An answer that is on its way.
    Follow(Reader<H>),
    /// None: it goes to the origin, and others may follow.
    Lead(T, Writer<H>, Reader<H>),
    /// Too much is on its way already: it goes to the origin alone.
    Full,
}

impl<K: Hash + Eq + Clone, T: Clone, H> Fills<K, T, H> {
    /// At most `limit` answers at once, and so many bytes of bodies.
    pub(crate) fn new(limit: usize, bytes: u64) -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(HashMap::with_hasher(RandomState::default())));
        let (hasher, budget) = (RandomState::default(), Budget::new(bytes));
        Self { shards, hasher, count: AtomicUsize::new(0), limit, budget }
    }

    /// Joins an answer that is on its way, if it `suits`: by its request, and by its head if that is there.
    pub(crate) fn follow(&self, key: &K, suits: impl Fn(&T, Option<&H>) -> bool) -> Option<Reader<H>> {
        follow(self.shard(key).get(key)?, suits)
    }

    /// Joins an answer that is on its way and suits, or begins one.
    pub(crate) fn enter(
        &self,
        key: &K,
        go_on: bool,
        suits: impl Fn(&T, Option<&H>) -> bool,
        request: T,
    ) -> Entered<T, H> {
        let mut shard = self.shard(key);
        if let Some(fills) = shard.get(key) {
            if let Some(reader) = follow(fills, suits) {
                return Entered::Follow(reader);
            }
            if fills.len() >= VARIANTS {
                return Entered::Full;
            }
        }
        self.begin(&mut shard, key, go_on, request)
    }

    /// Whether an answer to such a request is on its way, open or not.
    pub(crate) fn contains(&self, key: &K, test: impl Fn(&T) -> bool) -> bool {
        self.shard(key).get(key).is_some_and(|fills| fills.iter().any(|(request, _)| test(request)))
    }

    /// Begins an answer unless one to such a request is on its way: for what is done once, in the background.
    pub(crate) fn begin_alone(
        &self,
        key: &K,
        test: impl Fn(&T) -> bool,
        request: T,
    ) -> Option<(T, Writer<H>)> {
        let mut shard = self.shard(key);
        let fills = shard.get(key).map_or(&[][..], Vec::as_slice);
        if fills.len() >= VARIANTS || fills.iter().any(|(request, _)| test(request)) {
            return None;
        }
        match self.begin(&mut shard, key, true, request) {
            Entered::Lead(request, writer, _) => Some((request, writer)),
            Entered::Follow(_) | Entered::Full => None,
        }
    }

    /// An answer that nobody can follow.
    pub(crate) fn aside(&self) -> (Writer<H>, Option<Reader<H>>) {
        let (writer, fill) = Fill::new(true, Arc::clone(&self.budget));
        (writer, fill.join())
    }

    fn begin(&self, shard: &mut Shard<K, T, H>, key: &K, go_on: bool, request: T) -> Entered<T, H> {
        let more = |count: usize| (count < self.limit).then_some(count + 1);
        if self.count.fetch_update(Relaxed, Relaxed, more).is_err() {
            return Entered::Full;
        }
        let (writer, fill) = Fill::new(go_on, Arc::clone(&self.budget));
        let reader = fill.join();
        shard.entry(key.clone()).or_default().push((request.clone(), fill));
        match reader {
            Some(reader) => Entered::Lead(request, writer, reader),
            // Cannot be: a new one is open.
            None => Entered::Full,
        }
    }

    /// Forgets an answer: it is stored, or will not be.
    pub(crate) fn forget(&self, key: &K, fill: &Fill<H>) {
        let mut shard = self.shard(key);
        let Some(fills) = shard.get_mut(key) else { return };
        let Some(index) = fills.iter().position(|(_, other)| other.is(fill)) else { return };
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
    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K, T, H>> {
        let shard = &self.shards[self.hasher.hash_one(key) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn follow<T, H>(fills: &[(T, Fill<H>)], suits: impl Fn(&T, Option<&H>) -> bool) -> Option<Reader<H>> {
    let mut open = fills.iter().filter(|(request, fill)| fill.is_open(|head| suits(request, head)));
    open.find_map(|(_, fill)| fill.join())
}

impl<K: Hash + Eq + Clone, T: Clone, H> fmt::Debug for Fills<K, T, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fills").field("len", &self.len()).finish_non_exhaustive()
    }
}
