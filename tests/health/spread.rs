//! When checks take place.

use std::time::Duration;

use buttress::cluster::{Cluster, Node};
use buttress::health::Monitor;
use buttress::rng::Rng;
use tokio::time::{advance, sleep};

use crate::stage::{Stage, seconds};

const NODES: usize = 1000;
const WINDOW: Duration = Duration::from_millis(100);

fn big_cluster() -> Cluster<()> {
    Cluster::new((0..NODES).map(|node| (Node::new(format!("n{node:04}")), ()))).unwrap()
}

/// The most checks in any window, wherever it begins.
fn fullest(times: &[Duration]) -> usize {
    let count = |(first, at): (usize, &Duration)| times[first..].partition_point(|other| *other < *at + WINDOW);
    times.iter().enumerate().map(count).max().unwrap_or(0)
}

fn times(stage: &Stage) -> Vec<Duration> {
    stage.checks().into_iter().map(|(at, _)| at).collect()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_nodes_never_get_more_than_twice_the_mean_at_once() {
    for seed in 0..3 {
        let (stage, cluster) = (Stage::new(), big_cluster());
        let _monitor = Monitor::builder().rng(Rng::seeded(seed)).start(&cluster, stage.clone()).unwrap();
        seconds(180).await;
        let times = times(&stage);
        let start = times.partition_point(|at| *at < Duration::from_secs(6));
        // What 1000 nodes at 5 s make without jitter.
        let mean = NODES * 100 / 5000;
        let (first, all) = (fullest(&times[..start]), fullest(&times));
        assert!(first.max(all) <= 2 * mean, "seed {seed}: {first} at the start, then {all}, in 100 ms");
        println!("seed {seed}: at most {first} at the start, then {all}, in any 100 ms; the mean is {mean}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_does_not_check_in_step_from_then_on() {
    let (stage, cluster) = (Stage::new(), big_cluster());
    let _monitor = Monitor::builder().rng(Rng::seeded(1)).start(&cluster, stage.clone()).unwrap();
    seconds(20).await;
    advance(Duration::from_secs(60)).await;
    sleep(Duration::from_millis(200)).await;
    let burst = stage.checks().len();
    seconds(60).await;
    let times = times(&stage);
    assert!(fullest(&times[burst..]) <= 2 * NODES * 100 / 5000, "{}", fullest(&times[burst..]));
}
