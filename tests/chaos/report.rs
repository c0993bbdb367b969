//! What is counted in a run.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    time::Duration,
};

use buttress::{
    cluster::Cluster,
    health::{Cause, Ejections},
};

/// At most half of the nodes may be ejected: the default of `OutlierDetection::max_share`.
pub(crate) const MOST_EJECTED: usize = crate::schedule::NODES / 2;

/// Prints the figures, though the test passes: test runners capture only what goes through `print!` and its like.
#[allow(clippy::explicit_write, reason = "see above")]
pub(crate) fn publish(what: &str, figures: &Figures) {
    writeln!(io::stderr(), "chaos {what}: {figures}").unwrap();
}

/// The figures of a run, or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) runs: u64,
    pub(crate) requests: u64,
    /// Requests that got no good answer.
    pub(crate) failed: u64,
    /// Tries that a node failed.
    pub(crate) failed_tries: u64,
    pub(crate) ejections: u64,
    pub(crate) most_ejected: usize,
    /// What nodes have in flight when all is over.
    pub(crate) left_in_flight: u64,
    /// How many requests took so many milliseconds.
    latencies: BTreeMap<u64, u64>,
}

impl Figures {
    pub(crate) fn answered(&mut self, after: Duration, well: bool) {
        self.requests += 1;
        self.failed += u64::from(!well);
        *self.latencies.entry(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)).or_default() += 1;
    }

    pub(crate) fn look_at(&mut self, ejections: &Ejections) {
        self.most_ejected = self.most_ejected.max(ejections.list().len());
    }

    /// Counts what the cluster knows at the end of a run.
    pub(crate) fn finish<S>(&mut self, cluster: &Cluster<S>, ejections: &Ejections) {
        self.runs = 1;
        for member in cluster.load().iter() {
            self.failed_tries += member.state.failures();
            self.left_in_flight += u64::from(member.state.in_flight());
        }
        self.ejections = Cause::ALL.into_iter().map(|cause| ejections.total(cause)).sum();
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.requests += other.requests;
        self.failed += other.failed;
        self.failed_tries += other.failed_tries;
        self.ejections += other.ejections;
        self.most_ejected = self.most_ejected.max(other.most_ejected);
        self.left_in_flight += other.left_in_flight;
        for (&millis, &requests) in &other.latencies {
            *self.latencies.entry(millis).or_default() += requests;
        }
    }

    /// The latency that so many of 1000 requests stay within, in milliseconds.
    fn quantile(&self, per_mille: u64) -> u64 {
        let mut left = self.requests * per_mille / 1000;
        for (&millis, &requests) in &self.latencies {
            if left < requests {
                return millis;
            }
            left -= requests;
        }
        0
    }

    /// What must hold, whatever happened.
    pub(crate) fn check(&self) {
        assert_eq!(self.failed, 0, "an idempotent request failed: {self}");
        assert_eq!(self.left_in_flight, 0, "something stays in flight: {self}");
        assert!(self.most_ejected <= MOST_EJECTED, "too many are ejected: {self}");
        assert!(self.failed_tries > 0 && self.ejections > 0, "nothing happened: {self}");
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} runs, {} requests, {} failed, {} tries failed, {} ejections, {} nodes ejected at once, {} left in flight, \
             p50 {} ms, p99 {} ms, p99.9 {} ms",
            self.runs,
            self.requests,
            self.failed,
            self.failed_tries,
            self.ejections,
            self.most_ejected,
            self.left_in_flight,
            self.quantile(500),
            self.quantile(990),
            self.quantile(999),
        )
    }
}
