//! Nodes that are asked how they are: one breaks and recovers, one drains, and the traffic follows.
//!
//! `cargo run --example health_checks`

use std::{
    collections::BTreeMap,
    error::Error,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress::{
    balance::{Balance, RoundRobin},
    cluster::{Cluster, Endpoint, Node},
    health::{Answer, CheckResult, Monitor},
};
use tower::{Service, ServiceExt, service_fn};

static BOB_WORKS: AtomicBool = AtomicBool::new(true);
static CAROL_STAYS: AtomicBool = AtomicBool::new(true);

enum Request {
    Hello,
    HowAreYou,
}

/// Finds out how a node is: any async function will do, and `health` has some for TCP, HTTP and gRPC.
async fn ask<S>(endpoint: Arc<Endpoint<S>>) -> CheckResult
where
    S: Service<Request, Response = &'static str, Error = io::Error, Future: Send> + Clone + Send,
{
    match S::clone(&endpoint.service).oneshot(Request::HowAreYou).await? {
        "leaving" => Ok(Answer::Draining),
        _ => Ok(Answer::Healthy),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let node = |name: &'static str| {
        let answer = move |request: Request| async move {
            match request {
                _ if name == "bob" && !BOB_WORKS.load(Relaxed) => Err(io::Error::other("bob is broken")),
                Request::HowAreYou if name == "carol" && !CAROL_STAYS.load(Relaxed) => Ok("leaving"),
                _ => Ok(name),
            }
        };
        (Node::new(name), service_fn(answer))
    };
    let cluster = Cluster::new(["alice", "bob", "carol"].map(node))?;
    let mut balance = Balance::new(cluster.clone(), RoundRobin);

    // It checks until it is dropped. Nodes that join or leave the cluster are followed.
    let monitor = Monitor::builder()
        .interval(Duration::from_millis(100))
        .fast_interval(Duration::from_millis(20))
        .on_change(|change| println!("    {change}"))
        .start(&cluster, ask)?;

    for (news, bob_works, carol_stays) in [
        ("all is well", true, true),
        ("bob breaks", false, true),
        ("bob recovers", true, true),
        ("carol wants to leave", true, false),
    ] {
        println!("{news}");
        BOB_WORKS.store(bob_works, Relaxed);
        CAROL_STAYS.store(carol_stays, Relaxed);
        tokio::time::sleep(Duration::from_millis(400)).await;
        let mut answers = BTreeMap::new();
        for _ in 0..300 {
            let answer = balance.ready().await?.call(Request::Hello).await.unwrap_or("failed");
            *answers.entry(answer).or_insert(0) += 1;
        }
        println!("    300 requests: {answers:?}");
    }

    println!("\nwhat the monitor knows:");
    for node in monitor.report() {
        println!("    {node}");
    }
    Ok(())
}
