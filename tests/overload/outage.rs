//! An outage that outlives its cause, and what ends it.

use std::time::Duration;

use buttress::{
    balance::Budget,
    overload::{Aimd, Bounds, Fixed, Gradient},
};

use crate::model::{Capacity, Gate, Report, SEC, Scenario, simulate};

/// 20 workers of 50 ms at 80 %. From second 60 to 90 half of them are gone.
fn half_for_30_seconds(retries: u32, budget: Option<Budget>) -> Scenario {
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
        seed: 1,
    }
}

fn row(name: &str, report: &Report) {
    let goodput = |from, to| report.goodput(from, to) * 100.0;
    let (before, during, recovery, after) =
        (goodput(10, 60), goodput(60, 90), goodput(90, 100), goodput(100, 290));
    let attempts = report.attempts(100, 290);
    println!("{name:40}{before:>8.2}{during:>8.2}{recovery:>12.2}{after:>8.2}{attempts:>10.3}");
}

#[test]
fn an_outage_ends_with_its_cause() {
    println!("half capacity for 30 s, goodput in %:");
    println!("{:40}{:>8}{:>8}{:>12}{:>8}{:>10}", "", "before", "during", "10 s after", "200 s", "attempts");
    let endless = [
        ("no retry, no bound", 0, None),
        ("3 retries, no bound", 3, None),
        ("3 retries, budget of 20 %, no bound", 3, Some(Budget::default())),
    ];
    for (name, retries, budget) in endless {
        let report = simulate(half_for_30_seconds(retries, budget), None);
        row(name, &report);
        assert!(
            retries == 0 || report.goodput(100, 290) < 0.01,
            "{name}: the model has no outage that lasts"
        );
    }
    let threshold = Duration::from_millis(500);
    let gates: [(&str, &dyn Fn() -> Gate); 3] = [
        ("gradient", &|| Gate::new(Gradient::default())),
        ("AIMD at 500 ms", &|| Gate::new(Aimd::new(Bounds::default(), threshold))),
        ("fixed at 30", &|| Gate::new(Fixed::new(30).unwrap())),
    ];
    for (name, gate) in gates {
        for (with, budget) in [("3 retries", None), ("3 retries, budget of 20 %", Some(Budget::default()))] {
            let name = format!("{with}, {name}");
            let report = simulate(half_for_30_seconds(3, budget), Some(gate()));
            row(&name, &report);
            let (goodput, attempts) = (report.goodput(100, 290), report.attempts(100, 290));
            assert!(goodput >= 0.999, "{name}: {goodput}");
            assert!(attempts <= 1.1, "{name}: {attempts} attempts for each request");
        }
    }
}
