//! Nodes that answer checks as the test says.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use buttress::cluster::{Cluster, Endpoint, Health, Node};
use buttress::health::{Answer, CheckResult, HealthCheck};
use tokio::time::{Instant, sleep};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Play {
    Up,
    Draining,
    Fails,
    Hangs,
    Panics,
    /// Up, after so many milliseconds.
    Slow(u64),
}

/// Plays the nodes, which are up unless told otherwise, and notes each check.
#[derive(Clone)]
pub(crate) struct Stage(Arc<Inner>);

struct Inner {
    began: Instant,
    plays: Mutex<BTreeMap<String, Play>>,
    checks: Mutex<Vec<(Duration, String)>>,
    running: Mutex<BTreeMap<String, u32>>,
    doubled: Mutex<Option<String>>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            began: Instant::now(),
            plays: Mutex::default(),
            checks: Mutex::default(),
            running: Mutex::default(),
            doubled: Mutex::default(),
        }))
    }

    pub(crate) fn play(&self, node: &str, play: Play) {
        self.0.plays.lock().unwrap().insert(node.to_owned(), play);
    }

    /// When each check began, and of whom it was.
    pub(crate) fn checks(&self) -> Vec<(Duration, String)> {
        assert_eq!(*self.0.doubled.lock().unwrap(), None, "was checked twice at once");
        self.0.checks.lock().unwrap().clone()
    }

    /// When each check of this node began.
    pub(crate) fn checks_of(&self, node: &str) -> Vec<Duration> {
        self.checks().into_iter().filter(|(_, id)| id == node).map(|(at, _)| at).collect()
    }

    /// The times from check to check of this node.
    pub(crate) fn gaps_of(&self, node: &str) -> Vec<Duration> {
        self.checks_of(node).windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect()
    }

    /// How many checks run.
    pub(crate) fn running(&self) -> u32 {
        self.0.running.lock().unwrap().values().sum()
    }
}

/// A check that runs.
struct Visit(Stage, String);

impl Visit {
    fn new(stage: &Stage, node: &str) -> Self {
        stage.0.checks.lock().unwrap().push((stage.0.began.elapsed(), node.to_owned()));
        let mut running = stage.0.running.lock().unwrap();
        let count = running.entry(node.to_owned()).or_default();
        *count += 1;
        // A panic in here would be a failed check.
        if *count > 1 {
            *stage.0.doubled.lock().unwrap() = Some(node.to_owned());
        }
        drop(running);
        Self(stage.clone(), node.to_owned())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        *self.0.0.running.lock().unwrap().get_mut(&self.1).unwrap() -= 1;
    }
}

#[async_trait]
impl<S: Send + Sync + 'static> HealthCheck<S> for Stage {
    async fn check(&self, endpoint: Arc<Endpoint<S>>) -> CheckResult {
        let id = endpoint.member.node.id.as_str();
        let _visit = Visit::new(self, id);
        let play = self.0.plays.lock().unwrap().get(id).copied().unwrap_or(Play::Up);
        match play {
            Play::Up => Ok(Answer::Healthy),
            Play::Draining => Ok(Answer::Draining),
            Play::Fails => Err(io::Error::other("connection refused"))?,
            Play::Hangs => std::future::pending().await,
            Play::Panics => panic!("as planned"),
            Play::Slow(millis) => {
                sleep(Duration::from_millis(millis)).await;
                Ok(Answer::Healthy)
            }
        }
    }
}

pub(crate) fn cluster(names: &[&str]) -> Cluster<()> {
    Cluster::new(names.iter().map(|name| (Node::new(*name), ()))).unwrap()
}

pub(crate) fn health<S>(cluster: &Cluster<S>, node: &str) -> Health {
    cluster.get(node).expect("it is there").member.state.health()
}

pub(crate) async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}
