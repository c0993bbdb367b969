//! Our own `Balance`, whole: key, choice, counts, call and verdict, one case for each policy worth comparing.

use std::convert::Infallible;
use std::sync::Arc;

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

pub(crate) fn policies() -> Vec<(&'static str, Arc<dyn Policy>)> {
    vec![
        ("ours, RoundRobin", Arc::new(RoundRobin)),
        ("ours, WeightedRoundRobin", Arc::new(WeightedRoundRobin)),
        ("ours, Random", Arc::new(Random)),
        ("ours, LeastRequest (2 choices)", Arc::new(LeastRequest::new())),
        ("ours, LeastRequest (all)", Arc::new(LeastRequest::of_all())),
        ("ours, LeastResponseTime (default)", Arc::new(LeastResponseTime::new())),
        ("ours, ConsistentHash", Arc::new(ConsistentHash::new())),
    ]
}

/// The cases at this many nodes, after what the harness and the service cost by themselves.
pub(crate) fn cases(nodes: usize) -> Vec<Case> {
    let service: Service = service_fn(answer);
    let bare = Case::driven("no balancer, the service itself", runtime(), service);
    let balanced = policies().into_iter().map(|(name, policy)| {
        let is_weighted = name == "ours, WeightedRoundRobin";
        let balance = Balance::new(cluster(nodes, is_weighted), policy);
        if name == "ours, ConsistentHash" {
            return Case::driven(name, runtime(), balance.key(|request: &u64| Some(KeyHash::of(request))));
        }
        Case::driven(name, runtime(), balance)
    });
    std::iter::once(bare).chain(balanced).collect()
}

/// Nodes of weights 1 to 5, or all of weight 1.
pub(crate) fn cluster(nodes: usize, is_weighted: bool) -> Cluster<Service> {
    let service: Service = service_fn(answer);
    let weight = |i: u16| if is_weighted { 1 + i % 5 } else { 1 };
    let nodes = (0_u16..).take(nodes).map(|i| (Node::new(format!("node-{i}")).weight(weight(i)), service));
    Cluster::new(nodes).expect("the names differ")
}
