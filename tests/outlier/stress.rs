//! Many threads at once: permits are exact.

use std::{
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use buttress::{
    balance::{LeastRequest, RoundRobin},
    cluster::Verdict,
    health::OutlierDetection,
    rng::Rng,
};

use crate::support::{FAILED, World, name, named, pick};

#[test]
fn however_many_threads_ask_one_probe_is_out() {
    let ms = Duration::from_millis(1);
    // A probe has all the time it wants: what is asked here is whether one permit is ever given twice.
    let rules = OutlierDetection::new().base_ejection(ms).max_ejection(ms);
    let world = World::new(rules.probe_timeout(Duration::from_secs(3600)), named(8));
    world.eject("c");
    let (one, other) = (world.balance(RoundRobin), world.balance(LeastRequest::new()));
    let (at_once, probes) = (AtomicU32::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for thread in 0..32 {
            let balance = if thread % 2 == 0 { one.clone() } else { other.clone() };
            let (world, at_once, probes) = (&world, &at_once, &probes);
            scope.spawn(move || {
                let mut rng = Rng::seeded(thread);
                for _ in 0..2000 {
                    world.clock.advance(Duration::from_micros(20));
                    let mut guard = pick(&balance);
                    if name(&guard) != "c" {
                        guard.judge(Verdict::Success);
                        continue;
                    }
                    probes.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0, "two probes at once");
                    if rng.below(2) == 0 {
                        thread::yield_now();
                    }
                    at_once.fetch_sub(1, Ordering::SeqCst);
                    // It fails, or is given up.
                    if rng.below(2) == 0 {
                        guard.judge(FAILED);
                    }
                }
            });
        }
    });
    let probes = probes.into_inner();
    assert!(probes >= 10, "{probes} probes");
    assert!(world.cluster.load().iter().all(|member| member.state.in_flight() == 0));
    // The permit is back.
    world.clock.advance(ms);
    let mut guard = pick(&one);
    assert_eq!(name(&guard), "c");
    guard.judge(Verdict::Success);
    assert!(!world.is_out("c"));
}
