//! Limits that find themselves, beside the best that could have been set by hand.

use std::time::Duration;

use buttress::overload::{Aimd, Bounds, Fixed, Gradient};

use crate::model::{Capacity, Gate, MS, Report, SEC, Scenario, simulate};

/// How long each capacity lasts, in seconds.
const PHASE: usize = 30;
/// How long a limit may take to follow.
const GRACE: usize = 10;

/// Workers and their speed: halved, doubled, doubled, halved; then each half as fast, and again as before.
const PHASES: [(usize, f64); 7] =
    [(20, 1.0), (10, 1.0), (20, 1.0), (40, 1.0), (20, 1.0), (20, 0.5), (20, 1.0)];

/// More than any of the phases can do.
fn steps(seed: u64) -> Scenario {
    let capacity =
        |(phase, &(workers, speed))| Capacity { from: (phase * PHASE) as u64 * SEC, workers, speed };
    Scenario {
        per_second: 900.0,
        end: (PHASES.len() * PHASE) as u64 * SEC,
        capacity: PHASES.iter().enumerate().map(capacity).collect(),
        timeout: 500 * MS,
        tells_deadline: false,
        retries: 0,
        budget: None,
        shares: [0.0, 0.0, 1.0, 0.0],
        seed,
    }
}

/// Answers in time per second in each phase, from 10 s after its beginning.
fn answered(name: &str, gate: Gate, seed: u64) -> [f64; PHASES.len()] {
    let Report(seconds) = simulate(steps(seed), Some(gate));
    let answered = std::array::from_fn(|phase| {
        let seconds = &seconds[phase * PHASE + GRACE..(phase + 1) * PHASE];
        seconds.iter().map(|second| f64::from(second.answered[2])).sum::<f64>() / seconds.len() as f64
    });
    println!("{name:16}{answered:7.1?}");
    answered
}

#[test]
fn limits_follow_capacity_to_within_15_percent_of_the_best_in_10_seconds() {
    println!("answers in time per second, by workers and their speed:\n{:16}{PHASES:?}", "");
    let mut best = [0.0_f64; PHASES.len()];
    for limit in [10, 20, 40] {
        let answered = answered(&format!("fixed at {limit}"), Gate::new(Fixed::new(limit).unwrap()), 3);
        best = std::array::from_fn(|phase| best[phase].max(answered[phase]));
    }
    let threshold = Duration::from_millis(400);
    let gates: [(&str, &dyn Fn() -> Gate); 2] = [
        ("gradient", &|| Gate::new(Gradient::default())),
        ("AIMD at 400 ms", &|| Gate::new(Aimd::new(Bounds::default(), threshold))),
    ];
    for (name, gate) in gates {
        for seed in [3, 4] {
            for (phase, (answered, best)) in answered(name, gate(), seed).into_iter().zip(best).enumerate() {
                assert!(answered >= 0.85 * best, "{name}: {answered} of {best} in phase {phase}");
            }
        }
    }
}

#[test]
fn nothing_is_shed_for_the_sake_of_a_measurement() {
    for (utilisation, seed) in [(0.2, 6), (0.5, 7), (0.8, 8), (0.8, 9), (0.8, 10)] {
        let steady = Scenario {
            per_second: 400.0 * utilisation,
            end: 300 * SEC,
            capacity: vec![Capacity { from: 0, workers: 20, speed: 1.0 }],
            ..steps(seed)
        };
        let Report(seconds) = simulate(steady, Some(Gate::new(Gradient::default())));
        let shed: u32 = seconds[GRACE..].iter().map(|second| second.shed).sum();
        assert_eq!(shed, 0, "in five minutes at {utilisation}");
    }
}
