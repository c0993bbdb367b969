//! What is measured of the nodes, for the terminal and the admin port.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use buttress::{
    cluster::{Admin, Cluster, Health, Member, NodeId},
    forward::Upstream,
    time::{Clock, TokioClock},
};
use serde::Serialize;

use crate::server::Connections;

/// Shares and rates are those of this long.
const WINDOW: Duration = Duration::from_secs(3);

/// Looks at a cluster again and again.
pub(crate) struct Status {
    cluster: Cluster<Upstream>,
    policy: String,
    connections: Connections,
    started: Instant,
    /// Requests until then, oldest first.
    samples: Mutex<VecDeque<(Instant, HashMap<NodeId, u64>)>>,
}

/// The gateway at one moment.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) uptime_seconds: u64,
    pub(crate) policy: String,
    pub(crate) connections: usize,
    pub(crate) totals: Totals,
    pub(crate) nodes: Vec<NodeStatus>,
}

/// The sums over all nodes. A request that was tried on two of them counts twice.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Totals {
    pub(crate) in_flight: u64,
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    pub(crate) cancelled: u64,
    pub(crate) requests_per_second: u64,
}

/// One node at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct NodeStatus {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) admin: Admin,
    pub(crate) health: &'static str,
    /// Whether failures have put it aside for now.
    pub(crate) suspended: bool,
    /// Whether it has as much in flight as it may.
    pub(crate) full: bool,
    pub(crate) weight: u16,
    pub(crate) in_flight: u32,
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    pub(crate) cancelled: u64,
    /// How long it takes to begin an answer; unknown to policies that do not ask.
    pub(crate) latency_ms: Option<f64>,
    /// Its part of the latest requests, if there were any.
    pub(crate) share: Option<f64>,
}

impl Status {
    pub(crate) fn new(cluster: Cluster<Upstream>, policy: String, connections: Connections) -> Self {
        let started = TokioClock.now();
        Self { cluster, policy, connections, started, samples: Mutex::default() }
    }

    /// Remembers how many requests there were, for shares later on. To be called every now and then.
    pub(crate) fn sample(&self) {
        let now = TokioClock.now();
        let requests = |member: &Member| (member.node.id.clone(), member.state.requests());
        let sample = self.cluster.load().iter().map(requests).collect();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        while samples.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            samples.pop_front();
        }
        samples.push_back((now, sample));
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let now = TokioClock.now();
        let (since, before) = {
            let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.front().cloned().unwrap_or_else(|| (self.started, HashMap::new()))
        };
        let version = self.cluster.load();
        let latest = |member: &Member| {
            member.state.requests().saturating_sub(before.get(&member.node.id).copied().unwrap_or(0))
        };
        let all_latest: u64 = version.iter().map(latest).sum();
        let mut totals = Totals::default();
        let mut nodes = Vec::with_capacity(version.len());
        for endpoint in version.endpoints() {
            let member = &*endpoint.member;
            let share = (all_latest > 0).then(|| latest(member) as f64 / all_latest as f64);
            let node = NodeStatus::of(member, endpoint.service.to_string(), share, now);
            totals.in_flight += u64::from(node.in_flight);
            totals.requests += node.requests;
            totals.failures += node.failures;
            totals.cancelled += node.cancelled;
            nodes.push(node);
        }
        let millis = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX).max(1);
        totals.requests_per_second = all_latest.saturating_mul(1000) / millis;
        Snapshot {
            uptime_seconds: now.duration_since(self.started).as_secs(),
            policy: self.policy.clone(),
            connections: self.connections.open(),
            totals,
            nodes,
        }
    }
}

impl NodeStatus {
    fn of(member: &Member, url: String, share: Option<f64>, now: Instant) -> Self {
        let state = &member.state;
        let health = match state.health() {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Draining => "draining",
            Health::Down => "down",
        };
        Self {
            id: member.node.id.to_string(),
            url,
            admin: member.node.admin,
            health,
            suspended: state.is_suspended(now),
            full: state.is_full(),
            weight: member.node.weight,
            in_flight: state.in_flight(),
            requests: state.requests(),
            failures: state.failures(),
            cancelled: state.cancelled(),
            latency_ms: state.latency().map(|latency| (latency.as_secs_f64() * 1e6).round() / 1e3),
            share: share.map(|share| (share * 1e4).round() / 1e4),
        }
    }
}
