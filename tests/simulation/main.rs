//! Policies in simulated traffic: a model of servers and balancers, the crate's policies in it, and what they must
//! reach.
//!
//! `cargo test --test simulation -- --nocapture` prints the 99th percentile of latency for every policy. The model and
//! its scenarios are described in `model.rs` and `scenario.rs`. The same seed gives the same run, to the last bit, so
//! that what is asserted here holds on every run or on none.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times and counts of a model, far below where numbers are cut off"
)]

mod choosers;
mod model;
mod report;
mod scenario;
mod server;

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use buttress::{
    balance::{LeastRequest, LeastResponseTime, Policy, Random, RoundRobin, WeightedRoundRobin},
    cluster::SlowStart,
};

use self::{
    choosers::{Among, Maker},
    model::simulate,
    report::{Report, Spread},
    scenario::Scenario,
};

const MS: u64 = 1_000_000;
const SEC: u64 = 1_000 * MS;

/// Nothing was tuned with these.
const SEEDS: [u64; 9] = [7001, 7002, 7003, 7004, 7005, 7006, 7007, 7008, 7009];

/// What the default policy must keep the 99th percentile below at 85 % load, in ms.
const LIMITS: [(char, f64); 4] = [('C', 68.0), ('E', 115.0), ('F', 80.0), ('G', 140.0)];

const DEFAULT: &str = "least response time (default)";

fn default_policy() -> Maker {
    Maker::Policy(Arc::new(LeastResponseTime::new()))
}

/// Every policy, and how many seeds each is worth.
fn policies() -> Vec<(&'static str, usize, Maker)> {
    let ours = |policy: Arc<dyn Policy>| Maker::Policy(policy);
    vec![
        ("random", 1, ours(Arc::new(Random))),
        ("round robin", 1, ours(Arc::new(RoundRobin))),
        ("weighted round robin, true weights", 1, Maker::Weighted(Arc::new(WeightedRoundRobin))),
        ("least request of 2", 3, ours(Arc::new(LeastRequest::new()))),
        ("least request of 5", 3, ours(Arc::new(LeastRequest::of(5)))),
        ("least request of all", 3, ours(Arc::new(LeastRequest::of_all()))),
        (DEFAULT, SEEDS.len(), default_policy()),
        ("tower's peak EWMA of 2", 3, Maker::PeakEwma(Among::Two)),
        ("peak EWMA of all", 3, Maker::PeakEwma(Among::All)),
        ("oracle", 3, Maker::Oracle),
    ]
}

/// Runs a scenario with each seed, as many at once as there are cores.
fn simulate_with(scenario: &Scenario, policy: &Maker, seeds: &[u64]) -> Vec<Report> {
    let runs: Vec<_> = seeds.iter().map(|&seed| (scenario, policy, seed)).collect();
    simulate_all(&runs)
}

fn simulate_all(runs: &[(&Scenario, &Maker, u64)]) -> Vec<Report> {
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(vec![Report::default(); runs.len()]);
    let work = || {
        loop {
            let index = next.fetch_add(1, Relaxed);
            let Some((scenario, policy, seed)) = runs.get(index) else { return };
            let report = simulate(scenario, policy, *seed);
            reports.lock().expect("no run has panicked")[index] = report;
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    reports.into_inner().expect("no run has panicked")
}

/// Figures for people.
#[derive(Default)]
struct Table(String);

impl Table {
    /// Shows a line to whoever runs the tests with `--nocapture`.
    fn add(&mut self, line: &str) {
        println!("{line}");
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// Leaves all lines beside the build. Failing to is no reason to fail the test.
    fn keep(&self) {
        let _ = std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/simulation.txt"), &self.0);
    }
}

#[test]
fn the_default_policy_keeps_the_slowest_answers_fast() {
    let limited: Vec<_> =
        LIMITS.iter().map(|&(name, limit)| (name, limit, Scenario::named(name, 0.85))).collect();
    let mut table = Table::default();
    table.add("p99 in ms at 85 % load, the median of the seeds");
    table.add(&format!("{:<36}{:>8}{:>8}{:>8}{:>8}", "policy", "C", "E", "F", "G"));
    let mut of_default = Vec::new();
    for (name, seeds, policy) in &policies() {
        let with_seeds = |scenario| SEEDS[..*seeds].iter().map(move |&seed| (scenario, policy, seed));
        let runs: Vec<_> = limited.iter().flat_map(|(.., scenario)| with_seeds(scenario)).collect();
        let reports = simulate_all(&runs);
        let spreads: Vec<_> =
            reports.chunks(*seeds).map(|reports| Spread::of(reports, Report::p99)).collect();
        let mut line = format!("{name:<36}");
        for spread in &spreads {
            let _ = write!(line, "{:8.1}", spread.median);
        }
        table.add(&line);
        if *name == DEFAULT {
            of_default = spreads;
        }
    }

    table.add("\nleast response time over all seeds: least < median < most");
    let mut missed = Vec::new();
    for ((name, limit, _), p99) in limited.iter().zip(of_default) {
        table.add(&format!("{name}  {p99}, limit {limit}"));
        if p99.median > *limit {
            missed.push(format!("{name}: {} ms instead of {limit}", p99.median));
        }
    }
    table.keep();
    assert!(missed.is_empty(), "the 99th percentile is too high: {missed:?}");
}

#[test]
fn a_server_that_fails_fast_gets_next_to_nothing() {
    for balancers in [1, 20] {
        let reports = simulate_with(&Scenario::black_hole(balancers), &default_policy(), &SEEDS);
        let failed = Spread::of(&reports, |report| report.failed_share() * 100.0);
        println!("black hole, {balancers} balancers: {failed} % fail");
        assert!(failed.max <= 0.1, "{} % of the requests of {balancers} balancers failed", failed.max);
    }
}

#[test]
fn failures_everywhere_do_not_slow_the_rest() {
    for name in ['B', 'C'] {
        let p99 = |failures| {
            let scenario = Scenario { failures, ..Scenario::named(name, 0.85) };
            Spread::of(&simulate_with(&scenario, &default_policy(), &SEEDS[..3]), Report::p99)
        };
        let without = p99(0.0);
        for failures in [0.01, 0.05] {
            let with = p99(failures);
            println!("{name} with {failures} failures: p99 {with} ms instead of {without}");
            assert!(with.median <= without.median * 1.1, "{with} ms instead of {without}");
        }
    }
}

#[test]
fn a_server_that_hangs_costs_each_balancer_a_few_requests() {
    for balancers in [1, 20] {
        let reports = simulate_with(&Scenario::hung_server(balancers), &default_policy(), &SEEDS[..3]);
        let lost = Spread::of(&reports, |report| report.timed_out as f64);
        println!("hung server, {balancers} balancers: {lost} requests time out");
        // What is sent until the first one times out is lost too.
        let limit = 8.0 * f64::from(balancers as u32);
        assert!(lost.max <= limit, "{} requests of {balancers} balancers timed out", lost.max);
    }
}

#[test]
fn a_newcomer_is_neither_starved_nor_flooded() {
    let scenario = Scenario::cold_join(20);
    // The share is a few dozen requests in each run: more runs than elsewhere make it steady.
    let seeds: Vec<u64> = (SEEDS[0]..).take(3 * SEEDS.len()).collect();
    let reports = simulate_with(&scenario, &default_policy(), &seeds);
    let share = Spread::of(&reports, |report| report.early_share_of_newcomer() * 100.0);
    let most = Spread::of(&reports, |report| f64::from(*report.most.last().expect("there are servers")));
    let p99 = Spread::of(&reports, Report::p99);
    let oracle = Spread::of(&simulate_with(&scenario, &Maker::Oracle, &SEEDS[..3]), Report::p99);
    println!(
        "cold join: {share} % of a fair share in 2 s, at most {most} at once, p99 {p99} ms, oracle {oracle}"
    );
    assert!(share.median >= 5.0, "it got {} % of its fair share", share.median);
    assert!(p99.median <= oracle.median * 1.15, "p99 {} ms, oracle {}", p99.median, oracle.median);
}

#[test]
fn slow_start_neither_starves_a_newcomer_nor_lets_it_slow_the_rest() {
    let scenario = Scenario::cold_join(20);
    let without = Scenario { newcomer: None, ..scenario.clone() };
    // Warm before the newcomer joins: slow start begins when the cluster is older than that.
    let slow_start = SlowStart::new(Duration::from_secs(10));
    let policies: [(&str, Arc<dyn Policy>); 3] = [
        (DEFAULT, Arc::new(LeastResponseTime::new())),
        ("least request of 2", Arc::new(LeastRequest::new())),
        ("round robin", Arc::new(RoundRobin)),
    ];
    for (name, policy) in policies {
        let gentle = Maker::Gentle(Arc::clone(&policy), slow_start);
        let reports = simulate_with(&scenario, &gentle, &SEEDS[..5]);
        let share = Spread::of(&reports, |report| report.early_share_of_newcomer() * 100.0);
        let p99 = Spread::of(&reports, Report::p99);
        let at_once = simulate_with(&scenario, &Maker::Policy(Arc::clone(&policy)), &SEEDS[..1]);
        let at_once = Spread::of(&at_once, Report::p99);
        let alone = Spread::of(&simulate_with(&without, &Maker::Policy(policy), &SEEDS[..3]), Report::p99);
        println!(
            "cold join, {name}: {share} % of a fair share in 2 s, p99 {p99} ms; without slow start {at_once}, without a newcomer {alone}"
        );
        assert!(share.median >= 5.0, "{name}: {} % of its fair share", share.median);
        assert!(share.min >= 3.0, "{name}: {} % of its fair share with one seed", share.min);
        assert!(
            p99.median <= alone.median * 1.15,
            "{name}: p99 {} ms, {} without it",
            p99.median,
            alone.median
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for name in ['E', 'F'] {
        let scenario = Scenario { measured: 2 * SEC, warm_up: SEC, ..Scenario::named(name, 0.85) };
        for (_, _, policy) in policies() {
            let [first, again, other] = [1, 1, 2].map(|seed| simulate(&scenario, &policy, seed));
            assert_eq!(first, again, "{policy:?} in scenario {name}");
            assert_ne!(first.trace, other.trace, "{policy:?} in scenario {name}");
        }
    }
}
