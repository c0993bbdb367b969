//! Ten thousand schedules in paused time: the stack is the real one, the nodes are played.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use buttress::{
    balance::{
        Balance, Cloned, LeastRequest, LeastResponseTime, Policy, Random, Retry, RoundRobin,
        WeightedRoundRobin,
    },
    cluster::{Cluster, Endpoint, Node},
    health::{Monitor, OutlierDetection},
    rng::Rng,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tower::ServiceExt;

use crate::{
    report::{Figures, publish},
    schedule::{Condition, NODES, schedule},
    stage::{Actor, Critic},
};

const SEEDS: u64 = 10_000;

/// How long a schedule goes on, and for how long after it there are requests.
const SPAN: Duration = Duration::from_secs(6);
const AFTER: Duration = Duration::from_secs(1);
/// Requests a second, on average.
const RATE: f64 = 20.0;
/// How long a node may take for a request.
const TRY_TIMEOUT: Duration = Duration::from_millis(400);
const TRIES: u32 = 6;

fn policy(seed: u64) -> Box<dyn Policy> {
    match seed % 5 {
        0 => Box::new(LeastResponseTime::new()),
        1 => Box::new(LeastRequest::new()),
        2 => Box::new(RoundRobin),
        3 => Box::new(WeightedRoundRobin),
        _ => Box::new(Random),
    }
}

/// One schedule, with load on it.
async fn run(seed: u64) -> Figures {
    let mut rng = Rng::seeded(seed);
    let (switches, watches): (Vec<_>, Vec<_>) = (0..NODES).map(|_| watch::channel(Condition::Well)).unzip();
    let nodes = watches.into_iter().zip(0..).map(|(watch, index)| (name(index), Actor::new(watch)));
    let cluster = Cluster::new(nodes).unwrap();
    let ejections = OutlierDetection::new().watch(&cluster).unwrap();
    let _monitor = Monitor::builder()
        .interval(Duration::from_secs(1))
        .fast_interval(Duration::from_millis(500))
        .timeout(Duration::from_millis(300))
        .rng(Rng::seeded(seed))
        .start(&cluster, |node: Arc<Endpoint<Actor>>| async move { node.service.check().await })
        .unwrap();
    let balance = Balance::new(cluster.clone(), policy(seed)).classify(Critic);
    let retry = Retry::new(balance, Cloned::new(|(): &()| true)).tries(TRIES).try_timeout(TRY_TIMEOUT);

    let began = Instant::now();
    let figures = Arc::new(Mutex::new(Figures::default()));
    let mut events = schedule(seed, SPAN).into_iter().peekable();
    let mut requests = JoinSet::new();
    let mut next = Duration::ZERO;
    while next < SPAN + AFTER {
        while let Some(event) = events.next_if(|event| event.at <= next) {
            sleep_until(began + event.at).await;
            switches[event.node].send_replace(event.condition);
        }
        sleep_until(began + next).await;
        let (retry, figures) = (retry.clone(), Arc::clone(&figures));
        figures.lock().unwrap().look_at(&ejections);
        requests.spawn(async move {
            let sent = Instant::now();
            let answer = retry.oneshot(()).await;
            figures.lock().unwrap().answered(sent.elapsed(), answer.is_ok());
        });
        next += Duration::from_secs_f64(-(1.0 - rng.unit()).ln() / RATE);
    }
    requests.join_all().await;
    let mut figures = std::mem::take(&mut *figures.lock().unwrap());
    figures.finish(&cluster, &ejections);
    figures
}

fn name(index: usize) -> Node {
    Node::new(index.to_string())
}

/// A run from its beginning, in a time of its own.
fn play(seed: u64) -> Figures {
    fastrand::seed(seed);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(seed))
}

#[test]
fn ten_thousand_schedules_fail_no_request() {
    let next = AtomicU64::new(0);
    let work = || {
        let mut sum = Figures::default();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= SEEDS {
                return sum;
            }
            let figures = play(seed);
            assert!(figures.failed == 0 && figures.left_in_flight == 0, "seed {seed}: {figures}");
            sum.add(&figures);
        }
    };
    let sum = thread::scope(|scope| {
        let others: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        let mut sum = Figures::default();
        for other in others {
            sum.add(&other.join().unwrap());
        }
        sum
    });
    publish("in paused time", &sum);
    assert_eq!(sum.runs, SEEDS);
    sum.check();
}

#[test]
fn a_run_follows_from_its_seed() {
    for seed in 0..20 {
        assert_eq!(play(seed), play(seed), "seed {seed}");
    }
}
