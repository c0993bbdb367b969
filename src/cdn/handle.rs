//! The handle that an application keeps.

use std::{fmt, sync::Arc};

use http::request;

use super::{
    CdnBuilder, CdnLayer, CdnService, Purge, Stats,
    body::Head,
    builder::{Finish, Override},
    fetch::Asked,
    fill::Fills,
    key::Key,
    policy::{Moment, Policy},
    store::Store,
};
use crate::time::Clock;

/// A shared HTTP cache: what is stored, the rules, and what is on its way. Clones share it all.
///
/// The application keeps one, to purge and to look at the statistics; [`layer`](Self::layer) puts it in front of a service. One
/// cache may stand in front of several services, as long as a URL means the same to all of them.
///
/// ```
/// use buttress::cdn::{Cdn, Purge};
///
/// # fn main() -> Result<(), buttress::cdn::InvalidPurge> {
/// let cdn = Cdn::new(256 << 20);
/// cdn.purge(&Purge::tag("socks")?);
/// assert_eq!(cdn.stats().hits, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cdn {
    pub(super) shared: Arc<Shared>,
}

/// What all services of a cache share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) policy: Policy,
    /// Other rules for some paths, the longest prefix first.
    pub(super) paths: Vec<(String, Policy)>,
    pub(super) clock: Arc<dyn Clock>,
    /// The name in `Cache-Status`.
    pub(super) name: Option<Arc<str>>,
    pub(super) max_object: u64,
    pub(super) hit_for_miss: std::time::Duration,
    pub(super) max_wait: std::time::Duration,
    pub(super) finish: Finish,
    pub(super) overrides: Option<Override>,
    pub(super) fills: Fills<Key, Arc<Asked>, Head>,
}

impl Cdn {
    /// A cache with the rules of RFC 9111 that holds this many bytes in memory.
    pub fn new(memory: u64) -> Self {
        Self::builder(memory).build()
    }

    /// A cache that holds this many bytes in memory, to be configured.
    pub fn builder(memory: u64) -> CdnBuilder {
        CdnBuilder::new(memory)
    }

    /// Puts the cache in front of services.
    pub fn layer(&self) -> CdnLayer {
        CdnLayer::new(self.clone())
    }

    /// Puts the cache in front of a service.
    pub fn service<S>(&self, inner: S) -> CdnService<S> {
        CdnService::new(self.clone(), inner)
    }

    /// Takes out what is stored, and keeps out what is on its way: what was asked for before the purge is not stored after it.
    /// Takes the same time whatever the number of stored responses.
    pub fn purge(&self, purge: &Purge) {
        self.shared.store.purge(purge);
    }

    /// Waits until all that was stored and purged until now is on disk, as before the process ends.
    #[cfg(feature = "disk")]
    pub async fn flush(&self) {
        self.shared.store.settle_disk().await;
    }

    pub(super) fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Takes out what was purged by prefix, tag or all, which otherwise gives its memory back when it is met or evicted. Returns the
    /// number of URLs. O(n), a few at a time: for a quiet moment after a large purge.
    pub fn sweep(&self) -> usize {
        self.shared.store.sweep()
    }

    /// What the cache has done so far, and what it holds.
    pub fn stats(&self) -> Stats {
        self.shared.store.stats()
    }
}

impl fmt::Debug for Cdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl Shared {
    pub(super) fn now(&self) -> Moment {
        Moment::now(&*self.clock)
    }

    /// The rules for a request.
    pub(super) fn policy(&self, request: &request::Parts) -> &Policy {
        if self.paths.is_empty() {
            return &self.policy;
        }
        let path = request.uri.path();
        let found = self.paths.iter().find(|(prefix, _)| path.starts_with(prefix.as_str()));
        found.map_or(&self.policy, |(_, policy)| policy)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cdn")
            .field("stats", &self.store.stats())
            .field("fills", &self.fills)
            .finish_non_exhaustive()
    }
}
