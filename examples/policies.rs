//! Every policy against the same five nodes, one of them slow and one flaky. A minute of traffic in a moment: time is paused,
//! so sleeping takes none.
//!
//! `cargo run --release --example policies`

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    balance::{
        Balance, LeastRequest, LeastResponseTime, Policy, Random, RoundRobin, WeightedRandom,
        WeightedRoundRobin,
    },
    cluster::{Cluster, Node},
    rng::Rng,
};
use tokio::{sync::Semaphore, time::Instant};
use tower::{Service, service_fn};

/// Each node works on so many requests at once; others wait in it.
const WORKERS: usize = 4;
const REQUESTS: u64 = 6_000;
/// About half of what all nodes together can do.
const PER_SECOND: f64 = 800.0;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let policies: Vec<(&str, Arc<dyn Policy>)> = vec![
        ("round robin", Arc::new(RoundRobin)),
        ("weighted round robin", Arc::new(WeightedRoundRobin)),
        ("random", Arc::new(Random)),
        ("weighted random", Arc::new(WeightedRandom)),
        ("least request, of two", Arc::new(LeastRequest::new())),
        ("least request, of all", Arc::new(LeastRequest::of_all())),
        ("least response time", Arc::new(LeastResponseTime::new())),
    ];
    println!(
        "three nodes of 10 ms, one of 50 ms (weight 1 of 5), one that fails half of its requests at once\n"
    );
    println!("{:24}{:>9}{:>9}{:>9}{:>9}{:>9}", "policy", "p50 ms", "p99 ms", "slow %", "flaky %", "failed %");
    for (name, policy) in policies {
        let (mut latencies, [slow, flaky, failed]) = traffic(policy).await;
        latencies.sort_unstable();
        let quantile = |q: usize| latencies[latencies.len() * q / 100].as_secs_f64() * 1000.0;
        let (p50, p99) = (quantile(50), quantile(99));
        println!("{name:24}{p50:>9.0}{p99:>9.0}{slow:>9.1}{flaky:>9.1}{failed:>9.1}");
    }
}

/// The latencies of the answers, and the percentages that went to the slow node, to the flaky node, and wrong.
async fn traffic(policy: Arc<dyn Policy>) -> (Vec<Duration>, [f64; 3]) {
    let rng = Arc::new(Mutex::new(Rng::seeded(7)));
    let node = |name: &'static str| {
        let (rng, workers) = (Arc::clone(&rng), Arc::new(Semaphore::new(WORKERS)));
        let work = move |()| {
            let (chance, spread) = {
                let mut rng = rng.lock().unwrap();
                (rng.unit(), rng.unit())
            };
            let workers = Arc::clone(&workers);
            async move {
                if name == "flaky" && chance < 0.5 {
                    return Err(io::Error::other("out of order"));
                }
                let _worker = workers.acquire().await.map_err(io::Error::other)?;
                let mean = if name == "slow" { 0.050 } else { 0.010 };
                // Exponential: most are quick, few take long.
                tokio::time::sleep(Duration::from_secs_f64(-mean * (1.0 - spread).ln())).await;
                Ok(())
            }
        };
        (Node::new(name).weight(if name == "slow" { 1 } else { 5 }), service_fn(work))
    };
    let cluster = Cluster::new(["one", "two", "three", "slow", "flaky"].map(node)).expect("five names");
    let mut balance = Balance::new(cluster.clone(), policy);

    let mut answers = Vec::new();
    for _ in 0..REQUESTS {
        let gap = -(1.0 - rng.lock().unwrap().unit()).ln() / PER_SECOND;
        tokio::time::sleep(Duration::from_secs_f64(gap)).await;
        let (sent, answer) = (Instant::now(), balance.call(()));
        answers.push(tokio::spawn(async move { answer.await.map(|()| sent.elapsed()) }));
    }
    let mut latencies = Vec::new();
    for answer in answers {
        latencies.extend(answer.await.expect("it does not panic"));
    }
    let percent = |part: u64| part as f64 * 100.0 / REQUESTS as f64;
    let share = |id: &str| cluster.get(id).map_or(0.0, |node| percent(node.member.state.requests()));
    let failed = percent(REQUESTS - latencies.len() as u64);
    (latencies, [share("slow"), share("flaky"), failed])
}
