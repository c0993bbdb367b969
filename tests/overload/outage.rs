//! An outage that outlives its cause, and what ends it.

use std::time::Duration;

use buttress::{
    balance::Budget,
    overload::{Aimd, Bounds, Fixed, Gradient, LimitAlgorithm, Queue},
};

use crate::model::{Capacity, Gate, Report, SEC, Scenario, simulate};

/// 20 workers of 50 ms at 80 %. From second 60 to 90 half of them are gone.
fn half_for_30_seconds(retries: u32, budget: Option<Budget>, seed: u64) -> Scenario {
    let capacity = |from, workers| Capacity { from: from * SEC, workers, speed: 1.0 };
    Scenario {
        per_second: 320.0,
        end: 290 * SEC,
        capacity: vec![capacity(0, 20), capacity(60, 10), capacity(90, 20)],
        timeout: SEC,
        tells_deadline: false,
        retries,
        budget,
        shares: [0.0, 0.0, 1.0, 0.0],
        seed,
    }
}

fn gate(algorithm: impl LimitAlgorithm) -> Option<Gate> {
    Some(Gate { algorithm: Box::new(algorithm), queue: Queue::default() })
}

fn budget() -> Option<Budget> {
    Some(Budget::default())
}

fn row(name: &str, report: &Report) {
    let percent = |from, to| report.goodput(from, to) * 100.0;
    println!(
        "{name:42}{:>8.2}{:>8.2}{:>10.2}{:>10.2}{:>10.3}",
        percent(10, 60),
        percent(60, 90),
        percent(90, 100),
        percent(100, 290),
        report.attempts(100, 290)
    );
}

#[test]
fn an_outage_ends_with_its_cause() {
    println!(
        "half capacity for 30 s, goodput in %:\n{:42}{:>8}{:>8}{:>10}{:>10}{:>10}",
        "stack", "before", "during", "10 s after", "200 s", "attempts"
    );
    let report = simulate(half_for_30_seconds(0, None, 1), None);
    row("no retry, no bound", &report);
    let stuck = [("3 retries, no bound", None), ("3 retries + 20 % budget, no bound", budget())];
    for (name, budget) in stuck {
        let report = simulate(half_for_30_seconds(3, budget, 1), None);
        row(name, &report);
        assert!(report.goodput(100, 290) < 0.01, "{name}: the model has no outage that lasts");
    }
    let threshold = Duration::from_millis(500);
    let algorithms: [(&str, fn(Duration) -> Option<Gate>); 3] = [
        ("gradient", |_| gate(Gradient::default())),
        ("AIMD at 500 ms", |threshold| gate(Aimd::new(Bounds::default(), threshold))),
        ("fixed at 30", |_| gate(Fixed::new(30).unwrap())),
    ];
    for (name, make) in algorithms {
        for (with, budget) in [("3 retries", None), ("3 retries + 20 % budget", budget())] {
            let name = format!("{with}, {name}");
            let report = simulate(half_for_30_seconds(3, budget, 1), make(threshold));
            row(&name, &report);
            let (goodput, attempts) = (report.goodput(100, 290), report.attempts(100, 290));
            assert!(goodput >= 0.999, "{name}: {goodput}");
            assert!(attempts <= 1.1, "{name}: {attempts} attempts for each request");
        }
    }
}
