//! Nodes that do as they are told, in paused time.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    balance::{
        Balance, Budget, Classify, Cloned, Nodes, OnResponse, PickCx, Picker, Policy, Retry, RetryAfter,
    },
    cluster::{Cluster, FailureKind, Node, NodeState, Verdict},
};
use tokio::time::{Instant, sleep};
use tower::Service;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What a node does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// Answers with this status, after so long.
    Status(u16, Duration),
    /// Answers at once, and wants to be asked again later.
    Later(u16, RetryAfter),
    /// Fails at once.
    Error(io::ErrorKind),
    /// Never answers.
    Hang,
}

pub(crate) const OK: Act = Act::Status(200, Duration::ZERO);
pub(crate) const BAD: Act = Act::Status(500, Duration::ZERO);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) node: char,
    retry_after: Option<RetryAfter>,
}

/// Who was asked, when, and what came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub(crate) node: char,
    pub(crate) at: Instant,
    pub(crate) act: Act,
}

/// The visits of each request.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<BTreeMap<u64, Vec<Visit>>>>);

impl Log {
    /// The nodes that have seen a request, in order.
    pub(crate) fn nodes(&self, request: u64) -> String {
        self.visits(request).into_iter().map(|visit| visit.node).collect()
    }

    pub(crate) fn visits(&self, request: u64) -> Vec<Visit> {
        self.0.lock().unwrap().get(&request).cloned().unwrap_or_default()
    }
}

type Plan = Arc<dyn Fn(u64) -> Act + Send + Sync>;

/// A node that acts by a plan: from the request, what it does.
#[derive(Clone)]
pub(crate) struct Actor {
    name: char,
    plan: Plan,
    log: Log,
}

impl Service<u64> for Actor {
    type Response = Reply;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Reply>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        let act = (self.plan)(request);
        let node = self.name;
        self.log.0.lock().unwrap().entry(request).or_default().push(Visit { node, at: Instant::now(), act });
        Box::pin(async move {
            match act {
                Act::Status(status, after) => {
                    if !after.is_zero() {
                        sleep(after).await;
                    }
                    Ok(Reply { status, node, retry_after: None })
                }
                Act::Later(status, at) => Ok(Reply { status, node, retry_after: Some(at) }),
                Act::Error(kind) => Err(kind.into()),
                Act::Hang => std::future::pending().await,
            }
        })
    }
}

/// Judges as HTTP does.
#[derive(Clone, Copy)]
pub(crate) struct Critic;

impl Classify<Reply, io::Error> for Critic {
    fn classify(&self, answer: Result<&Reply, &io::Error>) -> Verdict {
        let kind = match answer {
            Ok(reply) => match reply.status {
                429 => FailureKind::Throttled,
                500 => FailureKind::Response,
                503 => FailureKind::Overloaded,
                _ => return Verdict::Success,
            },
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => FailureKind::Connect,
            Err(_) => FailureKind::Transport,
        };
        Verdict::Failure(kind)
    }

    fn retry_after(&self, answer: Result<&Reply, &io::Error>) -> Option<RetryAfter> {
        answer.ok()?.retry_after
    }
}

/// The first node that can take the request.
#[derive(Debug)]
pub(crate) struct First;

impl Policy for First {
    fn picker(&self, _: &Nodes, _: Option<&dyn Picker>) -> Box<dyn Picker> {
        Box::new(First)
    }
}

impl Picker for First {
    fn pick(&self, nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
        (0..nodes.len()).find(|&index| cx.can_take(&nodes[index]))
    }
}

pub(crate) type Balanced<S> = Balance<S, buttress::balance::NoKey, Critic, OnResponse>;
pub(crate) type Idempotent = Cloned<fn(&u64) -> bool>;

/// Nodes a, b, c and so on, the first of which that can is asked.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster<Actor>,
    pub(crate) log: Log,
}

impl Scene {
    pub(crate) fn new(acts: &[Act]) -> Self {
        Self::planned(acts.iter().map(|&act| Arc::new(move |_| act) as Plan))
    }

    pub(crate) fn planned(plans: impl IntoIterator<Item = Plan>) -> Self {
        let log = Log::default();
        let nodes = ('a'..)
            .zip(plans)
            .map(|(name, plan)| (Node::new(name.to_string()), Actor { name, plan, log: log.clone() }));
        Self { cluster: Cluster::new(nodes).unwrap(), log }
    }

    pub(crate) fn balance(&self) -> Balanced<Actor> {
        Balance::new(self.cluster.clone(), First).classify(Critic)
    }

    /// Even numbers may be repeated. The budget is large.
    pub(crate) fn retry(&self) -> Retry<Balanced<Actor>, Idempotent> {
        let even: fn(&u64) -> bool = |request| request.is_multiple_of(2);
        Retry::new(self.balance(), Cloned::new(even)).budget(plenty())
    }

    pub(crate) fn state(&self, node: char) -> Arc<NodeState> {
        Arc::clone(&self.cluster.get(node.to_string()).unwrap().member.state)
    }

    /// Failures, cancellations and requests in flight of a node.
    pub(crate) fn counts(&self, node: char) -> (u64, u64, u32) {
        let state = self.state(node);
        (state.failures(), state.cancelled(), state.in_flight())
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.cluster.load().iter().map(|member| member.state.in_flight()).sum()
    }
}

pub(crate) fn plenty() -> Budget {
    Budget::new(1.0, 1_000_000).unwrap()
}
