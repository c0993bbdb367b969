//! Each eviction policy beside the same of the peers: hits, and misses with an insertion.
//!
//! ```text
//! cargo bench --bench eviction                 # criterion
//! cargo bench --bench eviction -- --compare    # in turns: for noisy machines
//! ```

mod caches;

use std::time::Duration;

use buttress::cache::evict::Eviction;
use criterion::{Criterion, Throughput};
use foyer_memory::{FifoConfig, LfuConfig, LruConfig, S3FifoConfig};
use moka::policy::EvictionPolicy;

use self::caches::{
    Contender, SIZES, Workload,
    compare::{self, Row},
    mix, ours, peers,
};

/// What the policies have to do with it; the mix is for whole caches.
const WORKLOADS: [Workload; 2] = [Workload::Hit, Workload::Miss];

/// Ours, and the peers of the same kind.
struct Class {
    name: &'static str,
    peers: &'static [&'static str],
    contenders: Vec<Contender>,
}

fn classes(entries: u32) -> Vec<Class> {
    let (mix, n) = (mix(entries), entries as usize);
    macro_rules! class {
        ($name:literal, $eviction:expr, $($peer:literal: $cache:expr),*) => {
            Class {
                name: $name,
                peers: &[$($peer),*],
                contenders: vec![
                    Contender::new($name, ours::memory(n, $eviction), entries, &mix),
                    $(Contender::new($peer, $cache, entries, &mix)),*
                ],
            }
        };
    }
    vec![
        class!("fifo", Eviction::fifo(), "foyer fifo": peers::foyer(n, FifoConfig::default())),
        class!(
            "lru", Eviction::lru(),
            "lru crate": peers::lru(n),
            "foyer lru": peers::foyer(n, LruConfig::default()),
            "moka lru": peers::moka(n, EvictionPolicy::lru())
        ),
        class!("sieve", Eviction::sieve(), "sieve-cache": peers::sieve_cache(n)),
        class!(
            "s3-fifo", Eviction::s3_fifo(),
            "quick_cache": peers::quick_cache(n),
            "foyer s3-fifo": peers::foyer(n, S3FifoConfig::default())
        ),
        class!(
            "w-tinylfu", Eviction::w_tiny_lfu(),
            "moka": peers::moka(n, EvictionPolicy::tiny_lfu()),
            "foyer w-tinylfu": peers::foyer(n, LfuConfig::default()),
            "tinyufo": peers::tinyufo(n)
        ),
        class!(
            "lfu", Eviction::lfu(),
            "moka": peers::moka(n, EvictionPolicy::tiny_lfu()),
            "foyer w-tinylfu": peers::foyer(n, LfuConfig::default()),
            "tinyufo": peers::tinyufo(n)
        ),
    ]
}

fn eviction(c: &mut Criterion) {
    for entries in SIZES {
        for class in classes(entries) {
            for workload in WORKLOADS {
                let mut group =
                    c.benchmark_group(format!("{}/{}/{entries} entries", class.name, workload.name()));
                group.throughput(Throughput::Elements(1));
                for contender in &class.contenders {
                    group.bench_function(contender.name, |b| {
                        b.iter_custom(|operations| contender.time(workload, 1, operations));
                    });
                }
            }
        }
    }
}

fn compare() {
    for entries in SIZES {
        for class in classes(entries) {
            let measure = |workload| Row::measure(workload, entries, 1, &class.contenders);
            let rows = WORKLOADS.map(measure);
            rows.iter().for_each(Row::print);
            compare::summary(&rows, class.name, class.peers);
        }
    }
}

fn main() {
    if std::env::args().any(|arg| arg == "--compare") {
        return compare();
    }
    let mut criterion = Criterion::default()
        .sample_size(15)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .configure_from_args();
    eviction(&mut criterion);
    criterion.final_summary();
}
