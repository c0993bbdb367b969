//! What is measured of the nodes, for the terminal and the admin port.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use buttress::{
    cluster::{Admin, Health, Member, NodeId},
    overload::{self, Reason},
    time::{Clock, TokioClock},
};
use serde::Serialize;

use crate::{
    pool::{Nodes, Seen},
    server::Connections,
};

/// Shares and rates are those of this long.
const WINDOW: Duration = Duration::from_secs(3);

/// Looks at the clusters again and again.
pub(crate) struct Status {
    pools: Vec<Arc<dyn Nodes>>,
    connections: Connections,
    started: Instant,
    /// Requests until then, oldest first.
    samples: Mutex<VecDeque<(Instant, HashMap<NodeId, u64>)>>,
}

/// The gateway at one moment.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) uptime_seconds: u64,
    /// Clients of the HTTP listeners.
    pub(crate) connections: usize,
    pub(crate) totals: Totals,
    pub(crate) clusters: Vec<ClusterStatus>,
    /// Those of all clusters.
    pub(crate) nodes: Vec<NodeStatus>,
}

/// One cluster at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct ClusterStatus {
    pub(crate) name: String,
    pub(crate) policy: String,
    /// The limit of its requests, if there is one.
    pub(crate) limit: Option<LimitStatus>,
}

/// What becomes of too many requests.
#[derive(Debug, Serialize)]
pub(crate) struct LimitStatus {
    /// How many may be in flight.
    pub(crate) limit: usize,
    pub(crate) in_flight: usize,
    pub(crate) waiting: usize,
    pub(crate) admitted: u64,
    /// How many were turned away.
    pub(crate) shed: u64,
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
    pub(crate) cluster: String,
    pub(crate) url: String,
    pub(crate) admin: Admin,
    pub(crate) health: &'static str,
    /// Why its last check failed, if it did.
    pub(crate) complaint: Option<String>,
    /// Why what became of its requests has put it out of the traffic, if it has.
    pub(crate) ejected: Option<String>,
    /// For how long that will be so. After that, one request tries it.
    pub(crate) ejected_for_ms: Option<u64>,
    /// Whether it has come back only lately, and gets less than its share.
    pub(crate) warming_up: bool,
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
    /// Its part of the latest requests of its cluster, if there were any.
    pub(crate) share: Option<f64>,
}

impl Status {
    pub(crate) fn new(pools: Vec<Arc<dyn Nodes>>, connections: Connections) -> Self {
        let started = TokioClock.now();
        Self { pools, connections, started, samples: Mutex::default() }
    }

    /// Remembers how many requests there were, for shares later on. To be called every now and then.
    pub(crate) fn sample(&self) {
        let now = TokioClock.now();
        let seen = self.pools.iter().flat_map(|pool| pool.look());
        let sample =
            seen.map(|Seen { member, .. }| (member.node.id.clone(), member.state.requests())).collect();
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
        let latest = |member: &Member| {
            member.state.requests().saturating_sub(before.get(&member.node.id).copied().unwrap_or(0))
        };
        let mut all_latest = 0;
        let mut totals = Totals::default();
        let (mut clusters, mut nodes) = (Vec::new(), Vec::new());
        for pool in &self.pools {
            let seen = pool.look();
            let of_all: u64 = seen.iter().map(|seen| latest(&seen.member)).sum();
            for seen in seen {
                let share = (of_all > 0).then(|| latest(&seen.member) as f64 / of_all as f64);
                let node = NodeStatus::of(seen, pool.name().to_owned(), share, now);
                totals.in_flight += u64::from(node.in_flight);
                totals.requests += node.requests;
                totals.failures += node.failures;
                totals.cancelled += node.cancelled;
                nodes.push(node);
            }
            all_latest += of_all;
            clusters.push(ClusterStatus {
                name: pool.name().to_owned(),
                policy: pool.policy().to_owned(),
                limit: pool.load().as_ref().map(LimitStatus::of),
            });
        }
        let millis = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX).max(1);
        totals.requests_per_second = all_latest.saturating_mul(1000) / millis;
        Snapshot {
            uptime_seconds: now.duration_since(self.started).as_secs(),
            connections: self.connections.open(),
            totals,
            clusters,
            nodes,
        }
    }
}

impl LimitStatus {
    fn of(status: &overload::Status) -> Self {
        let shed = [Reason::Full, Reason::Displaced, Reason::Waited, Reason::Deadline];
        Self {
            limit: status.limit,
            in_flight: status.in_flight,
            waiting: status.waiting,
            admitted: status.admitted,
            shed: shed.into_iter().map(|reason| status.shed(reason)).sum(),
        }
    }
}

impl NodeStatus {
    fn of(seen: Seen, cluster: String, share: Option<f64>, now: Instant) -> Self {
        let Seen { member, url, complaint, ejected } = seen;
        let state = &member.state;
        let health = match state.health() {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Draining => "draining",
            Health::Down => "down",
        };
        let (cause, left) = ejected.unzip();
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self {
            id: member.node.id.to_string(),
            cluster,
            url,
            admin: member.node.admin,
            health,
            complaint,
            ejected: cause,
            ejected_for_ms: left.map(millis),
            warming_up: state.is_warming_up(now),
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
