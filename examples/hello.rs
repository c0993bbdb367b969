//! Balancing in thirty lines: three nodes, one of which dies half-way.
//!
//! `cargo run --example hello`

use std::{
    error::Error,
    io,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use buttress::{
    balance::{Balance, Cloned, LeastRequest, Retry},
    cluster::{Cluster, Node},
};
use tower::{Service, ServiceExt, service_fn};

static BOB_LIVES: AtomicBool = AtomicBool::new(true);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // A node is a name and anything that is a `tower::Service`: a function will do.
    let node = |name: &'static str| {
        let greet = move |_request: u32| async move {
            let works = name != "bob" || BOB_LIVES.load(Relaxed);
            if works { Ok(format!("hello from {name}")) } else { Err(io::Error::other("bob is dead")) }
        };
        (Node::new(name), service_fn(greet))
    };
    let cluster = Cluster::new(["alice", "bob", "carol"].map(node))?;

    // The policy picks a node; a request that fails and may be repeated goes on to another one.
    let balance = Balance::new(cluster.clone(), LeastRequest::new());
    let mut service = Retry::new(balance, Cloned::new(|_request: &u32| true));
    for request in 0..600 {
        BOB_LIVES.store(request < 300, Relaxed);
        service.ready().await?.call(request).await?;
    }

    println!("600 requests, all answered, though bob died after 300:\n");
    println!("{:8}{:>10}{:>10}", "node", "requests", "failures");
    for member in cluster.load().iter() {
        println!("{:8}{:>10}{:>10}", member.node.id, member.state.requests(), member.state.failures());
    }
    Ok(())
}
