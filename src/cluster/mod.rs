//! The nodes that can serve a request, and how each of them is doing.
//!
//! A [`Cluster`] is the one place that knows its nodes, their state and the services that reach them. Everything that
//! chooses (balancing, retries, sticky sessions, failover) chooses from a cluster, so that all of them see the same
//! load and the same health. It is a cheap handle: the application keeps a clone and changes the cluster through it
//! while requests run.
//!
//! Readers never wait: each change publishes a new [`Version`], and a request works with the version that it began
//! with. State is keyed by node id: it survives changes of weight, zone and service, and a removal that is undone
//! within the drain window.
//!
//! ```
//! use buttress::cluster::{Admin, Cluster, Node};
//!
//! # fn main() -> Result<(), buttress::cluster::ClusterError> {
//! let cluster = Cluster::new([(Node::new("a"), "service a"), (Node::new("b").weight(2), "service b")])?;
//! cluster.insert(Node::new("c"), "service c")?;
//! cluster.set_admin("a", Admin::Draining)?;
//! assert_eq!(cluster.load().iter().filter(|member| member.node.takes_new_picks()).count(), 2);
//! # Ok(())
//! # }
//! ```

mod common;
mod gate;
mod guard;
mod latency;
mod node;
mod ramp;
mod registry;
mod state;
mod version;

use std::{
    fmt,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

pub(crate) use self::{
    common::{Attention, Common, NEVER, Observer, Permit, Probe, nanos},
    gate::{Gate, Place},
    latency::Stamp,
    state::Term,
};
pub use self::{
    guard::LoadGuard,
    node::{Admin, Node, NodeId},
    ramp::SlowStart,
    state::{FailureKind, Health, NodeState, Verdict},
    version::{Endpoint, Member, Version},
};
use self::{registry::Registry, version::Draft};
use crate::time::{Clock, TokioClock};

/// How long a removed node's state is kept for its return, unless configured.
const DRAIN_WINDOW: Duration = Duration::from_secs(300);

/// How many removed nodes' states are kept at most: discovery that invents names must not fill memory.
const MAX_DEPARTED: usize = 4096;

/// A change to one node of a cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change<S> {
    /// Adds a node, or replaces the description and service of the one with this id.
    Insert(Node, S),
    /// Takes a node out. What it has in flight goes on.
    Remove(NodeId),
}

/// Why a cluster refused a change. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// Two nodes bear the same name.
    #[error("two nodes are named \"{0}\": give each node an id of its own")]
    DuplicateId(NodeId),
    /// A node has an empty name.
    #[error("a node has an empty id: give it a name")]
    EmptyId,
    /// No node bears this name.
    #[error("no node is named \"{0}\"")]
    UnknownId(NodeId),
    /// The update names no node at all, and the cluster was not told to accept that.
    #[error("the update names no node: the last good set stays (`allow_empty` would let it through)")]
    EmptyUpdate,
    /// The [`SlowStart`] makes no sense.
    #[error("slow start: {0}")]
    SlowStart(&'static str),
}

/// Something that derives its own view of a cluster and wants to know of each new version.
pub(crate) trait Subscriber: Send + Sync {
    /// Brings the view up to the latest version. Runs in the thread that made the change, under no lock.
    fn refresh(&self);

    /// The cluster is gone.
    fn close(&self) {}
}

/// A shared, replaceable set of nodes and the services that reach them.
pub struct Cluster<S> {
    inner: Arc<Inner<S>>,
}

struct Inner<S> {
    current: ArcSwap<Version<S>>,
    /// Serialises changes. No code of the user's runs under it.
    registry: Mutex<Registry>,
    subscribers: Mutex<Vec<Weak<dyn Subscriber>>>,
    common: Arc<Common>,
    observer: OnceLock<Arc<dyn Observer>>,
    /// Whether a monitor checks the nodes.
    monitored: Arc<AtomicBool>,
    allow_empty: bool,
}

impl<S> Inner<S> {
    fn subscribers(&self) -> Vec<Arc<dyn Subscriber>> {
        lock(&self.subscribers).iter().filter_map(Weak::upgrade).collect()
    }
}

impl<S> Drop for Inner<S> {
    fn drop(&mut self) {
        self.subscribers().iter().for_each(|subscriber| subscriber.close());
    }
}

/// A cluster that may be gone.
pub(crate) struct WeakCluster<S>(Weak<Inner<S>>);

impl<S> WeakCluster<S> {
    pub(crate) fn upgrade(&self) -> Option<Cluster<S>> {
        self.0.upgrade().map(|inner| Cluster { inner })
    }
}

impl<S> Clone for Cluster<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<S> fmt::Debug for Cluster<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.load();
        f.debug_struct("Cluster")
            .field("generation", &version.generation())
            .field("nodes", &version.iter().map(|member| &member.node.id).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Cluster<()> {
    /// Settings for a cluster that differ from the defaults.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }
}

impl<S> Cluster<S> {
    /// A cluster of `nodes`; it may be empty and filled later.
    ///
    /// # Errors
    /// If two nodes bear the same name, or one bears none.
    pub fn new(nodes: impl IntoIterator<Item = (Node, S)>) -> Result<Self, ClusterError> {
        ClusterBuilder::default().build(nodes)
    }

    /// The set of nodes as it is now. Takes a few nanoseconds and waits for nobody.
    pub fn load(&self) -> Arc<Version<S>> {
        self.inner.current.load_full()
    }

    /// The node with this id, its state and its service.
    pub fn get(&self, id: impl Into<NodeId>) -> Option<Arc<Endpoint<S>>> {
        self.load().get(&id.into()).cloned()
    }

    /// Adds a node, or replaces the description and service of the one with its id, keeping its state.
    ///
    /// # Errors
    /// If the id is empty.
    pub fn insert(&self, node: Node, service: S) -> Result<(), ClusterError> {
        self.apply([Change::Insert(node, service)])
    }

    /// Takes a node out: no new picks from here on, and what it has in flight goes on. True if it was there.
    ///
    /// Unlike [`replace`](Self::replace) this may take out the last node: it was named.
    pub fn remove(&self, id: impl Into<NodeId>) -> bool {
        let id = id.into();
        self.load().get(&id).is_some()
            && self.edit(|draft, registry| Ok(draft.remove(&id, registry))).unwrap_or(false)
    }

    /// Applies some changes as one.
    ///
    /// # Errors
    /// If an inserted id is empty; then nothing changes. Removing an unknown node is no error.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change<S>>) -> Result<(), ClusterError> {
        // The caller's iterator runs before the lock is taken.
        let changes: Vec<_> = changes.into_iter().collect();
        if changes
            .iter()
            .any(|change| matches!(change, Change::Insert(node, _) if node.id.as_str().is_empty()))
        {
            return Err(ClusterError::EmptyId);
        }
        self.edit(|draft, registry| {
            for change in changes {
                match change {
                    Change::Insert(node, service) => draft.insert(node, Arc::new(service), registry),
                    Change::Remove(id) => {
                        draft.remove(&id, registry);
                    }
                }
            }
            Ok(())
        })
    }

    /// Makes `nodes` the whole set. Nodes that stay keep their state; those no longer named are removed.
    ///
    /// What was set on a node since it was last listed (with [`set_admin`](Self::set_admin), for example) stays as
    /// long as the list repeats what it said there: discovery does not undo what the operator does.
    ///
    /// # Errors
    /// If two nodes bear the same name, one bears none, or there is no node at all and the cluster was not built with
    /// [`allow_empty`](ClusterBuilder::allow_empty): discovery that fails must not empty a cluster that works.
    pub fn replace(&self, nodes: impl IntoIterator<Item = (Node, S)>) -> Result<(), ClusterError> {
        let nodes = nodes.into_iter().map(|(node, service)| (node, Some(Arc::new(service)))).collect();
        self.replace_all(nodes, |_| unreachable!("every node has its service"))
    }

    /// Makes `nodes` the whole set, keeping the services of nodes that stay and making those of new ones.
    ///
    /// Connections to nodes that stay are kept, which is what discovery wants. A list that says nothing new makes no
    /// new [`Version`].
    ///
    /// # Errors
    /// As [`replace`](Self::replace).
    pub fn replace_with(
        &self,
        nodes: impl IntoIterator<Item = Node>,
        mut make: impl FnMut(&Node) -> S,
    ) -> Result<(), ClusterError> {
        let nodes = nodes.into_iter().map(|node| (node, None)).collect();
        self.replace_all(nodes, |node| Arc::new(make(node)))
    }

    fn replace_all(
        &self,
        mut nodes: Vec<(Node, Option<Arc<S>>)>,
        mut make: impl FnMut(&Node) -> Arc<S>,
    ) -> Result<(), ClusterError> {
        nodes.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        self.review(nodes.iter().map(|(node, _)| &node.id))?;
        if nodes.iter().all(|(_, service)| service.is_none())
            && self.load().repeats(nodes.iter().map(|(node, _)| node))
        {
            return Ok(());
        }
        // Services are made outside the lock; a node that leaves meanwhile has its own made in the next round.
        loop {
            let current = self.load();
            for (node, service) in &mut nodes {
                if service.is_none() && current.get(&node.id).is_none() {
                    *service = Some(make(node));
                }
            }
            if self.edit(|draft, registry| Ok(draft.replace(&nodes, registry)))? {
                return Ok(());
            }
        }
    }

    /// Says whether the nodes with these ids, which are in order, may be the whole set.
    pub(crate) fn review<'a>(
        &self,
        ids: impl ExactSizeIterator<Item = &'a NodeId>,
    ) -> Result<(), ClusterError> {
        if ids.len() == 0 && !self.inner.allow_empty {
            return Err(ClusterError::EmptyUpdate);
        }
        check_ids(ids)
    }

    /// Sets what the operator wants of a node.
    ///
    /// # Errors
    /// If no node bears this id.
    pub fn set_admin(&self, id: impl Into<NodeId>, admin: Admin) -> Result<(), ClusterError> {
        self.alter(id.into(), |node| node.admin = admin)
    }

    /// Sets a node's weight.
    ///
    /// # Errors
    /// If no node bears this id.
    pub fn set_weight(&self, id: impl Into<NodeId>, weight: u16) -> Result<(), ClusterError> {
        self.alter(id.into(), |node| node.weight = weight)
    }

    /// Sets how many requests a node may have in flight; 0 removes the limit.
    ///
    /// # Errors
    /// If no node bears this id.
    pub fn set_max_in_flight(&self, id: impl Into<NodeId>, limit: u32) -> Result<(), ClusterError> {
        self.alter(id.into(), |node| node.max_in_flight = NonZeroU32::new(limit))
    }

    /// Sets what is known of a node's health.
    ///
    /// # Errors
    /// If no node bears this id.
    pub fn set_health(&self, id: impl Into<NodeId>, health: Health) -> Result<(), ClusterError> {
        let id = id.into();
        let endpoint = self.load().get(&id).cloned().ok_or(ClusterError::UnknownId(id))?;
        endpoint.member.state.set_health(health);
        Ok(())
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.common.clock
    }

    pub(crate) fn origin(&self) -> Instant {
        self.inner.common.origin
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.inner.common.gate
    }

    pub(crate) fn health_epoch(&self) -> &AtomicU64 {
        &self.inner.common.health_epoch
    }

    pub(crate) fn common(&self) -> &Arc<Common> {
        &self.inner.common
    }

    /// Has what the nodes' traffic tells watched for as long as the cluster lives. False if it is watched already.
    pub(crate) fn observe(&self, observer: Arc<dyn Observer>) -> bool {
        if !self.inner.common.set_observer(Arc::downgrade(&observer)) {
            return false;
        }
        let _ = self.inner.observer.set(observer);
        self.introduce_members();
        true
    }

    fn introduce_members(&self) {
        if let Some(observer) = self.inner.observer.get() {
            let version = self.load();
            let mut members = version.endpoints().iter().map(|endpoint| &endpoint.member);
            observer.members(version.generation(), &mut members);
        }
    }

    pub(crate) fn subscribe(&self, subscriber: Weak<dyn Subscriber>) {
        let mut subscribers = lock(&self.inner.subscribers);
        subscribers.retain(|known| known.strong_count() > 0);
        subscribers.push(subscriber);
    }

    /// As [`subscribe`](Self::subscribe), told of each version before all others.
    pub(crate) fn subscribe_first(&self, subscriber: Weak<dyn Subscriber>) {
        let mut subscribers = lock(&self.inner.subscribers);
        subscribers.retain(|known| known.strong_count() > 0);
        subscribers.insert(0, subscriber);
    }

    pub(crate) fn downgrade(&self) -> WeakCluster<S> {
        WeakCluster(Arc::downgrade(&self.inner))
    }

    pub(crate) fn monitored(&self) -> &Arc<AtomicBool> {
        &self.inner.monitored
    }

    fn alter(&self, id: NodeId, change: impl Fn(&mut Node)) -> Result<(), ClusterError> {
        if let Some(known) = self.load().get(&id) {
            let mut node = known.member.node.clone();
            change(&mut node);
            if node == known.member.node {
                return Ok(());
            }
        }
        self.edit(|draft, _| if draft.alter(&id, change) { Ok(()) } else { Err(ClusterError::UnknownId(id)) })
    }

    /// Runs `change` on a copy of the set and publishes the copy, unless it fails.
    fn edit<T>(
        &self,
        change: impl FnOnce(&mut Draft<S>, &mut Registry) -> Result<T, ClusterError>,
    ) -> Result<T, ClusterError> {
        let inner = &*self.inner;
        let now = inner.common.clock.now();
        // Declared before the lock, so that services which leave are dropped after it.
        let (old, mut draft);
        let result = {
            let mut registry = lock(&inner.registry);
            registry.forget_before(now);
            draft = Draft::of(&inner.current.load());
            let result = change(&mut draft, &mut registry)?;
            old = inner.current.swap(Arc::new(draft.publish()));
            result
        };
        drop(old);
        self.introduce_members();
        // A policy may be the user's code: if it panics, the others are told nevertheless.
        let mut panic = None;
        for subscriber in inner.subscribers() {
            let told = catch_unwind(AssertUnwindSafe(|| subscriber.refresh()));
            panic = panic.or(told.err());
        }
        // Only now: a caller that tried before the refresh would not see the change, and sleep on.
        inner.common.gate.open();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        Ok(result)
    }
}

/// Settings of a [`Cluster`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClusterBuilder {
    clock: Arc<dyn Clock>,
    drain_window: Duration,
    allow_empty: bool,
    slow_start: Option<SlowStart>,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self { clock: Arc::new(TokioClock), drain_window: DRAIN_WINDOW, allow_empty: false, slow_start: None }
    }
}

impl ClusterBuilder {
    /// Sets where the time comes from (default: tokio's clock).
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets for how long the state of a removed node waits for its return (default: 5 minutes).
    pub fn drain_window(mut self, window: Duration) -> Self {
        self.drain_window = window;
        self
    }

    /// Lets an update that names no node empty the cluster (default: the last good set stays).
    pub fn allow_empty(mut self, allow: bool) -> Self {
        self.allow_empty = allow;
        self
    }

    /// Lets nodes that return or join take up their share little by little (default: at once).
    pub fn slow_start(mut self, slow_start: SlowStart) -> Self {
        self.slow_start = Some(slow_start);
        self
    }

    /// Builds the cluster; `nodes` may be empty and be filled later.
    ///
    /// # Errors
    /// If two nodes bear the same name, or one bears none, or the slow start makes no sense.
    pub fn build<S>(self, nodes: impl IntoIterator<Item = (Node, S)>) -> Result<Cluster<S>, ClusterError> {
        if let Some(fault) = self.slow_start.as_ref().and_then(SlowStart::fault) {
            return Err(ClusterError::SlowStart(fault));
        }
        let common = Arc::new(Common::new(self.clock, self.slow_start));
        let cluster = Cluster {
            inner: Arc::new(Inner {
                current: ArcSwap::from_pointee(Version::empty()),
                registry: Mutex::new(Registry::new(Arc::clone(&common), self.drain_window)),
                subscribers: Mutex::default(),
                common,
                observer: OnceLock::new(),
                monitored: Arc::default(),
                allow_empty: self.allow_empty,
            }),
        };
        let nodes: Vec<_> = nodes.into_iter().collect();
        if !nodes.is_empty() {
            cluster.replace(nodes)?;
        }
        Ok(cluster)
    }
}

/// Checks ids that are in order: none is empty, none is there twice.
fn check_ids<'a>(ids: impl Iterator<Item = &'a NodeId>) -> Result<(), ClusterError> {
    let mut previous: Option<&NodeId> = None;
    for id in ids {
        if id.as_str().is_empty() {
            return Err(ClusterError::EmptyId);
        }
        if previous == Some(id) {
            return Err(ClusterError::DuplicateId(id.clone()));
        }
        previous = Some(id);
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the lock protects is whole between statements: a panic elsewhere is no reason to stop.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
