//! Who is turned away when there is twice as much as can be done.

use buttress::overload::{Gradient, Priority};

use crate::model::{Capacity, Gate, SEC, Scenario, simulate};

#[test]
fn what_matters_is_served_while_the_rest_is_shed() {
    println!("goodput in % at twice the capacity, by priority:");
    (1..6).for_each(flood);
}

fn flood(seed: u64) {
    let scenario = Scenario {
        per_second: 800.0,
        end: 120 * SEC,
        capacity: vec![Capacity { from: 0, workers: 20, speed: 1.0 }],
        timeout: SEC,
        tells_deadline: true,
        retries: 0,
        budget: None,
        shares: [0.4, 0.3, 0.2, 0.1],
        seed,
    };
    let report = simulate(scenario, Some(Gate::new(Gradient::default())));
    let goodput = Priority::ALL.map(|priority| report.goodput_of(10, 120, priority));
    println!("{:7.2?}", goodput.map(|share| share * 100.0));
    assert!(goodput[3] >= 0.999, "the most critical");
    assert!(goodput[2] >= 0.99, "critical");
    assert!((0.4..0.8).contains(&goodput[1]), "what is left, for 30 % of the requests");
    assert!(goodput[0] < 0.15, "the least");
}
