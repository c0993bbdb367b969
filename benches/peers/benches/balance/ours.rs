//! Our own `Balance`, whole: key, choice, counts, call and verdict, one case for each policy worth comparing.

use std::convert::Infallible;

use buttress::{
    balance::{
        Balance, ConsistentHash, LeastRequest, LeastResponseTime, Policy, Random, RoundRobin,
        WeightedRoundRobin,
    },
    cluster::{Cluster, Node},
    placement::KeyHash,
};
use tower::service_fn;

use crate::case::{Case, answer, runtime};

type Service = tower::util::ServiceFn<fn(u64) -> std::future::Ready<Result<u64, Infallible>>>;

/// The cases at this many nodes.
pub(crate) fn cases(nodes: usize) -> Vec<Case> {
    let by_key =
        Balance::new(cluster(nodes), ConsistentHash::new()).key(|request: &u64| Some(KeyHash::of(request)));
    vec![
        driven("ours, RoundRobin", nodes, RoundRobin),
        driven("ours, WeightedRoundRobin", nodes, WeightedRoundRobin),
        driven("ours, Random", nodes, Random),
        driven("ours, LeastRequest (2 choices)", nodes, LeastRequest::new()),
        driven("ours, LeastRequest (all)", nodes, LeastRequest::of_all()),
        driven("ours, LeastResponseTime (default)", nodes, LeastResponseTime::default()),
        Case::driven("ours, ConsistentHash", runtime(), by_key),
    ]
}

fn driven(name: &'static str, nodes: usize, policy: impl Policy) -> Case {
    Case::driven(name, runtime(), Balance::new(cluster(nodes), policy))
}

/// Nodes of weights 1 to 5, which only the weighted policies look at.
fn cluster(nodes: usize) -> Cluster<Service> {
    let service: Service = service_fn(answer);
    let nodes = (0_u16..).take(nodes).map(|i| (Node::new(format!("node-{i}")).weight(1 + i % 5), service));
    Cluster::new(nodes).expect("the names differ")
}
