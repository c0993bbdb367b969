//! Fetches that are under way, by the URL that they are for: pure.
//!
//! A URL that is invalidated while it is fetched: the answer may be older than that, and is not stored. Nothing has to be remembered
//! for URLs that nobody fetches, so that clients whose requests invalidate URLs fill no memory.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::purges::{Stamps, Verdict};

/// How many locks there are.
const STRIPES: usize = 64;

/// The fetches by the hash of their URL.
#[derive(Debug)]
pub(super) struct Fetches(Box<[Mutex<Stripe>]>);

type Stripe = HashMap<u64, Fetched>;

/// What is known of a URL while it is fetched.
#[derive(Debug, Default)]
struct Fetched {
    fetches: u32,
    /// How often it was invalidated since the first of these fetches began, and when last.
    count: u64,
    last: Stamps,
}

impl Fetches {
    pub(super) fn new() -> Self {
        Self((0..STRIPES).map(|_| Mutex::default()).collect())
    }

    /// Before a fetch; how often the URL was invalidated until now.
    pub(super) fn begin(&self, url: u64) -> u64 {
        let mut stripe = self.stripe(url);
        let fetched = stripe.entry(url).or_default();
        fetched.fetches = fetched.fetches.saturating_add(1);
        fetched.count
    }

    /// Goes on with a fetch that has begun and not ended.
    #[cfg(feature = "disk")]
    pub(super) fn go_on(&self, url: u64) {
        self.begin(url);
    }

    /// After a fetch, whatever became of it.
    pub(super) fn end(&self, url: u64) {
        if let Entry::Occupied(mut fetched) = self.stripe(url).entry(url) {
            fetched.get_mut().fetches -= 1;
            if fetched.get().fetches == 0 {
                fetched.remove();
            }
        }
    }

    /// Invalidates what is being fetched for a URL, and lets `take_out` see to what is stored, before another fetch can store
    /// something. It is told whether anything is being fetched.
    pub(super) fn invalidate(&self, url: u64, soft: bool, take_out: impl FnOnce(bool)) {
        let mut stripe = self.stripe(url);
        let fetched = stripe.get_mut(&url);
        let is_fetched = fetched.is_some();
        if let Some(fetched) = fetched {
            fetched.count += 1;
            fetched.last.note(fetched.count, soft);
        }
        take_out(is_fetched);
    }

    /// Lets `store` store what a fetch brought, who is told what became of the URL since it began. Until it is done, the URL is
    /// not invalidated.
    pub(super) fn settle<R>(&self, url: u64, began: u64, store: impl FnOnce(Verdict) -> R) -> R {
        let stripe = self.stripe(url);
        store(stripe.get(&url).map_or(Verdict::Live, |fetched| fetched.last.verdict(began)))
    }

    fn stripe(&self, url: u64) -> MutexGuard<'_, Stripe> {
        #[allow(clippy::cast_possible_truncation, reason = "what is left is below the number of stripes")]
        let stripe = (url % STRIPES as u64) as usize;
        self.0[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|stripe| stripe.lock().unwrap().len()).sum()
    }
}
