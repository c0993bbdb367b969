//! Hedged requests: a second node is asked when the first one is slower than 95 % of all answers. Two minutes of traffic in a
//! moment: time is paused, so sleeping takes none.
//!
//! `cargo run --example hedged_requests`

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    balance::{Balance, Budget, Cloned, Hedge, LeastRequest, Retry},
    cluster::{Cluster, Node},
    rng::Rng,
};
use tokio::time::{Instant, sleep};
use tower::{Service, service_fn};

const REQUESTS: u64 = 10_000;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("three nodes of 20 to 40 ms, each of which takes half a second for 3 % of its requests\n");
    println!("{:16}{:>9}{:>9}{:>9}{:>18}", "", "p50 ms", "p95 ms", "p99 ms", "requests sent %");
    traffic("no hedges", None).await?;
    traffic("hedged at p95", Some(Hedge::quantile(0.95)?)).await
}

async fn traffic(name: &str, hedge: Option<Hedge>) -> Result<(), Box<dyn std::error::Error>> {
    let rng = Arc::new(Mutex::new(Rng::seeded(7)));
    let node = |name: &'static str| {
        let rng = Arc::clone(&rng);
        let work = move |()| {
            let millis = {
                let mut rng = rng.lock().unwrap();
                if rng.below(100) < 3 { 500 } else { 20 + rng.below(20) as u64 }
            };
            async move {
                sleep(Duration::from_millis(millis)).await;
                Ok::<_, io::Error>(())
            }
        };
        (Node::new(name), service_fn(work))
    };
    let cluster = Cluster::new(["one", "two", "three"].map(node))?;

    // Only what may be done twice is hedged, and never more than the budget allows: one request in ten here.
    let may_be_repeated = Cloned::new(|(): &()| true);
    let mut service = Retry::new(Balance::new(cluster.clone(), LeastRequest::new()), may_be_repeated)
        .budget(Budget::new(0.1, 10)?);
    if let Some(hedge) = hedge {
        service = service.hedge(hedge);
    }

    let mut answers = Vec::new();
    for _ in 0..REQUESTS {
        sleep(Duration::from_millis(12)).await;
        let (sent, answer) = (Instant::now(), service.call(()));
        answers.push(tokio::spawn(async move { answer.await.map(|()| sent.elapsed()) }));
    }
    let mut latencies = Vec::new();
    for answer in answers {
        latencies.push(answer.await??);
    }
    latencies.sort_unstable();
    let quantile = |percent: usize| latencies[latencies.len() * percent / 100].as_millis();
    let sent: u64 = cluster.load().iter().map(|member| member.state.requests()).sum();
    let sent = sent as f64 * 100.0 / REQUESTS as f64;
    println!("{name:16}{:>9}{:>9}{:>9}{sent:>18.1}", quantile(50), quantile(95), quantile(99));
    Ok(())
}
