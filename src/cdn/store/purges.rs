//! What was purged, and when: pure.
//!
//! Purges are numbered. A response knows the number of the last purge before its fetch began, and compares. So a purge is noted
//! once, whatever it concerns, and a fetch that began before it never brings back what it took out.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
};

/// Names share this many buckets,
const BUCKETS: usize = 4096;
/// of which each remembers this many. Of what it forgets, it knows the last number: all names of that bucket count as purged
/// then.
const NAMES: usize = 16;
/// How many prefixes are remembered. Then two become what they have in common.
const PREFIXES: usize = 1024;

/// All purges so far.
#[derive(Debug)]
pub(super) struct Purges {
    /// The number of the last one. Stored after it is noted.
    last: AtomicU64,
    /// Held by who notes one.
    turn: Mutex<()>,
    all: RwLock<Stamps>,
    /// Names by their hash: tags, and URLs.
    names: Box<[RwLock<Bucket>]>,
    last_name: AtomicU64,
    prefixes: RwLock<Prefixes>,
    last_prefix: AtomicU64,
}

/// What is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    All,
    /// The hash of a tag or a URL.
    Name(u64),
    Prefix(&'a [u8]),
}

/// What became of something that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Live,
    SoftPurged,
    Purged,
}

/// The numbers of the last purges of something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stamps {
    hard: u64,
    soft: u64,
}

impl Stamps {
    pub(super) fn note(&mut self, number: u64, soft: bool) {
        if soft { self.soft = number } else { self.hard = number }
    }

    fn merge(&mut self, other: Self) {
        self.hard = self.hard.max(other.hard);
        self.soft = self.soft.max(other.soft);
    }

    fn last(self) -> u64 {
        self.hard.max(self.soft)
    }

    pub(super) fn verdict(self, since: u64) -> Verdict {
        match self {
            _ if self.hard > since => Verdict::Purged,
            _ if self.soft > since => Verdict::SoftPurged,
            _ => Verdict::Live,
        }
    }
}

impl Purges {
    /// `last` is the number to go on from.
    pub(super) fn new(last: u64) -> Self {
        Self {
            last: AtomicU64::new(last),
            turn: Mutex::default(),
            all: RwLock::default(),
            names: (0..BUCKETS).map(|_| RwLock::default()).collect(),
            last_name: AtomicU64::new(0),
            prefixes: RwLock::default(),
            last_prefix: AtomicU64::new(0),
        }
    }

    /// The number of the last purge.
    #[inline]
    pub(super) fn last(&self) -> u64 {
        self.last.load(Acquire)
    }

    /// Notes a purge; its number. O(1), for a prefix O(log n), and O(n) when there are too many of them.
    pub(super) fn note(&self, target: Target<'_>, soft: bool) -> u64 {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.last.load(Acquire) + 1;
        self.note_as(number, target, soft);
        number
    }

    /// Notes a purge of an earlier process.
    #[cfg(feature = "disk")]
    pub(super) fn replay(&self, number: u64, target: Target<'_>, soft: bool) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.note_as(number.max(self.last() + 1), target, soft);
    }

    /// Gives the next purge a number above this one.
    #[cfg(feature = "disk")]
    pub(super) fn skip_to(&self, number: u64) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.last.fetch_max(number, Release);
    }

    fn note_as(&self, number: u64, target: Target<'_>, soft: bool) {
        match target {
            Target::All => write(&self.all, |all| all.note(number, soft)),
            Target::Name(name) => {
                write(self.bucket(name), |bucket| bucket.note(name, number, soft));
                self.last_name.store(number, Release);
            }
            Target::Prefix(prefix) => {
                write(&self.prefixes, |prefixes| prefixes.note(prefix, number, soft));
                self.last_prefix.store(number, Release);
            }
        }
        self.last.store(number, Release);
    }

    /// What became of something with this URL and path, and these names, since the purge of this number.
    ///
    /// Looks once for each name, and for as many prefixes as have something in common with the URL.
    pub(super) fn verdict(
        &self,
        url: &[u8],
        path: &[u8],
        names: impl IntoIterator<Item = u64>,
        since: u64,
    ) -> Verdict {
        let mut verdict = read(&self.all, |all| all.verdict(since));
        if self.last_name.load(Acquire) > since {
            let look = |name| read(self.bucket(name), |bucket| bucket.verdict(name, since));
            verdict = names.into_iter().map(look).fold(verdict, Verdict::max);
        }
        if self.last_prefix.load(Acquire) > since {
            let look = |prefixes: &Prefixes| prefixes.verdict(url, since).max(prefixes.verdict(path, since));
            verdict = verdict.max(read(&self.prefixes, look));
        }
        verdict
    }

    fn bucket(&self, name: u64) -> &RwLock<Bucket> {
        #[allow(clippy::cast_possible_truncation, reason = "what is left is below the number of buckets")]
        &self.names[(name % BUCKETS as u64) as usize]
    }
}

fn read<T, R>(lock: &RwLock<T>, view: impl FnOnce(&T) -> R) -> R {
    view(&lock.read().unwrap_or_else(PoisonError::into_inner))
}

fn write<T>(lock: &RwLock<T>, change: impl FnOnce(&mut T)) {
    change(&mut lock.write().unwrap_or_else(PoisonError::into_inner));
}

#[derive(Debug, Default)]
struct Bucket {
    names: Vec<(u64, Stamps)>,
    forgotten: Stamps,
}

impl Bucket {
    fn note(&mut self, name: u64, number: u64, soft: bool) {
        if let Some((_, stamps)) = self.names.iter_mut().find(|(known, _)| *known == name) {
            stamps.note(number, soft);
            return;
        }
        if self.names.len() == NAMES
            && let Some(oldest) = (0..NAMES).min_by_key(|at| self.names[*at].1.last())
        {
            self.forgotten.merge(self.names.swap_remove(oldest).1);
        }
        let mut stamps = Stamps::default();
        stamps.note(number, soft);
        self.names.push((name, stamps));
    }

    fn verdict(&self, name: u64, since: u64) -> Verdict {
        let known = self.names.iter().find(|(known, _)| *known == name);
        let known = known.map_or(Verdict::Live, |(_, stamps)| stamps.verdict(since));
        known.max(self.forgotten.verdict(since))
    }
}

#[derive(Debug, Default)]
struct Prefixes(BTreeMap<Box<[u8]>, Stamps>);

impl Prefixes {
    fn note(&mut self, prefix: &[u8], number: u64, soft: bool) {
        if !soft {
            // What was noted before of URLs that begin like this is settled with it.
            while let Some((longer, _)) =
                self.0.range::<[u8], _>((Bound::Excluded(prefix), Bound::Unbounded)).next()
                && longer.starts_with(prefix)
            {
                let longer = longer.clone();
                self.0.remove(&longer);
            }
        }
        self.0.entry(prefix.into()).or_default().note(number, soft);
        if self.0.len() > PREFIXES {
            self.merge_closest();
        }
    }

    /// Makes two prefixes one: those that have most in common.
    fn merge_closest(&mut self) {
        let neighbours = self.0.keys().zip(self.0.keys().skip(1));
        let Some((a, b)) = neighbours.max_by_key(|(a, b)| common(a, b)) else { return };
        let shared: Box<[u8]> = a[..common(a, b)].into();
        let (a, b) = (a.clone(), b.clone());
        let merged = [a, b].iter().filter_map(|prefix| self.0.remove(prefix)).fold(
            Stamps::default(),
            |mut all, it| {
                all.merge(it);
                all
            },
        );
        self.0.entry(shared).or_default().merge(merged);
    }

    /// All prefixes of the URL lie behind each other in the order of bytes, between others. So from the URL down: what is
    /// next below either is one, or shows how long the next one can be at most.
    fn verdict(&self, url: &[u8], since: u64) -> Verdict {
        let mut verdict = Verdict::Live;
        let mut bound = Bound::Included(url);
        while let Some((prefix, stamps)) = self.0.range::<[u8], _>((Bound::Unbounded, bound)).next_back() {
            let shared = common(prefix, url);
            if shared == prefix.len() {
                verdict = verdict.max(stamps.verdict(since));
                bound = Bound::Excluded(&url[..shared]);
            } else {
                bound = Bound::Included(&url[..shared]);
            }
        }
        verdict
    }
}

/// How many bytes both begin with.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests;
