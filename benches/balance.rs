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
#[path = "peers/benches/balance/tower.rs"]
mod tower;

use std::time::Duration;

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

criterion_group!(benches, balance);
criterion_main!(benches);
