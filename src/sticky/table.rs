//! Sessions that are learned from the application's own cookie.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::{
    Rejected,
    header::{self, Change},
};
use crate::{
    cache::Cache,
    cluster::NodeId,
    time::{Clock, TokioClock},
};

/// How long a session is remembered without being used, unless set: as long as it usually lives at the application.
const MAX_IDLE: Duration = Duration::from_secs(30 * 60);

/// A session, as the table names it: 128 bits of SHA-256 of the cookie's value, so that whoever sees the table cannot take
/// a session over.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey([u8; 16]);

impl SessionKey {
    fn of(value: &[u8]) -> Self {
        let hash = Sha256::digest(value);
        Self(std::array::from_fn(|at| hash[at]))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({:032x})", u128::from_be_bytes(self.0))
    }
}

/// Where a session lives.
#[derive(Clone, Debug)]
pub struct Session {
    node: NodeId,
    /// In milliseconds of the table's time. Shared, so that a use need not insert, and cannot undo a move.
    used_at: Arc<AtomicU64>,
}

impl Session {
    /// The node that the session was begun on.
    pub fn node(&self) -> &NodeId {
        &self.node
    }
}

/// Remembers on which node each session was begun, by the cookie that the application sets for it.
///
/// For applications that have a session cookie (`JSESSIONID`, `PHPSESSID`) and clients that should get no other. Nothing is
/// added to responses. What is learned is in this process alone: with several proxies, or restarts, prefer a
/// [`StickyCookie`](super::StickyCookie).
///
/// A session is learned when a response sets the cookie, and only then: what clients make up is not believed. It is
/// forgotten when a response deletes the cookie, when its node has answered nothing of it for half an hour, or when the
/// cache has no room. When another node sets the cookie anew, the client moves there.
///
/// The cache bounds what is remembered. Where the application begins a session for whoever has none, and not only at a
/// login, a client that comes again and again without its cookie pushes the sessions of others out of the cache. A cache
/// that drops idle entries by itself (`MokaCache` with a `tti`) also gives the memory back. Tables of several pools need
/// a cache each.
///
/// ```
/// use std::{num::NonZeroUsize, sync::Arc};
/// # #[cfg(feature = "lru")]
/// use buttress::cache::LruCache;
/// use buttress::sticky::{Pins, SessionTable};
///
/// # #[cfg(feature = "lru")] {
/// let sessions = LruCache::new(NonZeroUsize::new(100_000).unwrap());
/// let pins = Pins::learned(SessionTable::new("JSESSIONID", Arc::new(sessions)));
/// # let _ = pins;
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SessionTable {
    name: Arc<str>,
    sessions: Arc<dyn Cache<SessionKey, Session>>,
    max_idle: u64,
    clock: Arc<dyn Clock>,
    origin: Instant,
}

impl SessionTable {
    /// Learns from the cookie `name`, and keeps sessions in a cache of their own.
    pub fn new(name: impl Into<Arc<str>>, sessions: Arc<dyn Cache<SessionKey, Session>>) -> Self {
        let clock = Arc::new(TokioClock);
        let origin = clock.now();
        Self { name: name.into(), sessions, max_idle: millis(MAX_IDLE), clock, origin }
    }

    /// Sets how long a session is remembered without being used (default: half an hour).
    #[must_use]
    pub fn max_idle(mut self, time: Duration) -> Self {
        self.max_idle = millis(time);
        self
    }

    /// Sets where the time comes from (default: tokio's clock).
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.origin = clock.now();
        self.clock = Arc::new(clock);
        self
    }

    /// The session that a request says it belongs to.
    pub(super) fn session(&self, request: &HeaderMap) -> Result<Option<SessionKey>, Rejected> {
        Ok(header::find(request, &self.name)?.map(SessionKey::of))
    }

    /// What is known of a session, if anything.
    pub(super) fn find(&self, session: &SessionKey) -> Option<Session> {
        let known = self.sessions.get(session)?;
        if self.now().saturating_sub(known.used_at.load(Relaxed)) > self.max_idle {
            self.sessions.remove(session);
            return None;
        }
        Some(known)
    }

    /// Takes note of an answer by the node that a session lives on. Only answers count as a use: who asks in vain does not
    /// wait for that node for ever.
    pub(super) fn touch(&self, known: &Session) {
        known.used_at.fetch_max(self.now(), Relaxed);
    }

    /// Takes note of what the response of a node does to the session; true if a session was learned.
    pub(super) fn learn(&self, asked: Option<&SessionKey>, response: &HeaderMap, node: &NodeId) -> bool {
        match header::change(response, &self.name) {
            None => false,
            Some(Change::Set(value)) => {
                let used_at = Arc::new(AtomicU64::new(self.now()));
                self.sessions.insert(SessionKey::of(value), Session { node: node.clone(), used_at });
                true
            }
            Some(Change::Deleted) => {
                asked.map(|session| self.sessions.remove(session));
                false
            }
        }
    }

    fn now(&self) -> u64 {
        millis(self.clock.now().saturating_duration_since(self.origin))
    }
}

/// 584 million years at most.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
