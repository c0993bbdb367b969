//! The service that balances.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Weak, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use arc_swap::ArcSwap;
use tower_service::Service;

use super::{
    Affinity, Classify, Complete, Error, ErrorsFail, KeyOf, Levels, NoKey, NoNode, OnResponse, PickCx,
    Policy,
    acquire::{Search, acquire},
    affinity::Wanted,
    chooser::Chooser,
    future::{Attempt, ResponseFuture},
};
use crate::{
    cluster::{Cluster, Endpoint, LoadGuard, Member, NodeId, Subscriber},
    placement::KeyHash,
    rng::Rng,
};

/// How often a pick is repeated when others fill the chosen node in between.
const MAX_PICKS: usize = 16;

/// How often a pick is repeated that found no node while some are down. Their health may change while it looks, so that it
/// finds neither those that were up a moment ago nor those that are up now, nor that they are too few.
const MAX_DOUBTS: usize = 4;

/// Where requests wait while every node is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    pub(super) limit: NonZeroUsize,
    pub(super) patience: Duration,
}

impl Queue {
    /// A queue of at most `limit` requests (0 counts as 1), each of which waits for at most `patience`.
    ///
    /// The limit should be what the nodes can work off within the patience: longer queues only make answers late. All
    /// balancers over one cluster stand in the same line. Waiting needs a tokio runtime with its timer enabled.
    pub const fn new(limit: usize, patience: Duration) -> Self {
        let limit = match NonZeroUsize::new(limit) {
            Some(limit) => limit,
            None => NonZeroUsize::MIN,
        };
        Self { limit, patience }
    }
}

/// Sends each request to one node of a cluster.
///
/// A cheap clone shares the policy and all state with the original. The node is chosen in `call`, when the request is
/// known, so `poll_ready` is always ready; a request that no node can take fails at once with [`Error::NoNode`], or
/// waits in the [`queue`](Self::queue) if there is one and nodes are merely full. A node that is not ready is passed
/// over for another one, as it has seen nothing of the request; when all are busy, the first to be ready, or to have room,
/// gets it.
///
/// Dropping the future takes the request back: counts are right at any point.
///
/// Type parameters: `S` is the service of each node; `K` finds the key of a request, `J` judges the answer, `C` says when
/// a request is over. The defaults suit a policy without keys and responses without bodies; for HTTP, see
/// `Balance::http` (feature `http`).
pub struct Balance<S, K = NoKey, J = ErrorsFail, C = OnResponse> {
    pub(super) shared: Arc<Shared<S>>,
    pub(super) key: K,
    pub(super) judge: J,
    pub(super) complete: C,
}

pub(super) struct Shared<S> {
    pub(super) cluster: Cluster<S>,
    policy: Arc<dyn Policy>,
    levels: Levels,
    pub(super) queue: Option<Queue>,
    observes_latency: bool,
    chooser: ArcSwap<Chooser<S>>,
}

impl<S: Send + Sync + 'static> Balance<S> {
    /// Balances over `cluster` by `policy`.
    pub fn new(cluster: Cluster<S>, policy: impl Policy) -> Self {
        let shared = Shared::start(cluster, Arc::new(policy), Levels::default(), None);
        Self { shared, key: NoKey, judge: ErrorsFail, complete: OnResponse }
    }
}

impl<S: Send + Sync + 'static, K, J, C> Balance<S, K, J, C> {
    /// Finds the key of a request with `key`: a closure will do.
    #[must_use]
    pub fn key<K2>(self, key: K2) -> Balance<S, K2, J, C> {
        Balance { shared: self.shared, key, judge: self.judge, complete: self.complete }
    }

    /// Judges answers with `judge`: a closure will do.
    #[must_use]
    pub fn classify<J2>(self, judge: J2) -> Balance<S, K, J2, C> {
        Balance { shared: self.shared, key: self.key, judge, complete: self.complete }
    }

    /// Says with `complete` when a request is over.
    #[must_use]
    pub fn complete<C2>(self, complete: C2) -> Balance<S, K, J, C2> {
        Balance { shared: self.shared, key: self.key, judge: self.judge, complete }
    }

    /// Sets how priorities and zones divide the traffic.
    #[must_use]
    pub fn levels(self, levels: Levels) -> Self {
        let queue = self.shared.queue;
        self.restart(levels, queue)
    }

    /// Lets requests wait while every node is full, instead of failing at once.
    #[must_use]
    pub fn queue(self, queue: Queue) -> Self {
        let levels = self.shared.levels.clone();
        self.restart(levels, Some(queue))
    }

    /// The cluster that it balances over.
    pub fn cluster(&self) -> &Cluster<S> {
        &self.shared.cluster
    }

    /// Chooses a node without sending anything: its service, and the guard that counts the request in until dropped.
    ///
    /// For what is not a request and a response, such as a TCP connection. The queue is not used. Judge the guard, if only
    /// as [`Neutral`](crate::cluster::Verdict::Neutral): dropped unjudged it counts as cancelled, and what has passed as
    /// the least that an answer would have taken.
    ///
    /// # Errors
    /// If no node can take a request now.
    pub fn pick(&self, key: Option<KeyHash>) -> Result<(S, LoadGuard), NoNode>
    where
        S: Clone,
    {
        self.shared.pick(Wanted { key, ..Wanted::default() })
    }

    fn restart(self, levels: Levels, queue: Option<Queue>) -> Self {
        let Shared { cluster, policy, .. } = &*self.shared;
        let shared = Shared::start(cluster.clone(), Arc::clone(policy), levels, queue);
        Self { shared, ..self }
    }

    /// Sends the request to a node that is not among `tried`.
    pub(super) fn attempt<Req>(&self, request: Req, tried: &[NodeId]) -> Attempt<S, Req, J, C>
    where
        S: Service<Req> + Clone,
        S::Error: Send + 'static,
        Req: 'static,
        K: KeyOf<Req>,
        J: Clone,
        C: Clone,
    {
        let shared = &self.shared;
        let (key, affinity) = (self.key.key(&request), self.key.affinity(&request));
        let (judge, complete) = (self.judge.clone(), self.complete.clone());
        let wanted = Wanted { key, affinity: affinity.as_ref(), tried };
        let search = || Search::new(key, affinity.clone(), tried.to_vec());
        let search = if shared.is_crowded() {
            search()
        } else {
            match shared.pick(wanted) {
                Ok((mut service, guard)) => match service.poll_ready(&mut Context::from_waker(Waker::noop()))
                {
                    Poll::Ready(Ok(())) => {
                        return Attempt::calling(service.call(request), guard, judge, complete);
                    }
                    // Asked again in the future, with a waker.
                    Poll::Pending => search().waiting_for(service, guard),
                    Poll::Ready(Err(error)) => search().without(guard, error),
                },
                Err(why) if why.full > 0 && shared.queue.is_some() => search(),
                Err(why) => return Attempt::failed(Error::NoNode(why)),
            }
        };
        Attempt::acquiring(Box::pin(acquire(Arc::clone(shared), search)), request, judge, complete)
    }
}

impl<S, K: Clone, J: Clone, C: Clone> Clone for Balance<S, K, J, C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            key: self.key.clone(),
            judge: self.judge.clone(),
            complete: self.complete.clone(),
        }
    }
}

impl<S, K, J, C> fmt::Debug for Balance<S, K, J, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance")
            .field("cluster", &self.shared.cluster)
            .field("policy", &self.shared.policy)
            .field("queue", &self.shared.queue)
            .finish_non_exhaustive()
    }
}

impl<S, Req, K, J, C> Service<Req> for Balance<S, K, J, C>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Send + 'static,
    Req: 'static,
    K: KeyOf<Req>,
    J: Classify<S::Response, S::Error> + Clone,
    C: Complete<S::Response> + Clone,
{
    type Response = C::Response;
    type Error = Error<S::Error>;
    type Future = ResponseFuture<S, Req, J, C>;

    /// Always ready: which node matters is known only in `call`.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture::new(self.attempt(request, &[]))
    }
}

impl<S: Send + Sync + 'static> Shared<S> {
    fn start(
        cluster: Cluster<S>,
        policy: Arc<dyn Policy>,
        levels: Levels,
        queue: Option<Queue>,
    ) -> Arc<Self> {
        let observes_latency = policy.observes_latency();
        let chooser = ArcSwap::from_pointee(Chooser::new(&cluster, &*policy, &levels, None));
        let shared = Arc::new(Self { cluster, policy, levels, queue, observes_latency, chooser });
        let subscriber: Weak<Self> = Arc::downgrade(&shared);
        shared.cluster.subscribe(subscriber);
        // A change between the look at the cluster and the subscription would be missed.
        shared.refresh();
        shared
    }

    /// Whether others wait in the queue: whoever comes then stands behind them.
    #[inline]
    pub(super) fn is_crowded(&self) -> bool {
        self.queue.is_some() && self.cluster.gate().is_crowded()
    }

    /// Whether a node that is not among those tried could take a request.
    pub(super) fn could_pick(&self, wanted: Wanted<'_>) -> bool {
        let chooser = self.chooser.load();
        let mut cx = PickCx::new(&**self.cluster.clock(), Rng::from_thread()).tried(wanted.tried);
        let epoch = self.cluster.health_epoch().load(Ordering::Acquire);
        match wanted.affinity {
            Some(Affinity::Require(node)) => chooser.choose_pinned(node, &mut cx, epoch).is_some(),
            _ => chooser.could_choose(&mut cx, epoch),
        }
    }

    /// Whether a request may go on waiting for the node that it is counted in on.
    pub(super) fn is_current(&self, guard: &LoadGuard) -> bool {
        self.chooser.load().is_current(guard)
    }

    /// Whether health is ignored where this node is, because too few of its kind are left.
    pub(super) fn is_in_panic(&self, member: &Member) -> bool {
        self.chooser.load().ignores_health(member)
    }

    /// Chooses a node that is not among those tried and counts the request in.
    #[inline]
    pub(super) fn pick(&self, wanted: Wanted<'_>) -> Result<(S, LoadGuard), NoNode>
    where
        S: Clone,
    {
        let chooser = self.chooser.load();
        let epoch = self.cluster.health_epoch().load(Ordering::Acquire);
        let clock = &**self.cluster.clock();
        let mut cx = PickCx::new(clock, Rng::from_thread()).key(wanted.key).tried(wanted.tried);
        let calls = self.cluster.common().attention.calls();
        if calls != 0
            && let Some(found) = self.attend(calls, wanted, &chooser, &mut cx)
        {
            return Ok(found);
        }
        if let Some(affinity) = wanted.affinity {
            let node = affinity.node();
            let pinned = self.pick_pinned(node, &chooser, &mut cx, epoch);
            if pinned.is_some() || matches!(affinity, Affinity::Require(_)) {
                return pinned.ok_or_else(|| chooser.explain_pinned(node, &cx));
            }
        }
        let mut doubts = MAX_DOUBTS;
        // A node may fill up between the choice and the count; each time some other request was let in.
        for _ in 0..MAX_PICKS {
            let Some(endpoint) = chooser.choose(&mut cx, epoch) else {
                let why = chooser.explain(&cx);
                if why.unhealthy == 0 || doubts == 0 {
                    return Err(why);
                }
                doubts -= 1;
                chooser.recount();
                continue;
            };
            if let Some(guard) = self.begin(endpoint, &mut cx) {
                return Ok((S::clone(&endpoint.service), guard));
            }
        }
        Err(chooser.explain(&cx))
    }

    /// Chooses the node that a request is pinned to and counts the request in.
    #[cold]
    fn pick_pinned(
        &self,
        id: &NodeId,
        chooser: &Chooser<S>,
        cx: &mut PickCx<'_>,
        epoch: u64,
    ) -> Option<(S, LoadGuard)>
    where
        S: Clone,
    {
        let endpoint = chooser.choose_pinned(id, cx, epoch)?;
        let guard = self.begin(endpoint, cx)?;
        chooser.charge(&endpoint.member);
        Some((S::clone(&endpoint.service), guard))
    }

    /// Counts a request in, unless the node is full.
    #[inline]
    fn begin(&self, endpoint: &Endpoint<S>, cx: &mut PickCx<'_>) -> Option<LoadGuard> {
        let (member, in_panic) = (&endpoint.member, cx.in_panic());
        if self.observes_latency || cx.is_timed() {
            LoadGuard::send_at(member, cx.nanos_since(self.cluster.origin()), in_panic, &mut cx.rng)
        } else {
            LoadGuard::send(member, in_panic)
        }
    }
}

impl<S: Send + Sync + 'static> Subscriber for Shared<S> {
    fn refresh(&self) {
        loop {
            let current = self.chooser.load();
            if current.generation() >= self.cluster.load().generation() {
                return;
            }
            // The policy's code runs here: under no lock, and again if another thread was faster.
            let next = Chooser::new(&self.cluster, &*self.policy, &self.levels, Some(&current));
            self.chooser.compare_and_swap(&current, Arc::new(next));
        }
    }
}
