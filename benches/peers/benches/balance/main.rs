//! What one balanced request costs: choose a node, call it, account for it.
//!
//! Every case calls trivial services that are always ready, so nearly all of the time is the balancer's own. First comes
//! a table of allocations, then criterion's report, and last a table of the medians. Read the timings as ratios: all
//! cases run in one process, one after another.

mod alloc;
mod case;
mod ours;
mod pingora;
mod tower;

use std::time::{Duration, Instant};

use case::Case;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};

#[global_allocator]
static COUNTING: alloc::Counting = alloc::Counting;

const NODES: [usize; 4] = [10, 64, 100, 1000];
/// Enough that the tasks and wakers set up once for a run no longer show in the average.
const COUNTED_REQUESTS: u64 = 100_000;
const SAMPLES: usize = 100;

fn cases(nodes: usize) -> Vec<Case> {
    [ours::cases(nodes), tower::cases(nodes), pingora::cases(nodes)].into_iter().flatten().collect()
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();

    print_allocations();
    let mut medians = Vec::new();
    for nodes in NODES {
        let mut group = criterion.benchmark_group(format!("balance/n={nodes}"));
        for mut case in cases(nodes) {
            if let Some(median) = measure(&mut group, &mut case) {
                medians.push((case.name, nodes, median));
            }
        }
        group.finish();
    }
    criterion.final_summary();
    print_medians(&medians);
}

fn print_allocations() {
    println!("| allocations per request | nodes | count | bytes |");
    println!("|---|--:|--:|--:|");
    for nodes in NODES {
        for mut case in cases(nodes) {
            (case.run)(COUNTED_REQUESTS); // first use fills queues and thread-local state
            let (count, bytes) = alloc::per_op(COUNTED_REQUESTS, || (case.run)(COUNTED_REQUESTS));
            println!("| {} | {nodes} | {count:.2} | {bytes:.0} |", case.name);
        }
    }
    println!();
}

fn print_medians(medians: &[(&str, usize, f64)]) {
    println!("| median per request | nodes | ns |");
    println!("|---|--:|--:|");
    for (name, nodes, median) in medians {
        println!("| {name} | {nodes} | {median:.0} |");
    }
}

/// The median time of one request in ns; `None` if the case was filtered out.
fn measure(group: &mut BenchmarkGroup<'_, WallTime>, case: &mut Case) -> Option<f64> {
    let mut samples = Vec::new();
    group.bench_function(case.name, |bencher| {
        bencher.iter_custom(|requests| {
            let elapsed = time(|| (case.run)(requests));
            samples.push(elapsed.as_nanos() as f64 / requests as f64);
            elapsed
        });
    });
    // The warm-up comes through the same closure, and comes first.
    let mut measured = samples.split_off(samples.len().saturating_sub(SAMPLES));
    measured.sort_by(f64::total_cmp);
    measured.get(measured.len() / 2).copied()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is about real time")]
fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
