//! What one balanced request costs: choose a node, call it, account for it; beside `tower::balance`, raw and behind
//! `tower::buffer`.
//!
//! ```text
//! cargo bench --bench balance
//! ```
//!
//! The same cases, with pingora beside them and allocations counted, are in `benches/peers`.

#[path = "peers/benches/balance/case.rs"]
mod case;
#[path = "peers/benches/balance/ours.rs"]
mod ours;
#[allow(clippy::cast_possible_truncation, reason = "64 tasks")]
#[path = "peers/benches/balance/tower.rs"]
mod tower;

use std::time::Duration;

use buttress::balance::Balance;
use criterion::{Criterion, criterion_group, criterion_main};

fn balance(criterion: &mut Criterion) {
    for nodes in [10, 64, 100, 1000] {
        let mut group = criterion.benchmark_group(format!("balance/n={nodes}"));
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
        for mut case in ours::cases(nodes).into_iter().chain(tower::cases(nodes)) {
            group.bench_function(case.name, |bencher| {
                bencher.iter_custom(|requests| {
                    #[expect(clippy::disallowed_methods, reason = "a benchmark is about real time")]
                    let start = std::time::Instant::now();
                    (case.run)(requests);
                    start.elapsed()
                });
            });
        }
        group.finish();
    }
}

/// A weight that changes, with a balancer attached that builds its picker anew.
fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("change 1 of 10000 nodes");
    group.sample_size(50);
    for (name, policy) in ours::policies() {
        let cluster = ours::cluster(10_000, true);
        let _balance = Balance::new(cluster.clone(), policy);
        let mut weight = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                weight = weight % 5 + 1;
                cluster.set_weight("node-5000", weight).expect("the node is there");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, balance, change);
criterion_main!(benches);
