//! `pingora-load-balancing`: `select` only.
//!
//! It chooses an address and stops there: it neither calls the node nor counts what is in flight, so its figures buy
//! less than those of a balancing service.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

use pingora_load_balancing::LoadBalancer;
use pingora_load_balancing::selection::{BackendIter, BackendSelection, Consistent, Random, RoundRobin};

use crate::case::Case;

/// How many nodes it may look at before it gives up, as its own examples have it. All are healthy, so it looks at one.
const MAX_ITERATIONS: usize = 256;

pub(crate) fn cases(nodes: usize) -> Vec<Case> {
    vec![
        select::<RoundRobin>("pingora RoundRobin, select only", nodes),
        select::<Random>("pingora Random, select only", nodes),
        select::<Consistent>("pingora Consistent, select only", nodes),
    ]
}

fn select<S>(name: &'static str, nodes: usize) -> Case
where
    S: BackendSelection + 'static,
    S::Iter: BackendIter,
{
    let balancer = LoadBalancer::<S>::try_from_iter(addresses(nodes)).expect("addresses need no resolving");
    Case::new(name, move |requests| {
        for request in 0..requests {
            let node = balancer.select(&request.to_ne_bytes(), MAX_ITERATIONS);
            black_box(node.expect("every node is healthy"));
        }
    })
}

/// Never connected to.
fn addresses(nodes: usize) -> Vec<SocketAddr> {
    (0..nodes).map(|node| SocketAddr::from((Ipv4Addr::LOCALHOST, 10_000 + node as u16))).collect()
}
