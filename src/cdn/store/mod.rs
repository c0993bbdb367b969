//! What is stored, where, and until when.
//!
//! A key has one entry in memory, with all its variants. Purges touch none of them: what is found compares itself with the
//! [purges] since it was last looked at. Only a URL is looked up and taken out at once.

mod fetches;
mod object;
mod parts;
mod purges;
mod reader;

#[cfg(feature = "redis")]
use std::sync::OnceLock;
use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Instant,
};

use http::HeaderMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::{
    fetches::Fetches,
    purges::{Purges, Target, Verdict},
};
pub(crate) use self::{object::Object, parts::Parts, reader::Reader};
#[cfg(feature = "redis")]
use super::purge::relay::Outbox;
use super::{
    key::{CacheKey, Key},
    policy::Stored,
    purge::{Purge, What},
    stats::{Counters, Stats},
};
use crate::cache::{MemoryCache, Update};

/// How much a [`Store`] may hold.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Bytes of heads, bodies and keys in memory.
    pub(crate) memory: u64,
    /// The longest body that is stored at all.
    pub(crate) object: u64,
    /// How many variants of a key.
    pub(crate) variants: usize,
    /// Into how many ranges what is there of a body may fall apart.
    pub(crate) ranges: usize,
    /// How many keys are remembered as not worth waiting for.
    pub(crate) marks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 256 << 20, object: 64 << 20, variants: 32, ranges: 64, marks: 1 << 16 }
    }
}

/// All that is stored. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    keys: CacheKey,
    entries: MemoryCache<Key, Arc<Variants>>,
    /// Until when nobody should wait for the answer to another one, by the hash of the key.
    marks: MemoryCache<u64, Instant>,
    fetches: Fetches,
    purges: Purges,
    /// Whether there were keys with more than a URL: then one URL may have several.
    has_wide_keys: AtomicBool,
    commits: AtomicU64,
    counters: Counters,
    #[cfg(feature = "redis")]
    outbox: OnceLock<Outbox>,
}

/// What is stored for a key: the newest first. Never empty.
#[derive(Debug)]
struct Variants(Vec<Arc<Object>>);

/// What there is for a request.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// Something that `Vary` selects.
    Found(Arc<Object>, Mark),
    /// Nothing, and answers for this key are not shared: go ahead alone.
    HitForMiss,
    /// Nothing for this key.
    UriMiss,
    /// Nothing that `Vary` selects.
    VaryMiss,
}

/// Whether a stored response was purged softly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Live,
    /// Stale from now on, whatever it says.
    SoftPurged,
}

/// The right to store what a fetch brings, unless it is purged in the meantime. Taken before the request is sent.
#[derive(Debug)]
#[must_use = "a ticket that is dropped stores nothing"]
pub(crate) struct Ticket {
    store: Store,
    url: u64,
    /// The number of the last purge, and how often the URL was invalidated, when the fetch began.
    purges: u64,
    invalidations: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.store.shared.fetches.end(self.url);
    }
}

impl Store {
    pub(crate) fn new(limits: Limits, keys: CacheKey) -> Self {
        let entries = MemoryCache::builder(limits.memory)
            .weigher(|key: &Key, variants: &Arc<Variants>| key.weight() + variants.weight())
            .build();
        let shared = Shared {
            entries,
            marks: MemoryCache::new(limits.marks),
            limits,
            keys,
            fetches: Fetches::new(),
            purges: Purges::new(0),
            has_wide_keys: AtomicBool::new(false),
            commits: AtomicU64::new(0),
            counters: Counters::default(),
            #[cfg(feature = "redis")]
            outbox: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// How keys are made.
    pub(crate) fn keys(&self) -> &CacheKey {
        &self.shared.keys
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// What is in memory for a request with these fields.
    pub(crate) fn lookup(&self, key: &Key, request: &HeaderMap, now: Instant) -> Lookup {
        let shared = &*self.shared;
        let variants = shared.entries.get(key);
        let mut purged = 0;
        let selected = variants.iter().flat_map(|it| &it.0).filter(|object| object.stored().selects(request));
        for object in selected {
            match shared.verdict(key, object) {
                Verdict::Purged => {
                    purged += 1;
                    self.discard(key, object);
                }
                verdict => {
                    object.note_use(shared.commits.load(Relaxed));
                    return Lookup::Found(Arc::clone(object), verdict.mark());
                }
            }
        }
        match shared.marks.get(&key.hash()) {
            Some(until) if now < until => Lookup::HitForMiss,
            _ if variants.is_some_and(|it| it.0.len() > purged) => Lookup::VaryMiss,
            _ => Lookup::UriMiss,
        }
    }

    /// What is on disk for it, brought to memory if it is small. To be asked when memory has nothing.
    pub(crate) async fn recall(&self, key: &Key, request: &HeaderMap) -> Option<(Arc<Object>, Mark)> {
        let _ = (key, request);
        None
    }

    /// Before a fetch begins.
    pub(crate) fn begin(&self, key: &Key) -> Ticket {
        let url = name_of_url(key);
        let invalidations = self.shared.fetches.begin(url);
        Ticket { store: self.clone(), url, purges: self.shared.purges.last(), invalidations }
    }

    /// Whether nothing at all was purged since the ticket was taken, nor its URL invalidated: whoever comes now may have what it brings.
    pub(crate) fn is_current(&self, ticket: &Ticket) -> bool {
        let shared = &*self.shared;
        ticket.purges == shared.purges.last()
            && shared.fetches.settle(ticket.url, ticket.invalidations, |verdict| verdict == Verdict::Live)
    }

    /// Stores what a fetch brought, in place of what was found for the same request. The object as it is stored; `None` if it was
    /// purged since the ticket was taken, or is too large.
    pub(crate) fn commit(
        &self,
        ticket: &Ticket,
        key: &Key,
        request: &HeaderMap,
        object: Object,
    ) -> Option<Arc<Object>> {
        self.put(ticket, key, object, |old| old.stored().selects(request))
    }

    /// Puts another head before the body of what is stored, after a 304 or a `HEAD`; as [`commit`](Self::commit).
    pub(crate) fn renew(
        &self,
        ticket: &Ticket,
        key: &Key,
        old: &Arc<Object>,
        stored: Stored,
    ) -> Option<Arc<Object>> {
        self.put(ticket, key, old.with_head(stored), |it| Arc::ptr_eq(it, old))
    }

    fn put(
        &self,
        ticket: &Ticket,
        key: &Key,
        mut object: Object,
        is_replaced: impl Fn(&Arc<Object>) -> bool,
    ) -> Option<Arc<Object>> {
        let shared = &*self.shared;
        let limits = &shared.limits;
        let is_too_large = object.length().max(object.held()) > Some(limits.object);
        if is_too_large || object.parts().is_some_and(|parts| parts.ranges().nth(limits.ranges).is_some()) {
            return None;
        }
        if key.is_wide() && !shared.has_wide_keys.load(Relaxed) {
            shared.has_wide_keys.store(true, Release);
        }
        let now = shared.commits.fetch_add(1, Relaxed) + 1;
        shared.fetches.settle(ticket.url, ticket.invalidations, |verdict| {
            if verdict == Verdict::Purged {
                return None;
            }
            object.begin(ticket.purges, verdict, now);
            if shared.verdict(key, &object) == Verdict::Purged {
                return None;
            }
            let object = Arc::new(object);
            shared.entries.entry(key.clone()).update(|variants| {
                let mut kept = vec![Arc::clone(&object)];
                let old = variants.iter().flat_map(|it| &it.0);
                kept.extend(old.filter(|old| !is_replaced(old)).cloned());
                while kept.len() > limits.variants.max(1)
                    && let Some(oldest) = (1..kept.len()).min_by_key(|at| kept[*at].last_use())
                {
                    kept.remove(oldest);
                }
                Update::Put(Arc::new(Variants(kept)))
            });
            shared.marks.remove(&key.hash());
            Some(object)
        })
    }

    /// Takes one variant out.
    pub(crate) fn discard(&self, key: &Key, object: &Arc<Object>) {
        self.shared.entries.entry(key.clone()).update(|variants| {
            let Some(variants) = variants else { return Update::Leave };
            let kept: Vec<_> = variants.0.iter().filter(|it| !Arc::ptr_eq(it, object)).cloned().collect();
            match kept.len() {
                0 => Update::Remove,
                len if len == variants.0.len() => Update::Leave,
                _ => Update::Put(Arc::new(Variants(kept))),
            }
        });
    }

    /// Answers for this key are not shared until then: nobody should wait for another's. What is stored may stay.
    pub(crate) fn uncacheable(&self, key: &Key, until: Instant) {
        self.shared.marks.insert(key.hash(), until);
    }

    /// Makes all that is stored for the URL of this key invalid, and what is being fetched for it.
    pub(crate) fn invalidate(&self, key: &Key) {
        self.shared.purge_url(key, false);
    }

    /// Purges here and, where there are other nodes to be told, everywhere. Others hear of it later.
    pub(crate) fn purge(&self, purge: &Purge) {
        self.purge_here(purge);
        #[cfg(feature = "redis")]
        if let Some(outbox) = self.shared.outbox.get() {
            outbox.send(purge.clone(), None);
        }
    }

    /// Purges here and everywhere; whether other nodes can hear of it now. `None` if there are none.
    #[cfg(feature = "redis")]
    pub(crate) async fn purge_and_tell(&self, purges: &[Purge]) -> Option<bool> {
        purges.iter().for_each(|purge| self.purge_here(purge));
        Some(self.shared.outbox.get()?.tell(purges).await)
    }

    /// Has other nodes told of purges from now on. `false` if that is so already.
    #[cfg(feature = "redis")]
    pub(crate) fn set_outbox(&self, outbox: Outbox) -> bool {
        self.shared.outbox.set(outbox).is_ok()
    }

    /// Purges what is stored here and what is being fetched. What is found or stored from now on is none of it.
    ///
    /// O(1), and for a prefix O(log n) in the number of prefixes: what is purged gives its memory back when it is met, or evicted,
    /// or by a [sweep](Self::sweep).
    pub(crate) fn purge_here(&self, purge: &Purge) {
        let shared = &*self.shared;
        shared.counters.purges.add(1);
        let soft = purge.is_soft();
        match purge.what() {
            // What has no key is not stored.
            What::Url(url) => {
                _ = shared.keys.of_uri(url, &HeaderMap::new()).map(|key| shared.purge_url(&key, soft))
            }
            What::Prefix(prefix) => {
                let prefix = shared.keys.prefix(prefix);
                shared.purges.note(Target::Prefix(prefix.as_bytes()), soft);
            }
            What::Tag(tag) => _ = shared.purges.note(Target::Name(name_of_tag(tag.as_bytes())), soft),
            What::All => {
                shared.purges.note(Target::All, soft);
                shared.marks.clear();
            }
        }
    }

    /// Takes out what was purged; how many keys. O(n), a few at a time.
    pub(crate) fn sweep(&self) -> usize {
        let shared = &*self.shared;
        let is_purged = |key: &Key, object: &Arc<Object>| shared.verdict(key, object) == Verdict::Purged;
        let is_out = |key: &Key, variants: &Arc<Variants>| variants.0.iter().all(|it| is_purged(key, it));
        shared.entries.invalidate_if(is_out)
    }

    pub(crate) fn stats(&self) -> Stats {
        let shared = &*self.shared;
        Stats {
            urls: shared.entries.len() as u64,
            weight: shared.entries.weight(),
            ..shared.counters.stats()
        }
    }
}

impl Shared {
    /// What became of an object since its fetch began.
    #[inline]
    fn verdict(&self, key: &Key, object: &Object) -> Verdict {
        let checked = object.checked();
        let last = self.purges.last();
        if checked.number() >= last { checked.verdict() } else { self.compare(key, object, last) }
    }

    #[inline(never)]
    fn compare(&self, key: &Key, object: &Object, last: u64) -> Verdict {
        let checked = object.checked();
        let url = key.is_wide().then(|| name_of_url(key));
        let names = object.names.iter().copied().chain(url);
        let since = self.purges.verdict(key.url(), key.path(), names, checked.number());
        let verdict = since.max(checked.verdict());
        if verdict != Verdict::Purged {
            object.note_checked(checked, last, verdict);
        }
        verdict
    }

    fn purge_url(&self, key: &Key, soft: bool) {
        let name = name_of_url(key);
        let key = key.narrow();
        self.fetches.invalidate(name, soft, || {
            if self.has_wide_keys.load(Acquire) {
                self.purges.note(Target::Name(name), soft);
            }
            if soft {
                let variants = self.entries.peek(&key);
                variants.iter().flat_map(|it| &it.0).for_each(|object| object.soften());
            } else {
                self.entries.remove(&key);
            }
        });
        self.marks.remove(&key.hash());
    }
}

impl Variants {
    fn weight(&self) -> u64 {
        let each = size_of::<Arc<Object>>() as u64;
        self.0.iter().map(|object| object.weight() + each).sum()
    }
}

impl Verdict {
    fn mark(self) -> Mark {
        if self == Self::Live { Mark::Live } else { Mark::SoftPurged }
    }
}

/// The hash of a tag. Two that share one are purged together, which costs fetches and harms nobody.
fn name_of_tag(tag: &[u8]) -> u64 {
    xxh3_64_with_seed(tag, 1)
}

fn name_of_url(key: &Key) -> u64 {
    xxh3_64_with_seed(key.url(), 2)
}

#[cfg(test)]
mod tests;
