//! What is stored, where, and until when.

mod object;
mod parts;
mod reader;

use std::{sync::Arc, time::Instant};

use http::HeaderMap;

pub(crate) use self::{object::Object, parts::Parts, reader::Reader};
use super::{
    key::{CacheKey, Key},
    policy::Stored,
    purge::Purge,
    stats::{Counters, Stats},
};

/// How much a [`Store`] may hold.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Bytes of heads, bodies and keys in memory.
    pub(crate) memory: u64,
    /// The largest body that is stored at all.
    pub(crate) object: u64,
    /// How many variants of a key.
    pub(crate) variants: usize,
    /// How many keys are remembered as not worth waiting for.
    pub(crate) marks: u64,
}

/// All that is stored. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    counters: Arc<Counters>,
    keys: CacheKey,
}

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
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Ticket {
    began: u64,
}

impl Store {
    pub(crate) fn new(limits: &Limits, keys: CacheKey) -> Self {
        let _ = limits;
        Self { counters: Arc::default(), keys }
    }

    /// How keys are made.
    pub(crate) fn keys(&self) -> &CacheKey {
        &self.keys
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What is in memory for a request with these fields.
    pub(crate) fn lookup(&self, key: &Key, request: &HeaderMap, now: Instant) -> Lookup {
        let _ = (key, request, now);
        todo!()
    }

    /// What is on disk for it, brought to memory if it is small and hot. To be asked when memory has nothing.
    pub(crate) async fn recall(&self, key: &Key, request: &HeaderMap) -> Option<(Arc<Object>, Mark)> {
        let _ = (key, request);
        None
    }

    /// Before a fetch begins.
    pub(crate) fn begin(&self) -> Ticket {
        Ticket { began: 0 }
    }

    /// Stores what a fetch brought, in place of the variants that select the same request. The object as it is stored; `None` if
    /// it was purged since the ticket was taken, or is too large.
    pub(crate) fn commit(
        &self,
        ticket: Ticket,
        key: &Key,
        request: &HeaderMap,
        object: Object,
    ) -> Option<Arc<Object>> {
        let _ = (ticket, key, request, object);
        todo!()
    }

    /// Puts another head before the body of what is stored, after a 304 or a `HEAD`.
    pub(crate) fn renew(
        &self,
        ticket: Ticket,
        key: &Key,
        old: &Arc<Object>,
        stored: Stored,
    ) -> Option<Arc<Object>> {
        let _ = (ticket, key, old, stored);
        todo!()
    }

    /// Takes one variant out.
    pub(crate) fn discard(&self, key: &Key, object: &Arc<Object>) {
        let _ = (key, object);
        todo!()
    }

    /// Answers for this key are not shared until then: nobody should wait for another's. What is stored may stay.
    pub(crate) fn uncacheable(&self, key: &Key, until: Instant) {
        let _ = (key, until);
        todo!()
    }

    /// Makes all that is stored for the URL of this key invalid, and what is being fetched for it.
    pub(crate) fn invalidate(&self, key: &Key) {
        let _ = key;
        todo!()
    }

    /// Purges; what is stored and what is being fetched.
    pub(crate) fn purge(&self, purge: &Purge) {
        let _ = purge;
        todo!()
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats::default()
    }
}
