//! What came out of a simulation.

use std::fmt;

use super::model::Outcome;

/// The measured window, as the clients saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The latency of every request in µs, failures and time-outs included; in order.
    pub(crate) latencies: Vec<u32>,
    pub(crate) failed: u64,
    pub(crate) timed_out: u64,
    /// How many requests each server was sent in the first two seconds of the window.
    pub(crate) early: Vec<u64>,
    /// The most that each server had at any time.
    pub(crate) most: Vec<u32>,
    /// A hash of every answer in the order of time: its server, its latency and its outcome.
    pub(crate) trace: u64,
}

impl Report {
    pub(crate) fn new(servers: usize) -> Self {
        Self { early: vec![0; servers], most: vec![0; servers], ..Self::default() }
    }

    pub(crate) fn record(&mut self, latency: u64, outcome: Outcome) {
        self.latencies.push((latency / 1000) as u32);
        match outcome {
            Outcome::Answered => {}
            Outcome::Failed => self.failed += 1,
            Outcome::TimedOut => self.timed_out += 1,
        }
    }

    /// Adds to the trace (FNV-1a, a word at a time).
    pub(crate) fn trace(&mut self, server: usize, latency: u64, outcome: Outcome) {
        for word in [server as u64, latency, outcome as u64] {
            self.trace = (self.trace ^ word).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The latency that 99 % stay below, in ms.
    pub(crate) fn p99(&self) -> f64 {
        f64::from(self.latencies[self.latencies.len() * 99 / 100]) / 1000.0
    }

    pub(crate) fn failed_share(&self) -> f64 {
        (self.failed + self.timed_out) as f64 / self.latencies.len() as f64
    }

    /// What the last server got in the first two seconds, over the mean of all.
    pub(crate) fn early_share_of_newcomer(&self) -> f64 {
        let all: u64 = self.early.iter().sum();
        self.early.last().map_or(0.0, |&own| (own * self.early.len() as u64) as f64 / all as f64)
    }
}

/// The least, the median and the most of some results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(reports: &[Report], figure: impl Fn(&Report) -> f64) -> Self {
        let mut figures: Vec<f64> = reports.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        Self { min: figures[0], median: figures[figures.len() / 2], max: figures[figures.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}<{:.3}<{:.3}", self.min, self.median, self.max)
    }
}
