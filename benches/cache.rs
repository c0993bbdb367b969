//! The caches beside their peers: hits, misses and a mix, small and large, on one thread and on two, and what an entry
//! costs in memory.
//!
//! ```text
//! cargo bench --bench cache                 # criterion
//! cargo bench --bench cache -- --compare    # in turns: for noisy machines
//! ```
//!
//! Times are per operation of all threads together: on two threads that do not disturb each other, half as long as on one.

mod caches;

use std::time::Duration;

use criterion::{Criterion, Throughput};
use foyer_memory::{FifoConfig, LfuConfig, LruConfig, S3FifoConfig};
use moka::policy::EvictionPolicy;

use self::caches::{
    Contender, SIZES, THREADS, Workload,
    compare::{self, Row},
    memory, mix, ours, peers,
};

const PEERS: [&str; 10] = [
    "quick_cache",
    "lru",
    "moka",
    "moka lru",
    "foyer fifo",
    "foyer lru",
    "foyer w-tinylfu",
    "foyer s3-fifo",
    "tinyufo",
    "sieve-cache",
];

/// Every cache, handed to a macro so that each keeps its type.
macro_rules! every {
    ($take:ident) => {
        vec![
            $take!("default", ours::default),
            $take!("set", ours::set),
            $take!("quick_cache", peers::quick_cache),
            $take!("lru", peers::lru),
            $take!("moka", |n| peers::moka(n, EvictionPolicy::tiny_lfu())),
            $take!("moka lru", |n| peers::moka(n, EvictionPolicy::lru())),
            $take!("foyer fifo", |n| peers::foyer(n, FifoConfig::default())),
            $take!("foyer lru", |n| peers::foyer(n, LruConfig::default())),
            $take!("foyer w-tinylfu", |n| peers::foyer(n, LfuConfig::default())),
            $take!("foyer s3-fifo", |n| peers::foyer(n, S3FifoConfig::default())),
            $take!("tinyufo", peers::tinyufo),
            $take!("sieve-cache", peers::sieve_cache),
        ]
    };
}

fn contenders(entries: u32) -> Vec<Contender> {
    let mix = mix(entries);
    macro_rules! contender {
        ($name:literal, $cache:expr) => {
            Contender::new($name, ($cache)(entries as usize), entries, &mix)
        };
    }
    every!(contender)
}

/// The workloads in their order, with the caches as they have to be then.
fn workloads(contenders: &[Contender], mut run: impl FnMut(Workload, usize)) {
    for workload in Workload::ALL {
        if workload == Workload::Mix {
            contenders.iter().for_each(Contender::warm_mix);
        }
        for threads in THREADS {
            run(workload, threads);
        }
    }
}

/// The caches whose entries can expire, once without.
fn expiring() -> Vec<Contender> {
    let (entries, mix) = (SIZES[0], mix(SIZES[0]));
    let n = entries as usize;
    vec![
        Contender::new("default", ours::default(n), entries, &mix),
        Contender::new("default, ttl", ours::expiring(n), entries, &mix),
        Contender::new("moka, ttl", peers::moka_expiring(n), entries, &mix),
    ]
}

/// Hits in other ways than one after another.
fn ways(entries: u32) -> Vec<Contender> {
    let (mix, n) = (mix(entries), entries as usize);
    vec![
        Contender::new("default", ours::default(n), entries, &mix),
        Contender::new("default, get_many(64)", ours::batches(n), entries, &mix),
        Contender::new("default, CacheLayer", ours::layered(n), entries, &mix),
    ]
}

fn throughput(c: &mut Criterion) {
    for entries in SIZES {
        let contenders = contenders(entries);
        workloads(&contenders, |workload, threads| {
            let mut group =
                c.benchmark_group(format!("{}/{entries} entries/{threads} threads", workload.name()));
            group.throughput(Throughput::Elements(1));
            for contender in &contenders {
                group.bench_function(contender.name, |b| {
                    b.iter_custom(|operations| contender.time(workload, threads, operations));
                });
            }
        });
    }
}

fn expiry(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("get hit with a time to live/{} entries", SIZES[0]));
    for contender in expiring() {
        group.bench_function(contender.name, |b| {
            b.iter_custom(|operations| contender.time(Workload::Hit, 1, operations));
        });
    }
}

fn other_ways(c: &mut Criterion) {
    for entries in SIZES {
        let mut group = c.benchmark_group(format!("get hit in other ways/{entries} entries"));
        for contender in ways(entries) {
            group.bench_function(contender.name, |b| {
                b.iter_custom(|operations| contender.time(Workload::Hit, 1, operations));
            });
        }
    }
}

fn compare() {
    let mut rows = Vec::new();
    for entries in SIZES {
        let contenders = contenders(entries);
        workloads(&contenders, |workload, threads| {
            let row = Row::measure(workload, entries, threads, &contenders);
            row.print();
            rows.push(row);
        });
    }
    println!("\nwith a time to live:");
    Row::measure(Workload::Hit, SIZES[0], 1, &expiring()).print();
    println!("\nin other ways:");
    for entries in SIZES {
        Row::measure(Workload::Hit, entries, 1, &ways(entries)).print();
    }
    compare::summary(&rows, "default", &PEERS);
    compare::summary(&rows, "set", &PEERS);
}

/// Bytes per entry, each cache in a process of its own.
fn memory_table() {
    macro_rules! name {
        ($name:literal, $cache:expr) => {
            $name
        };
    }
    println!("\nbytes per entry, u64 to u64 (16 of them the entry itself), {} entries\n", SIZES[1]);
    println!("{:18}{:>9}{:>9}", "", "filled", "churned");
    for name in every!(name) {
        match memory::ask(name).as_deref() {
            Some([filled, churned]) => println!("{name:18}{filled:9.1}{churned:9.1}"),
            _ => println!("{name:18}  not measured: this system does not tell"),
        }
    }
}

/// The part of the process that fills one cache.
fn fill(role: &str) {
    macro_rules! fill {
        ($name:literal, $cache:expr) => {
            if role == $name {
                memory::act(SIZES[1], $cache);
            }
        };
    }
    every!(fill);
}

fn main() {
    if let Some(role) = memory::role() {
        return fill(&role);
    }
    if std::env::args().any(|arg| arg == "--compare") {
        compare();
        memory_table();
        return;
    }
    let mut criterion = Criterion::default()
        .sample_size(15)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .configure_from_args();
    throughput(&mut criterion);
    expiry(&mut criterion);
    other_ways(&mut criterion);
    memory_table();
    criterion.final_summary();
}
