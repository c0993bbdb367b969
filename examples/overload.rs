//! Three times as much as a service can do, with and without a limit in front of it. Ten seconds of traffic in a moment: time
//! is paused, so sleeping takes none.
//!
//! `cargo run --release --example overload`

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    overload::{Gradient, Limit, Limiter, Priority, Queue, Terms},
    rng::Rng,
};
use tokio::{sync::Semaphore, time::Instant};
use tower::{Service, service_fn};

/// The service works on so many requests at once, 50 ms on each; others wait in it, for as long as it takes.
const WORKERS: usize = 20;
const WORK: f64 = 0.050;
/// Three times as much as it can do.
const PER_SECOND: u32 = 1_200;
const SECONDS: u32 = 10;
/// Whoever has no answer by then has left. The service does not hear of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// One request in ten is a login.
#[derive(Clone, Copy, Debug)]
enum Page {
    Search,
    Login,
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    println!("1200 requests a second for a service that can do 400; answered within a second:\n");
    println!("{:12}{:>12}{:>12}{:>9}{:>9}", "", "searches %", "logins %", "p50 ms", "p99 ms");
    flood("no limit", service()).await;

    let limiter = Limiter::new(Gradient::default(), Queue::default());
    let matters = |page: &Page| match page {
        Page::Login => Terms::new(Priority::CriticalPlus),
        Page::Search => Terms::default(),
    };
    flood("limit", Limit::new(service(), limiter.clone()).terms(matters)).await;
    println!("\nthe limit in the end: {}", limiter.status().limit);
}

fn service() -> impl Service<Page, Response = (), Error = Infallible, Future: Send> + Clone {
    let (workers, rng) = (Arc::new(Semaphore::new(WORKERS)), Arc::new(Mutex::new(Rng::seeded(7))));
    service_fn(move |_page| {
        let workers = Arc::clone(&workers);
        // Exponential: most are quick, few take long.
        let seconds = -WORK * (1.0 - rng.lock().unwrap().unit()).ln();
        async move {
            let _worker = workers.acquire().await;
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            Ok(())
        }
    })
}

/// Prints how many were answered in time, and how soon.
async fn flood<S>(name: &str, mut service: S)
where
    S: Service<Page, Future: Send + 'static, Response: Send, Error: Send + 'static>,
{
    let mut calls = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    for number in 0..PER_SECOND * SECONDS {
        ticks.tick().await;
        let page = if number % 10 == 0 { Page::Login } else { Page::Search };
        let (start, call) = (Instant::now(), service.call(page));
        calls.push((page, tokio::spawn(async move { call.await.is_ok().then(|| start.elapsed()) })));
    }
    let (mut latencies, mut answered, mut sent) = (Vec::new(), [0; 2], [0; 2]);
    for (page, call) in calls {
        let kind = page as usize;
        sent[kind] += 1;
        if let Some(latency) = call.await.unwrap().filter(|latency| *latency <= PATIENCE) {
            answered[kind] += 1;
            latencies.push(latency);
        }
    }
    latencies.sort_unstable();
    let quantile = |q: usize| latencies[latencies.len() * q / 100].as_secs_f64() * 1000.0;
    let percent = |kind: usize| f64::from(answered[kind]) * 100.0 / f64::from(sent[kind]);
    let (searches, logins, p50, p99) = (percent(0), percent(1), quantile(50), quantile(99));
    println!("{name:12}{searches:>12.1}{logins:>12.1}{p50:>9.0}{p99:>9.0}");
}
