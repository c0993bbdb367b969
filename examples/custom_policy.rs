//! A policy of one's own, in fifteen lines: fill one node before the next is used, so that idle ones can be switched off.
//!
//! `cargo run --example custom_policy`

use std::{convert::Infallible, error::Error};

use buttress::{
    balance::{Balance, Nodes, PickCx, Picker, Policy},
    cluster::{Cluster, Node},
};
use tokio::time::{Duration, sleep};
use tower::{Service, service_fn};

/// The first node with fewer than this many requests in flight.
#[derive(Clone, Copy, Debug)]
struct FillFirst(u32);

impl Policy for FillFirst {
    // Called when nodes come or go, so that what depends on the set can be worked out before the first request.
    fn picker(&self, _: &Nodes, _: Option<&dyn Picker>) -> Box<dyn Picker> {
        Box::new(*self)
    }
}

impl Picker for FillFirst {
    // Called for each request, by many threads at once: no locks, nothing slow.
    fn pick(&self, nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
        // Nodes that are down, full, or were tried before for this request must not be chosen.
        let open = || (0..nodes.len()).filter(|&index| cx.can_take(&nodes[index]));
        let load = |index: &usize| nodes[*index].state.in_flight();
        // If all have their fill, the one with the least: a pick must find a node if there is any.
        open().find(|index| load(index) < self.0).or_else(|| open().min_by_key(load))
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let work = |()| async {
        sleep(Duration::from_millis(100)).await;
        Ok::<_, Infallible>(())
    };
    let nodes = ["a", "b", "c", "d"].map(|name| (Node::new(name), service_fn(work)));
    let cluster = Cluster::new(nodes)?;
    let mut balance = Balance::new(cluster.clone(), FillFirst(4));

    println!("requests in flight, with at most 4 on a node before the next is used:\n");
    println!("{:>8}{:>6}{:>6}{:>6}{:>6}", "at once", "a", "b", "c", "d");
    for at_once in [1, 4, 6, 12, 16, 20, 5] {
        let calls: Vec<_> = (0..at_once).map(|_| tokio::spawn(balance.call(()))).collect();
        print!("{at_once:>8}");
        for member in cluster.load().iter() {
            print!("{:>6}", member.state.in_flight());
        }
        println!();
        for call in calls {
            call.await??;
        }
    }
    Ok(())
}
