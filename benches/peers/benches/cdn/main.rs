//! What a hit of an HTTP cache costs in process: buttress and http-cache in front of the same service, and the service alone.
//!
//! First comes a table of allocations, then criterion's report.

#[path = "../balance/alloc.rs"]
mod alloc;
#[path = "../../../cdn/hits.rs"]
mod hits;
mod http_cache;

use std::time::Duration;

use criterion::Criterion;

#[global_allocator]
static COUNTING: alloc::Counting = alloc::Counting;

const COUNTED_HITS: u64 = 10_000;

/// A name, and what asks once.
type Case = (&'static str, Box<dyn FnMut()>);

fn cases(size: usize) -> [Case; 3] {
    [
        ("the inner service alone", Box::new(hits::inner(size))),
        ("buttress", Box::new(hits::ours(size))),
        ("http-cache-tower, moka", Box::new(http_cache::hit(size))),
    ]
}

fn main() {
    println!("| allocations per hit | body | count | bytes |");
    println!("|---|---|--:|--:|");
    for (body, size) in hits::BODIES {
        for (name, mut ask) in cases(size) {
            let (count, bytes) = alloc::per_op(COUNTED_HITS, || (0..COUNTED_HITS).for_each(|_| ask()));
            println!("| {name} | {body} | {count:.2} | {bytes:.0} |");
        }
    }
    let mut criterion = Criterion::default().measurement_time(Duration::from_secs(3)).configure_from_args();
    for (body, size) in hits::BODIES {
        let mut group = criterion.benchmark_group(format!("cdn/{body}"));
        for (name, mut ask) in cases(size) {
            group.bench_function(name, |bencher| bencher.iter(&mut ask));
        }
        group.finish();
    }
    criterion.final_summary();
}
