//! What can be decided about a cache.

use std::{fmt, sync::Arc, time::Duration};

use http::{request, response};

#[cfg(feature = "disk")]
use super::DiskStore;
use super::{
    CacheKey, Cdn,
    fill::Fills,
    handle::Shared,
    policy::Policy,
    store::{Limits, Store},
};
use crate::time::{Clock, TokioClock};

/// Long enough, and no instant overflows.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A function that changes what the origin answers.
pub(super) type Override = Arc<dyn Fn(&request::Parts, &mut response::Parts) + Send + Sync>;

/// What becomes of a fetch when the last client that wanted its answer goes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Finish {
    /// It goes on if the length of the body is known, and within what may be stored. Until the head is there, it goes on too.
    #[default]
    KnownLength,
    /// It goes on as long as the answer may be stored.
    Always,
    /// It is given up.
    Never,
}

/// What can be decided about a [`Cdn`]. From [`Cdn::builder`].
///
/// ```
/// use buttress::cdn::Cdn;
///
/// let cdn = Cdn::builder(256 << 20)
///     .name("edge-1")
///     .max_object_size(16 << 20)
///     .override_response(|request, response| {
///         if request.uri.path().starts_with("/assets/") {
///             response.headers.insert("cdn-cache-control", "max-age=86400".parse().unwrap());
///         }
///     })
///     .build();
/// # drop(cdn);
/// ```
#[derive(Clone)]
#[must_use]
pub struct CdnBuilder {
    limits: Limits,
    policy: Policy,
    paths: Vec<(String, Policy)>,
    keys: CacheKey,
    clock: Arc<dyn Clock>,
    name: Option<Arc<str>>,
    hit_for_miss: Duration,
    max_wait: Duration,
    finish: Finish,
    overrides: Option<Override>,
    max_fetches: usize,
    in_flight: Option<u64>,
}

impl CdnBuilder {
    pub(super) fn new(memory: u64) -> Self {
        Self {
            // A single body never takes more than a quarter of it all.
            limits: Limits { memory, object: (memory / 4).min(256 << 20), ..Limits::default() },
            policy: Policy::new(),
            paths: Vec::new(),
            keys: CacheKey::new(),
            clock: Arc::new(TokioClock),
            name: Some("buttress".into()),
            hit_for_miss: Duration::from_secs(10),
            max_wait: Duration::from_secs(30),
            finish: Finish::default(),
            overrides: None,
            max_fetches: 10_000,
            in_flight: None,
        }
    }

    /// The rules (default: RFC 9111, and nothing beyond).
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Other rules for paths that begin like this. Of several that fit, the longest counts.
    pub fn policy_at(mut self, prefix: impl Into<String>, policy: Policy) -> Self {
        self.paths.push((prefix.into(), policy));
        // Stable: of two of the same length, and so the same, the first counts.
        self.paths.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        self
    }

    /// What responses are found by (default: scheme, host, path and query).
    pub fn key(mut self, key: CacheKey) -> Self {
        self.keys = key;
        self
    }

    /// The clock (default: tokio's).
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The name of this cache in `Cache-Status` (default: `buttress`).
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Answers without `Cache-Status`.
    pub fn without_cache_status(mut self) -> Self {
        self.name = None;
        self
    }

    /// The largest body that is stored, in bytes (default: a quarter of the memory, at most 256 MiB). Larger ones pass through.
    pub fn max_object_size(mut self, bytes: u64) -> Self {
        self.limits.object = bytes;
        self
    }

    /// How many variants of a URL are stored (default: 32). The one that was used the longest ago leaves.
    pub fn max_variants(mut self, variants: usize) -> Self {
        self.limits.variants = variants;
        self
    }

    /// For how long nobody waits for the answers of a URL after one of them could not be shared (default: 10 seconds).
    pub fn hit_for_miss(mut self, time: Duration) -> Self {
        self.hit_for_miss = time;
        self
    }

    /// How long a request waits for the answer to another one of the same URL before it goes to the origin itself (default: 30
    /// seconds). With zero, requests are not collapsed.
    pub fn max_wait(mut self, time: Duration) -> Self {
        self.max_wait = time;
        self
    }

    /// What becomes of a fetch that nobody wants any more (default: it goes on if its length is known).
    pub fn finish(mut self, finish: Finish) -> Self {
        self.finish = finish;
        self
    }

    /// How many fetches may be shared at once (default: 10 000). Beyond, requests go to the origin on their own.
    pub fn max_fetches(mut self, fetches: usize) -> Self {
        self.max_fetches = fetches;
        self
    }

    /// How many bytes of bodies may be in memory on their way into the store (default: half of the memory). What goes beyond is passed
    /// through and not stored.
    pub fn max_in_flight(mut self, bytes: u64) -> Self {
        self.in_flight = Some(bytes);
        self
    }

    /// Changes the head of each answer from the origin before anything is decided about it: to give a route another lifetime or other
    /// tags, to take cookies out. The request is the one that goes to the origin.
    pub fn override_response(
        mut self,
        change: impl Fn(&request::Parts, &mut response::Parts) + Send + Sync + 'static,
    ) -> Self {
        self.overrides = Some(match self.overrides.take() {
            None => Arc::new(change),
            Some(first) => Arc::new(move |request: &request::Parts, response: &mut response::Parts| {
                first(request, response);
                change(request, response);
            }),
        });
        self
    }

    /// The cache, in memory.
    pub fn build(self) -> Cdn {
        let store = Store::new(self.limits.clone(), self.keys.clone());
        self.finish_with(store)
    }

    /// The cache, in memory and on disk.
    #[cfg(feature = "disk")]
    pub fn build_on(self, disk: DiskStore) -> Cdn {
        let clock = Arc::clone(&self.clock);
        let store = Store::with_disk(self.limits.clone(), self.keys.clone(), disk, clock);
        self.finish_with(store)
    }

    fn finish_with(self, store: Store) -> Cdn {
        let in_flight = self.in_flight.unwrap_or(self.limits.memory / 2);
        let shared = Shared {
            max_object: self.limits.object,
            store,
            policy: self.policy,
            paths: self.paths,
            clock: self.clock,
            name: self.name,
            hit_for_miss: self.hit_for_miss,
            max_wait: self.max_wait.min(FOREVER),
            finish: self.finish,
            overrides: self.overrides,
            fills: Fills::new(self.max_fetches, in_flight),
        };
        Cdn { shared: Arc::new(shared) }
    }
}

impl fmt::Debug for CdnBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CdnBuilder")
            .field("limits", &self.limits)
            .field("policy", &self.policy)
            .field("keys", &self.keys)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
