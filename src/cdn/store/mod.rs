//! What is stored, where, and until when.
//!
//! A key has one entry in memory, with all its variants. Purges touch none of them: what is found compares itself with the
//! [purges] since it was last looked at. Only a URL is looked up and taken out at once.

#[cfg(feature = "disk")]
mod disk;
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
    time::{Duration, Instant},
};

use http::HeaderMap;
use tokio::{runtime::Handle, task::spawn_blocking, time::sleep};
use xxhash_rust::xxh3::xxh3_64_with_seed;

#[cfg(feature = "disk")]
pub use self::disk::DiskStore;
#[cfg(feature = "disk")]
use self::disk::{Disk, FileBody, Filing};
use self::{
    fetches::Fetches,
    purges::{Purges, Target, Verdict},
};
pub(crate) use self::{object::Object, parts::Parts, reader::Reader};
#[cfg(feature = "disk")]
use super::policy::Moment;
#[cfg(feature = "redis")]
use super::purge::relay::Outbox;
use super::{
    key::{CacheKey, Key},
    policy::Stored,
    purge::{Purge, What},
    stats::{Counters, Stats},
};
use crate::cache::{MemoryCache, Update};
#[cfg(feature = "disk")]
use crate::time::Clock;

/// How many variants of a key are on disk.
#[cfg(feature = "disk")]
const DISK_VARIANTS: usize = 32;
/// How long after a purge what was purged is taken out.
const SWEEP: Duration = Duration::from_secs(1);

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
    will_sweep: AtomicBool,
    #[cfg(feature = "redis")]
    outbox: OnceLock<Outbox>,
    #[cfg(feature = "disk")]
    disk: DiskAndClock,
}

#[cfg(feature = "disk")]
type DiskAndClock = Option<(Disk, Arc<dyn Clock>)>;
#[cfg(not(feature = "disk"))]
type DiskAndClock = Option<std::convert::Infallible>;

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

#[cfg(feature = "disk")]
impl Ticket {
    /// The same right once more.
    fn go_on(&self) -> Self {
        self.store.shared.fetches.go_on(self.url);
        Self { store: self.store.clone(), ..*self }
    }
}

impl Store {
    pub(crate) fn new(limits: Limits, keys: CacheKey) -> Self {
        Self::build(limits, keys, Purges::new(0), None, false)
    }

    /// A store with a disk for what memory has no room for.
    #[cfg(feature = "disk")]
    pub(crate) fn with_disk(limits: Limits, keys: CacheKey, disk: DiskStore, clock: Arc<dyn Clock>) -> Self {
        Self::build(limits, keys, disk.purges, Some((disk.disk, clock)), disk.has_wide_keys)
    }

    fn build(
        limits: Limits,
        keys: CacheKey,
        purges: Purges,
        disk: DiskAndClock,
        has_wide_keys: bool,
    ) -> Self {
        #[cfg(not(feature = "disk"))]
        let _ = disk;
        let entries = MemoryCache::builder(limits.memory)
            .weigher(|key: &Key, variants: &Arc<Variants>| key.weight() + variants.weight())
            .build();
        let shared = Shared {
            entries,
            marks: MemoryCache::new(limits.marks),
            limits,
            keys,
            fetches: Fetches::new(),
            purges,
            has_wide_keys: AtomicBool::new(has_wide_keys),
            commits: AtomicU64::new(0),
            counters: Counters::default(),
            will_sweep: AtomicBool::new(false),
            #[cfg(feature = "redis")]
            outbox: OnceLock::new(),
            #[cfg(feature = "disk")]
            disk,
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
                verdict if verdict == Verdict::Purged || !object.is_sound() => {
                    purged += 1;
                    shared.forget(key, object);
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

    /// What is on disk for it, brought to memory if it is short. To be asked when memory has nothing.
    #[allow(clippy::unused_async, reason = "without a disk there is nothing to wait for")]
    pub(crate) async fn recall(&self, key: &Key, request: &HeaderMap) -> Option<(Arc<Object>, Mark)> {
        #[cfg(feature = "disk")]
        if let Some((disk, clock)) = &self.shared.disk {
            // A purge from here on keeps it out.
            let ticket = self.begin(key);
            for filing in disk.find(key) {
                match disk.load(&filing, request, Moment::now(clock)).await {
                    Ok(None) => {}
                    Ok(Some(object)) => return self.put_back(&ticket, key, request, object, &filing),
                    Err(_) => disk.remove(&filing),
                }
            }
        }
        #[cfg(not(feature = "disk"))]
        let _ = (key, request);
        None
    }

    /// Puts what was on disk into memory, unless something newer is there.
    #[cfg(feature = "disk")]
    fn put_back(
        &self,
        ticket: &Ticket,
        key: &Key,
        request: &HeaderMap,
        mut object: Object,
        filing: &Arc<Filing>,
    ) -> Option<(Arc<Object>, Mark)> {
        let shared = &*self.shared;
        self.shared.note_width(key);
        let found = shared.fetches.settle(ticket.url, ticket.invalidations, |verdict| {
            object.begin(filing.began, verdict.max(filing.verdict()), shared.commits.load(Relaxed));
            if verdict.max(shared.verdict(key, &object)) == Verdict::Purged {
                return None;
            }
            let object = Arc::new(object);
            let mut found = Arc::clone(&object);
            shared.entries.entry(key.clone()).update(|variants| {
                let others = variants.iter().flat_map(|it| &it.0);
                let is_newer = |it: &&Arc<Object>| it.stored().selects(request) && it.is_sound();
                if let Some(newer) = others.clone().find(is_newer) {
                    found = Arc::clone(newer);
                    return Update::Leave;
                }
                found = Arc::clone(&object);
                Update::Put(Variants::with(&object, others, shared.limits.variants))
            });
            Some(found)
        });
        let found = found.filter(|found| shared.verdict(key, found) != Verdict::Purged);
        if found.is_none()
            && let Some((disk, _)) = &shared.disk
        {
            disk.remove(filing);
        }
        found.map(|found| {
            let mark = shared.verdict(key, &found).mark();
            (found, mark)
        })
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
        self.put(ticket, key, object, None, |old| old.stored().selects(request))
    }

    /// Puts another head before the body of what is stored, after a 304 or a `HEAD`; as [`commit`](Self::commit). `None` too if it is not
    /// stored any more, as something newer has taken its place, or it was purged since it was found.
    pub(crate) fn renew(
        &self,
        ticket: &Ticket,
        key: &Key,
        old: &Arc<Object>,
        stored: Stored,
    ) -> Option<Arc<Object>> {
        self.put(ticket, key, old.with_head(stored), Some(old), |it| Arc::ptr_eq(it, old))
    }

    fn put(
        &self,
        ticket: &Ticket,
        key: &Key,
        mut object: Object,
        base: Option<&Object>,
        is_replaced: impl Fn(&Arc<Object>) -> bool,
    ) -> Option<Arc<Object>> {
        let shared = &*self.shared;
        let limits = &shared.limits;
        let is_too_large = object.length().max(object.held()) > Some(limits.object);
        if is_too_large || object.parts().is_some_and(|parts| parts.ranges().nth(limits.ranges).is_some()) {
            return None;
        }
        shared.note_width(key);
        let now = shared.commits.fetch_add(1, Relaxed) + 1;
        let object = shared.fetches.settle(ticket.url, ticket.invalidations, |verdict| {
            let is_gone = |base: &Object| base.is_void() || shared.verdict(key, base) == Verdict::Purged;
            if verdict == Verdict::Purged || base.is_some_and(is_gone) {
                return None;
            }
            object.begin(ticket.purges, verdict, now);
            if shared.verdict(key, &object) == Verdict::Purged {
                return None;
            }
            let object = Arc::new(object);
            shared.entries.entry(key.clone()).update(|variants| {
                let (replaced, others): (Vec<_>, Vec<_>) =
                    variants.iter().flat_map(|it| &it.0).partition(|old| is_replaced(old));
                for old in replaced {
                    old.void();
                }
                Update::Put(Variants::with(&object, others.into_iter(), limits.variants))
            });
            shared.marks.remove(&key.hash());
            Some(object)
        })?;
        #[cfg(feature = "disk")]
        self.keep_on_disk(ticket, key, &object);
        Some(object)
    }

    /// Writes an object to disk in the background, in place of an older one. If that is not possible, the older one goes.
    #[cfg(feature = "disk")]
    fn keep_on_disk(&self, ticket: &Ticket, key: &Key, object: &Arc<Object>) {
        let Some((disk, clock)) = &self.shared.disk else { return };
        let length = object.length().filter(|_| object.is_whole());
        let (Some(room), Ok(runtime)) = (length.and_then(|length| disk.room(length)), Handle::try_current())
        else {
            return disk.purge(key, false);
        };
        let (disk, clock, ticket) = (disk.clone(), Arc::clone(clock), ticket.go_on());
        let (key, object) = (key.clone(), Arc::clone(object));
        runtime.spawn_blocking(move || {
            let _room = room;
            // Something newer is there already.
            if object.is_void() {
                return;
            }
            let Ok(written) = disk.write(&key, &object, ticket.purges, Moment::now(&clock)) else {
                return disk.purge(&key, false);
            };
            let shared = &*ticket.store.shared;
            shared.fetches.settle(ticket.url, ticket.invalidations, |verdict| {
                let verdict = verdict.max(shared.verdict(&key, &object));
                if verdict == Verdict::Purged || object.is_void() {
                    return written.discard();
                }
                let long = written.long_body().filter(|_| object.parts().is_some());
                disk.publish(written, verdict);
                if let Some(body) = long {
                    shared.replace_body(&key, &object, &body);
                }
            });
        });
    }

    /// Waits until all that was stored until now is on disk.
    #[cfg(feature = "disk")]
    pub(crate) async fn settle_disk(&self) {
        if let Some((disk, _)) = &self.shared.disk {
            disk.settle().await;
        }
    }

    /// Takes one variant out.
    pub(crate) fn discard(&self, key: &Key, object: &Arc<Object>) {
        object.void();
        self.shared.forget(key, object);
        self.shared.forget_on_disk(key);
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

    /// Waits until all purges until now survive a restart.
    #[cfg(feature = "disk")]
    pub(crate) async fn flush_purges(&self) {
        if let Some((disk, _)) = &self.shared.disk {
            disk.flush().await;
        }
    }

    /// Purges here and everywhere; whether other nodes can hear of it now. `None` if there are none.
    #[cfg(feature = "redis")]
    pub(crate) async fn purge_and_tell(&self, purges: &[Purge]) -> Option<bool> {
        for purge in purges {
            self.purge_here(purge);
        }
        Some(self.shared.outbox.get()?.tell(purges).await)
    }

    /// Has other nodes told of purges from now on. `false` if that is so already.
    #[cfg(feature = "redis")]
    pub(crate) fn set_outbox(&self, outbox: Outbox) -> bool {
        self.shared.outbox.set(outbox).is_ok()
    }

    /// Purges what is stored here and what is being fetched. What is found or stored from now on is none of it.
    ///
    /// O(1), and for a prefix O(log n) in the number of prefixes: what is purged gives its memory back when it is met or evicted, or by
    /// a [sweep](Self::sweep) soon.
    pub(crate) fn purge_here(&self, purge: &Purge) {
        let shared = &*self.shared;
        shared.counters.purges.add(1);
        let soft = purge.is_soft();
        match purge.what() {
            // What has no key is not stored.
            What::Url(url) => {
                if let Ok(key) = shared.keys.of_uri(url, &HeaderMap::new()) {
                    shared.purge_url(&key, soft);
                }
            }
            What::Prefix(prefix) => {
                let prefix = CacheKey::prefix(prefix);
                shared.note(Target::Prefix(prefix.as_bytes()), soft);
            }
            What::Tag(tag) => shared.note(Target::Name(name_of_tag(tag.as_bytes())), soft),
            What::All => {
                shared.note(Target::All, soft);
                shared.marks.clear();
            }
        }
        if !soft && !matches!(purge.what(), What::Url(_)) {
            self.sweep_soon();
        }
    }

    /// Gives the memory of what was purged back, in the background and not at once: more may be purged.
    fn sweep_soon(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.shared.will_sweep.swap(true, Relaxed) {
            return;
        }
        let shared = Arc::downgrade(&self.shared);
        runtime.spawn(async move {
            sleep(SWEEP).await;
            let sweep = move || {
                let Some(shared) = shared.upgrade() else { return };
                shared.will_sweep.store(false, Relaxed);
                Self { shared }.sweep();
            };
            let _ = spawn_blocking(sweep).await;
        });
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
        #[cfg(feature = "disk")]
        let disk = shared.disk.as_ref().map(|(disk, _)| disk.held()).unwrap_or_default();
        #[cfg(not(feature = "disk"))]
        let disk = (0, 0);
        Stats {
            urls: shared.entries.len() as u64,
            weight: shared.entries.weight(),
            disk_urls: disk.0,
            disk_weight: disk.1,
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
        self.fetches.invalidate(name, soft, |is_fetched| {
            if self.has_wide_keys.load(Acquire) || self.may_be_on_disk(&key, is_fetched) {
                self.note(Target::Name(name), soft);
            }
            let variants = self.entries.peek(&key);
            let objects = variants.iter().flat_map(|it| &it.0);
            if soft {
                objects.for_each(|object| object.soften());
            } else {
                objects.for_each(|object| object.void());
                self.entries.remove(&key);
            }
            #[cfg(feature = "disk")]
            if let Some((disk, _)) = &self.disk {
                disk.purge(&key, soft);
            }
        });
        self.marks.remove(&key.hash());
    }

    fn note(&self, target: Target<'_>, soft: bool) {
        let number = self.purges.note(target, soft);
        #[cfg(feature = "disk")]
        if let Some((disk, _)) = &self.disk {
            disk.note(number, target, soft);
        }
        #[cfg(not(feature = "disk"))]
        let _ = number;
    }

    #[allow(clippy::unused_self, reason = "without a disk there is nothing on it")]
    fn may_be_on_disk(&self, key: &Key, is_fetched: bool) -> bool {
        #[cfg(feature = "disk")]
        if let Some((disk, _)) = &self.disk {
            return is_fetched || disk.has(key);
        }
        let _ = (key, is_fetched);
        false
    }

    /// Takes one variant out of memory.
    fn forget(&self, key: &Key, object: &Arc<Object>) {
        self.entries.entry(key.clone()).update(|variants| {
            let Some(variants) = variants else { return Update::Leave };
            let kept: Vec<_> = variants.0.iter().filter(|it| !Arc::ptr_eq(it, object)).cloned().collect();
            match kept.len() {
                0 => Update::Remove,
                len if len == variants.0.len() => Update::Leave,
                _ => Update::Put(Arc::new(Variants(kept))),
            }
        });
    }

    /// Takes all variants of a key out of the disk: some are out of date, and which ones is not known without reading them.
    #[allow(clippy::unused_self, reason = "without a disk there is nothing on it")]
    fn forget_on_disk(&self, key: &Key) {
        #[cfg(feature = "disk")]
        if let Some((disk, _)) = &self.disk {
            disk.purge(key, false);
        }
        #[cfg(not(feature = "disk"))]
        let _ = key;
    }

    fn note_width(&self, key: &Key) {
        if key.is_wide() && !self.has_wide_keys.load(Relaxed) {
            self.has_wide_keys.store(true, Release);
        }
    }

    /// Lets go of a long body in memory, which is on disk now.
    #[cfg(feature = "disk")]
    fn replace_body(&self, key: &Key, object: &Arc<Object>, body: &FileBody) {
        self.entries.entry(key.clone()).update(|variants| {
            let Some(variants) = variants else { return Update::Leave };
            let light = || Arc::new(object.with_body(body.clone()));
            let swap = |it: &Arc<Object>| if Arc::ptr_eq(it, object) { light() } else { Arc::clone(it) };
            Update::Put(Arc::new(Variants(variants.0.iter().map(swap).collect())))
        });
    }
}

impl Variants {
    /// With a new one in front, and not more than there may be: the one that was not used for longest leaves.
    fn with<'a>(new: &Arc<Object>, old: impl Iterator<Item = &'a Arc<Object>>, most: usize) -> Arc<Self> {
        let mut kept = vec![Arc::clone(new)];
        kept.extend(old.cloned());
        while kept.len() > most.max(1)
            && let Some(oldest) = (1..kept.len()).min_by_key(|at| kept[*at].last_use())
        {
            kept.remove(oldest);
        }
        Arc::new(Self(kept))
    }

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
