use std::{cmp::Reverse, collections::BinaryHeap};

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

/// How long an answer takes, in milliseconds.
type Law = fn(&mut Rng) -> f64;

fn exponential(rng: &mut Rng) -> f64 {
    -100.0 * (1.0 - rng.unit()).ln()
}

fn slower(rng: &mut Rng) -> f64 {
    10.0 * exponential(rng)
}

/// Nine in ten take some 10 ms, the others some 200.
fn bimodal(rng: &mut Rng) -> f64 {
    let mode = if rng.unit() < 0.9 { 10.0 } else { 200.0 };
    mode * (0.8 + 0.4 * rng.unit())
}

/// A pause that hardly any answer falls into: at its edges the estimate has nothing to hold on to but the counts.
fn paused(rng: &mut Rng) -> f64 {
    if rng.unit() < 0.97 { 1.0 + rng.unit() } else { 500.0 + 100.0 * rng.unit() }
}

fn millis(millis: f64) -> Duration {
    Duration::from_secs_f64(millis / 1000.0)
}

/// Requests that come at random, so many at once on average. Those that outlast the delay are sent to a second node.
struct Traffic<'a> {
    latencies: &'a Latencies,
    rng: Rng,
    at_once: f64,
    now: f64,
    /// When each ends, how long it took, and whether the first node had the answer.
    under_way: BinaryHeap<Reverse<(u64, u64, bool)>>,
}

impl<'a> Traffic<'a> {
    fn new(latencies: &'a Latencies, at_once: f64) -> Self {
        Self { latencies, rng: Rng::seeded(42), at_once, now: 0.0, under_way: BinaryHeap::new() }
    }

    /// The share of these many requests that is hedged.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive times")]
    fn run(&mut self, law: Law, requests: u32) -> f64 {
        let mut hedged = 0;
        let mean = (0..10_000).map(|_| law(&mut self.rng)).sum::<f64>() / 10_000.0;
        for _ in 0..requests {
            self.now -= mean / self.at_once * (1.0 - self.rng.unit()).ln();
            while let Some(&Reverse((end, took, answered))) = self.under_way.peek()
                && end <= (self.now * 1e6) as u64
            {
                self.under_way.pop();
                let took = Duration::from_micros(took);
                if answered { self.latencies.answered(took) } else { self.latencies.longer_than(took) }
            }
            let first = law(&mut self.rng);
            let delay = self.latencies.quantile().map_or(f64::INFINITY, |delay| delay.as_secs_f64() * 1000.0);
            let second = if first > delay { delay + law(&mut self.rng) } else { f64::INFINITY };
            hedged += u32::from(first > delay);
            let took = first.min(second);
            let end = ((self.now + took) * 1e6) as u64;
            self.under_way.push(Reverse((end, (took * 1000.0) as u64, first <= second)));
        }
        f64::from(hedged) / f64::from(requests)
    }
}

fn within_15_percent(share: f64, quantile: f64, context: &str) {
    let ratio = share / (1.0 - quantile);
    println!("{context}: {:.2} % at p{}, {ratio:.3} times the configured", share * 100.0, quantile * 100.0);
    assert!((0.85..1.15).contains(&ratio), "{context}: {ratio} times the configured share at {quantile}");
}

#[test]
fn the_hedged_share_is_the_configured_one() {
    for (name, law) in [("exponential", exponential as Law), ("bimodal", bimodal), ("paused", paused)] {
        for quantile in [0.9, 0.95, 0.99] {
            for (at_once, warm_up) in [(1.0, 10_000), (1000.0, 100_000)] {
                let latencies = Latencies::new(quantile);
                let mut traffic = Traffic::new(&latencies, at_once);
                // The first ones are not hedged, and the first answers of many are all quick.
                traffic.run(law, warm_up);
                let share = traffic.run(law, 50_000);
                within_15_percent(share, quantile, &format!("{name}, {at_once} at once"));
            }
        }
    }
}

#[test]
fn the_hedged_share_comes_back_when_latencies_change() {
    for (name, before, after) in
        [("ten times slower", exponential as Law, slower as Law), ("ten times faster", slower, exponential)]
    {
        for quantile in [0.9, 0.95, 0.99] {
            let latencies = Latencies::new(quantile);
            let mut traffic = Traffic::new(&latencies, 10.0);
            traffic.run(before, 20_000);
            // Two windows at most.
            traffic.run(after, latencies.step * ESTIMATES * 2);
            let share = traffic.run(after, 50_000);
            within_15_percent(share, quantile, name);
        }
    }
}

#[test]
fn the_estimate_is_within_5_percent_of_the_quantile() {
    let mut rng = Rng::seeded(3);
    for (quantile, expected) in [(0.5, 69.3), (0.9, 230.3), (0.99, 460.5)] {
        let latencies = Latencies::new(quantile);
        let (mut sum, mut count) = (0.0, 0);
        for sample in 0..100_000 {
            latencies.answered(millis(exponential(&mut rng)));
            if sample > 10_000 {
                sum += latencies.quantile().unwrap().as_secs_f64() * 1000.0;
                count += 1;
            }
        }
        let mean = sum / f64::from(count);
        assert!((mean / expected - 1.0).abs() < 0.05, "{mean} of {expected}");
    }
}

#[test]
fn nothing_is_said_of_too_few_samples() {
    let latencies = Latencies::new(0.95);
    for sample in 0..199 {
        latencies.answered(Duration::from_millis(sample));
        assert_eq!(latencies.quantile(), None);
    }
    latencies.answered(Duration::from_millis(1));
    assert!(latencies.quantile().is_some());
}

#[test]
fn when_all_are_given_up_it_is_no_less_than_that() {
    let latencies = Latencies::new(0.9);
    (0..100).for_each(|_| latencies.longer_than(Duration::from_secs(1)));
    assert!(latencies.quantile().unwrap() >= Duration::from_secs(1));
}

#[test]
fn the_windows_hold_only_what_is_recent() {
    let latencies = Latencies::new(0.5);
    (0..500).for_each(|_| latencies.answered(Duration::from_secs(9)));
    (0..1000).for_each(|_| latencies.answered(Duration::from_millis(1)));
    let held: u32 = latencies.windows.iter().map(|window| window.samples.load(Relaxed)).sum();
    assert_eq!(held, 500);
    assert!(latencies.quantile().unwrap() < Duration::from_millis(2));
}

proptest! {
    #[test]
    fn every_latency_is_in_its_bucket(micros in 0_u64..1 << 28) {
        let (from, to) = bounds(index(Duration::from_micros(micros)));
        prop_assert!(from <= micros as f64 && (micros as f64) < to);
        prop_assert!(to - from <= 1.0 || (to - from) / from <= 1.0 / PARTS as f64);
    }

    #[test]
    fn no_sample_is_too_much(samples in prop::collection::vec((any::<bool>(), any::<u64>()), 0..500)) {
        let latencies = Latencies::new(0.9);
        for (answered, nanos) in samples {
            let latency = Duration::from_nanos(nanos).saturating_mul(1 << 20);
            if answered { latencies.answered(latency) } else { latencies.longer_than(latency) }
            if let Some(quantile) = latencies.quantile() {
                prop_assert!(quantile <= Duration::from_secs(300));
            }
        }
    }
}
