//! When checks take place.

use std::time::Duration;

use buttress::cluster::{Cluster, Node};
use buttress::health::Monitor;
use buttress::rng::Rng;
use tokio::time::{advance, sleep};

use crate::stage::{Stage, seconds};

const NODES: usize = 1000;
const WINDOW: Duration = Duration::from_millis(100);
/// Twice what 1000 nodes at 5 s make on average.
const MOST: usize = 40;

fn big_cluster() -> Cluster<()> {
    Cluster::new((0..NODES).map(|node| (Node::new(format!("n{node:04}")), ()))).unwrap()
}

/// The most checks in any window, wherever it begins.
fn fullest(times: &[Duration]) -> usize {
    let count =
        |(first, at): (usize, &Duration)| times[first..].partition_point(|other| *other < *at + WINDOW);
    times.iter().enumerate().map(count).max().unwrap_or(0)
}

fn times(stage: &Stage) -> Vec<Duration> {
    stage.checks().into_iter().map(|(at, _)| at).collect()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_nodes_never_get_more_than_twice_the_mean_at_once() {
    let (stage, cluster) = (Stage::new(), big_cluster());
    let _monitor = Monitor::builder().rng(Rng::seeded(0)).start(&cluster, stage.clone()).unwrap();
    seconds(60).await;
    let fullest = fullest(&times(&stage));
    assert!(fullest <= MOST, "{fullest} in 100 ms");
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
    let fullest = fullest(&times[burst..]);
    assert!(burst > 5 * NODES, "all were due at once");
    assert!(fullest <= MOST, "{fullest} in 100 ms");
}
