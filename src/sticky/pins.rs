//! Which node a request belongs to, and what its answer changes about that.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http::{Method, Request, Response, StatusCode, header::SET_COOKIE};

use super::{
    Personal, Pin, Rejected, Session, SessionTable, StickyCookie, header,
    index::{Index, Lookup},
    private::keep_private,
    table::SessionKey,
};
use crate::{
    balance::Affinity,
    cluster::{Cluster, NodeId},
};

/// Knows which client belongs to which node.
///
/// A cheap handle: services get clones of it, and the application may keep one to read [`stats`](Self::stats).
#[derive(Clone, Debug)]
pub struct Pins {
    source: Source,
    is_strict: bool,
    counters: Arc<Counters>,
}

#[derive(Clone)]
enum Source {
    Cookie { cookie: StickyCookie, nodes: Arc<dyn Lookup> },
    Table(SessionTable),
}

impl Pins {
    /// Pins clients to the nodes of `cluster` with a signed cookie, by the cluster's clock.
    pub fn cookie<S: Send + Sync + 'static>(cookie: StickyCookie, cluster: &Cluster<S>) -> Self {
        let nodes = Index::start(cluster.clone(), cookie.clone());
        Self::new(Source::Cookie { cookie, nodes })
    }

    /// Pins clients to the nodes that their sessions were begun on.
    pub fn learned(table: SessionTable) -> Self {
        Self::new(Source::Table(table))
    }

    fn new(source: Source) -> Self {
        Self { source, is_strict: false, counters: Arc::default() }
    }

    /// Lets a client have its own node or none: while that node cannot serve, its requests fail with
    /// [`Error::NoNode`](crate::balance::Error::NoNode), which a proxy tells as a 503.
    ///
    /// That is also so when the node is gone for good, until the pin has expired (as in Envoy's strict mode): drain nodes
    /// before they go, and set a short `max_idle`. A cookie that is not believed is as none, here too.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.is_strict = true;
        self
    }

    /// What has happened so far.
    pub fn stats(&self) -> PinStats {
        self.counters.read()
    }

    /// Finds where a request belongs, and takes the sticky cookie out of it.
    pub(super) fn arrive<B>(&self, request: &mut Request<B>) -> (Arrival, Option<Affinity>) {
        let is_head = request.method() == Method::HEAD;
        let headers = request.headers_mut();
        let (arrival, is_lost) = match &self.source {
            Source::Cookie { cookie, nodes } => {
                let pin = self.believed(header::find(headers, cookie.name()).and_then(|value| {
                    value.map(|value| cookie.verify(value, nodes.clock().wall())).transpose()
                }));
                if !cookie.is_passed_on() {
                    header::strip(headers, cookie.name());
                }
                let node = pin.and_then(|pin| nodes.node(pin.node()));
                let is_lost = pin.is_some() && node.is_none();
                (Arrival { is_head, node, pin, ..Arrival::default() }, is_lost)
            }
            Source::Table(table) => {
                let session = self.believed(table.session(headers));
                let known = session.and_then(|session| table.find(&session));
                let node = known.as_ref().map(|known| known.node().clone());
                (Arrival { is_head, node, session, known, ..Arrival::default() }, false)
            }
        };
        if is_lost {
            count(&self.counters.lost);
        }
        let affinity = match &arrival.node {
            Some(node) if self.is_strict => Some(Affinity::Require(node.clone())),
            Some(node) => Some(Affinity::Prefer(node.clone())),
            // No cluster has a node with an empty id.
            None => (is_lost && self.is_strict).then(|| Affinity::Require("".into())),
        };
        (arrival, affinity)
    }

    fn believed<T>(&self, found: Result<Option<T>, Rejected>) -> Option<T> {
        found.unwrap_or_else(|why| {
            if let Some(counter) = self.counters.rejected.get(why as usize) {
                count(counter);
            }
            None
        })
    }

    /// Takes note of the node that answered, and tells the client where that matters.
    pub(super) fn answer<B>(&self, arrival: &Arrival, by: &NodeId, response: &mut Response<B>) {
        let counters = &*self.counters;
        let is_kept = arrival.node.as_ref() == Some(by);
        if is_kept {
            count(&counters.kept);
        }
        let has_changed = match &self.source {
            Source::Cookie { cookie, nodes } => {
                let pin = arrival.pin.as_ref().filter(|_| is_kept);
                let is_due = pin.is_none_or(Pin::is_due);
                is_due
                    && may_pin(arrival.is_head, response.status(), is_kept)
                    && set(response, || cookie.set(by, pin, nodes.clock().wall()))
            }
            Source::Table(table) => {
                if let Some(known) = arrival.known.as_ref().filter(|_| is_kept) {
                    table.touch(known);
                }
                table.learn(arrival.session.as_ref(), response.headers(), by)
            }
        };
        if has_changed {
            count(match &arrival.node {
                Some(_) if is_kept => &counters.renewed,
                Some(_) => &counters.moved,
                None => &counters.assigned,
            });
        }
    }

    /// Takes note of an answer that does not say which node gave it.
    pub(super) fn unmarked(&self) {
        count(&self.counters.unmarked);
    }
}

/// Whether an answer of this status may set the cookie.
///
/// A node that fails is none to begin with. A cache in front puts the fields of a 304, and of an answer to HEAD, into the
/// response that it stores (RFC 9111, sections 4.3.4 and 4.3.5), and would give the cookie to others.
fn may_pin(is_head: bool, status: StatusCode, is_kept: bool) -> bool {
    !is_head && status != StatusCode::NOT_MODIFIED && (is_kept || !status.is_server_error())
}

/// Sets a cookie on a response that from then on is for one client alone.
fn set<B>(response: &mut Response<B>, cookie: impl FnOnce() -> Option<http::HeaderValue>) -> bool {
    let Some(cookie) = cookie() else { return false };
    let is_set =
        keep_private(response.headers_mut()) && response.headers_mut().try_append(SET_COOKIE, cookie).is_ok();
    if is_set {
        response.extensions_mut().insert(Personal);
    }
    is_set
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cookie { cookie, .. } => cookie.fmt(f),
            Self::Table(table) => table.fmt(f),
        }
    }
}

/// What is kept of a request until its answer is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrival {
    is_head: bool,
    /// Where it belongs.
    node: Option<NodeId>,
    pin: Option<Pin>,
    session: Option<SessionKey>,
    /// What the table knows of that session.
    known: Option<Session>,
}

/// How often what has happened to pins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PinStats {
    /// Answers by the node that the client belongs to.
    pub kept: u64,
    /// Clients that got a node, having had none, or none that is still there.
    pub assigned: u64,
    /// Clients that got another node, as theirs did not answer.
    pub moved: u64,
    /// Cookies that were renewed, and sessions begun anew, on the same node.
    pub renewed: u64,
    /// Requests whose cookie names a node that is not in the cluster.
    pub lost: u64,
    /// Answers that did not say which node gave them. If there are any, [`Balance::sticky`](crate::balance::Balance::sticky)
    /// may have been forgotten.
    pub unmarked: u64,
    rejected: [u64; Rejected::COUNT],
}

impl PinStats {
    /// Requests whose cookie was not believed for this reason.
    pub fn rejected(&self, why: Rejected) -> u64 {
        self.rejected.get(why as usize).copied().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Counters {
    kept: AtomicU64,
    assigned: AtomicU64,
    moved: AtomicU64,
    renewed: AtomicU64,
    lost: AtomicU64,
    unmarked: AtomicU64,
    rejected: [AtomicU64; Rejected::COUNT],
}

impl Counters {
    fn read(&self) -> PinStats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        PinStats {
            kept: read(&self.kept),
            assigned: read(&self.assigned),
            moved: read(&self.moved),
            renewed: read(&self.renewed),
            lost: read(&self.lost),
            unmarked: read(&self.unmarked),
            rejected: std::array::from_fn(|why| read(&self.rejected[why])),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
