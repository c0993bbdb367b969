//! What the cache has done.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a cache has done so far, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests answered from the cache with something fresh.
    pub hits: u64,
    /// Requests answered from the cache with something stale.
    pub stale: u64,
    /// Requests answered from the cache after the origin said that it is still good.
    pub revalidated: u64,
    /// Requests that went to the origin because the cache had no answer.
    pub misses: u64,
    /// Requests that waited for the answer to another one.
    pub collapsed: u64,
    /// Requests that the cache had no say in.
    pub bypassed: u64,
    /// Bytes of bodies that the origin did not have to send.
    pub bytes_saved: u64,
    /// Purges of all kinds.
    pub purges: u64,
    /// URLs that something is in memory for.
    pub urls: u64,
    /// What is stored in memory weighs this much, in bytes.
    pub weight: u64,
    /// URLs that something is on disk for.
    pub disk_urls: u64,
    /// What is on disk takes this much, in bytes.
    pub disk_weight: u64,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: Counter,
    pub(crate) stale: Counter,
    pub(crate) revalidated: Counter,
    pub(crate) misses: Counter,
    pub(crate) collapsed: Counter,
    pub(crate) bypassed: Counter,
    pub(crate) bytes_saved: Counter,
    pub(crate) purges: Counter,
}

/// Only ever grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    /// What was counted so far.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            hits: self.hits.get(),
            stale: self.stale.get(),
            revalidated: self.revalidated.get(),
            misses: self.misses.get(),
            collapsed: self.collapsed.get(),
            bypassed: self.bypassed.get(),
            bytes_saved: self.bytes_saved.get(),
            purges: self.purges.get(),
            ..Stats::default()
        }
    }
}
