//! What chooses the servers: the crate's policies, and some to compare them with.

use std::{rc::Rc, sync::Arc};

use buttress::{
    balance::{Balance, Policy},
    cluster::{Cluster, FailureKind, LoadGuard, Node, SlowStart, Verdict},
    rng::Rng,
    time::ManualClock,
};

use super::{
    SEC,
    model::{Outcome, Truth},
};

/// One of the balancers: it hears of its own requests only.
pub(crate) trait Chooser {
    /// Chooses a server for a request and counts it in.
    fn send(&mut self, now: u64) -> (usize, Option<LoadGuard>);

    /// Learns how the request ended.
    fn settle(&mut self, server: usize, now: u64, latency: u64, outcome: Outcome);

    /// One more server has joined, as the last.
    fn join(&mut self);
}

/// Makes the balancers of a simulation.
#[derive(Clone, Debug)]
pub(crate) enum Maker {
    /// One of the crate's policies.
    Policy(Arc<dyn Policy>),
    /// The same, over a cluster with slow start.
    Gentle(Arc<dyn Policy>, SlowStart),
    /// The same, with the servers' true speeds as weights.
    Weighted(Arc<dyn Policy>),
    /// tower's estimate of latency.
    PeakEwma(Among),
    /// Knows everything.
    Oracle,
}

/// How many servers are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Among {
    Two,
    All,
}

impl Maker {
    pub(crate) fn make(&self, speeds: &[f64], clock: &ManualClock, truth: &Rc<Truth>) -> Box<dyn Chooser> {
        match self {
            Self::Policy(policy) => Box::new(Ours::new(policy, speeds.iter().map(|_| 1), clock, None)),
            Self::Gentle(policy, slow_start) => {
                Box::new(Ours::new(policy, speeds.iter().map(|_| 1), clock, Some(*slow_start)))
            }
            Self::Weighted(policy) => {
                let weights = speeds.iter().map(|speed| (speed * 10.0).round() as u16);
                Box::new(Ours::new(policy, weights, clock, None))
            }
            Self::PeakEwma(among) => Box::new(PeakEwma::new(speeds.len(), *among)),
            Self::Oracle => Box::new(Oracle { truth: Rc::clone(truth), rng: Rng::from_thread() }),
        }
    }
}

/// The crate's own `Balance` over a cluster of its own, as in one process of a fleet.
struct Ours {
    balance: Balance<usize>,
}

impl Ours {
    fn new(
        policy: &Arc<dyn Policy>,
        weights: impl Iterator<Item = u16>,
        clock: &ManualClock,
        slow_start: Option<SlowStart>,
    ) -> Self {
        let nodes = weights.enumerate().map(|(server, weight)| (node(server).weight(weight), server));
        let mut builder = Cluster::builder().clock(clock.clone());
        if let Some(slow_start) = slow_start {
            builder = builder.slow_start(slow_start);
        }
        let cluster = builder.build(nodes).expect("the names are different");
        Self { balance: Balance::new(cluster, Arc::clone(policy)) }
    }
}

impl Chooser for Ours {
    fn send(&mut self, _: u64) -> (usize, Option<LoadGuard>) {
        let (server, guard) = self.balance.pick(None).expect("every server is eligible");
        (server, Some(guard))
    }

    /// The guard tells it all.
    fn settle(&mut self, _: usize, _: u64, _: u64, _: Outcome) {}

    fn join(&mut self) {
        let server = self.balance.cluster().load().len();
        self.balance.cluster().insert(node(server), server).expect("the name is not empty");
    }
}

/// In the order of the servers: nodes are ordered by name.
fn node(server: usize) -> Node {
    Node::new(format!("server-{server:03}"))
}

pub(crate) fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Answered => Verdict::Success,
        Outcome::Failed => Verdict::Failure(FailureKind::Response),
        Outcome::TimedOut => Verdict::Failure(FailureKind::Timeout),
    }
}

/// tower 0.5's `PeakEwma`: jumps to a slower sample, decays towards a faster one.
struct PeakEwma {
    among: Among,
    servers: Vec<Estimate>,
    rng: Rng,
}

#[derive(Clone, Copy)]
struct Estimate {
    nanos: f64,
    at: u64,
    in_flight: u32,
}

impl PeakEwma {
    /// What is decayed within.
    const DECAY: f64 = 10.0 * SEC as f64;
    const UNKNOWN: Estimate = Estimate { nanos: 30e6, at: 0, in_flight: 0 };

    fn new(servers: usize, among: Among) -> Self {
        Self { among, servers: vec![Self::UNKNOWN; servers], rng: Rng::from_thread() }
    }

    fn load(&mut self, server: usize, now: u64) -> f64 {
        let Estimate { nanos, at, in_flight } = self.servers[server];
        let nanos = nanos * (-((now - at) as f64) / Self::DECAY).exp();
        // tower's choice of two stores what it reads, which decays an estimate the more often it is read.
        if matches!(self.among, Among::Two) {
            self.servers[server] = Estimate { nanos, at: now, in_flight };
        }
        nanos * f64::from(in_flight + 1)
    }
}

impl Chooser for PeakEwma {
    fn send(&mut self, now: u64) -> (usize, Option<LoadGuard>) {
        let servers = self.servers.len();
        let chosen = match self.among {
            Among::Two => {
                let first = self.rng.below(servers);
                let second = (first + 1 + self.rng.below(servers - 1)) % servers;
                if self.load(second, now) < self.load(first, now) { second } else { first }
            }
            Among::All => {
                let mut rng = self.rng.clone();
                let chosen = cheapest(servers, &mut rng, |server| self.load(server, now));
                self.rng = rng;
                chosen
            }
        };
        self.servers[chosen].in_flight += 1;
        (chosen, None)
    }

    fn settle(&mut self, server: usize, now: u64, latency: u64, _: Outcome) {
        let estimate = &mut self.servers[server];
        let sample = latency as f64;
        if sample > estimate.nanos {
            estimate.nanos = sample;
        } else {
            let keep = (-((now - estimate.at) as f64) / Self::DECAY).exp();
            estimate.nanos = estimate.nanos * keep + sample * (1.0 - keep);
        }
        estimate.at = now;
        estimate.in_flight -= 1;
    }

    fn join(&mut self) {
        self.servers.push(Self::UNKNOWN);
    }
}

/// Knows what every server has and how fast it is, and sends each request where it will be served soonest.
struct Oracle {
    truth: Rc<Truth>,
    rng: Rng,
}

impl Chooser for Oracle {
    fn send(&mut self, _: u64) -> (usize, Option<LoadGuard>) {
        let truth = &self.truth;
        let chosen =
            cheapest(truth.members.get(), &mut self.rng, |server| truth.servers[server].expected_time());
        (chosen, None)
    }

    fn settle(&mut self, _: usize, _: u64, _: u64, _: Outcome) {}

    fn join(&mut self) {}
}

/// The cheapest of `0..servers`; one of them at random, if there are several.
fn cheapest(servers: usize, rng: &mut Rng, mut cost: impl FnMut(usize) -> f64) -> usize {
    let (mut best, mut least, mut equals) = (0, f64::INFINITY, 0);
    for server in 0..servers {
        let cost = cost(server);
        equals = match cost.total_cmp(&least) {
            std::cmp::Ordering::Less => 1,
            std::cmp::Ordering::Equal => equals + 1,
            std::cmp::Ordering::Greater => continue,
        };
        if rng.below(equals) == 0 {
            (best, least) = (server, cost);
        }
    }
    best
}
