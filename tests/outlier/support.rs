//! A cluster under a clock of the test's, and traffic for it.

use std::{collections::BTreeMap, time::Duration};

use buttress::{
    balance::{Balance, Policy},
    cluster::{Cluster, ClusterBuilder, FailureKind, LoadGuard, Node, SlowStart, Verdict},
    health::{Ejections, OutlierDetection},
    time::ManualClock,
};

pub(crate) const FAILED: Verdict = Verdict::Failure(FailureKind::Response);

pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) cluster: Cluster<()>,
    pub(crate) ejections: Ejections,
}

/// `a`, `b`, `c` and so on.
pub(crate) fn named(nodes: usize) -> impl Iterator<Item = Node> {
    ('a'..).take(nodes).map(|name| Node::new(name.to_string()))
}

impl World {
    pub(crate) fn new(rules: OutlierDetection, nodes: impl IntoIterator<Item = Node>) -> Self {
        Self::build(rules, Cluster::builder(), nodes)
    }

    pub(crate) fn gentle(
        rules: OutlierDetection,
        slow_start: SlowStart,
        nodes: impl IntoIterator<Item = Node>,
    ) -> Self {
        Self::build(rules, Cluster::builder().slow_start(slow_start), nodes)
    }

    fn build(
        rules: OutlierDetection,
        cluster: ClusterBuilder,
        nodes: impl IntoIterator<Item = Node>,
    ) -> Self {
        // Balancers seed themselves from the thread.
        fastrand::seed(7);
        let clock = ManualClock::new();
        let nodes = nodes.into_iter().map(|node| (node, ()));
        let cluster = cluster.clock(clock.clone()).build(nodes).unwrap();
        let ejections = rules.jitter(0).watch(&cluster).unwrap();
        Self { clock, cluster, ejections }
    }

    pub(crate) fn balance(&self, policy: impl Policy) -> Balance<()> {
        Balance::new(self.cluster.clone(), policy)
    }

    pub(crate) fn pass(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }

    /// Counts a request in on this node, whatever state it is in.
    pub(crate) fn start(&self, node: &str) -> LoadGuard {
        LoadGuard::start(&self.cluster.get(node).unwrap().member).unwrap()
    }

    /// Has a node fail five times in a row.
    pub(crate) fn eject(&self, node: &str) {
        (0..5).for_each(|_| self.start(node).judge(FAILED));
        assert!(self.is_out(node));
    }

    pub(crate) fn is_out(&self, node: &str) -> bool {
        let listed = self.ejections.list().iter().any(|ejection| ejection.node.as_str() == node);
        if let Some(endpoint) = self.cluster.get(node) {
            assert_eq!(endpoint.member.state.is_ejected(), listed, "{node}");
        }
        listed
    }
}

pub(crate) fn pick(balance: &Balance<()>) -> LoadGuard {
    balance.pick(None).unwrap().1
}

pub(crate) fn name(guard: &LoadGuard) -> String {
    guard.member().node.id.to_string()
}

/// Sends so many requests, each of which is answered at once; counts them by node.
pub(crate) fn send(
    balance: &Balance<()>,
    requests: usize,
    answer: impl Fn(&str) -> Verdict,
) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let mut guard = pick(balance);
        guard.judge(answer(&name(&guard)));
        *counts.entry(name(&guard)).or_default() += 1;
    }
    counts
}
