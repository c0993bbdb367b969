//! Placement: what a lookup, a set of replicas, a build and a change of one node cost, beside the `hashring`
//! crate.
//!
//! ```text
//! cargo bench --features hashring --bench hashing
//! ```
//!
//! `throughput` looks up keys that do not depend on each other; `latency` takes each key from the result
//! before it. Keys are strings of 21 bytes, and their hashing is part of every lookup.

use std::{hint::black_box, time::Duration};

use buttress::placement::{KeyHash, Placement, Ring};
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use hashring::HashRing;

const VNODES: u32 = 160;
const SIZES: [u32; 2] = [100, 1000];
/// Few enough to stay in the nearest cache, so that the keys themselves cost nothing; a power of two.
const KEYS: usize = 1024;

type Key = [u8; 21];

/// Arrays rather than strings, so that getting at a key is not what is measured.
fn keys() -> Vec<Key> {
    (0..KEYS as u64)
        .map(|i| {
            format!("user:{:016x}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes().try_into().unwrap()
        })
        .collect()
}

fn nodes(count: u32) -> impl Iterator<Item = (String, u32)> {
    (0..count).map(|i| (format!("node-{i}"), 1))
}

fn entries(count: u32) -> Vec<(u32, u32)> {
    (0..count).flat_map(|node| (0..VNODES).map(move |copy| (node, copy))).collect()
}

fn hashring(count: u32) -> HashRing<(u32, u32)> {
    let mut ring = HashRing::new();
    ring.batch_add(entries(count));
    ring
}

/// Measures a function from a key to a number below 65 536 in both ways.
fn both(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, find: impl Fn(&Key) -> usize) {
    let keys = keys();
    group.throughput(Throughput::Elements(KEYS as u64));
    group.bench_function(format!("{name}/throughput"), |b| {
        b.iter(|| {
            for key in &keys {
                black_box(find(key));
            }
        });
    });
    group.bench_function(format!("{name}/latency"), |b| {
        b.iter(|| {
            let mut last = 0;
            for i in 0..KEYS {
                last = find(&keys[(i + last) % KEYS]);
            }
            last
        });
    });
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    both(&mut group, "hash only", |key| usize::try_from(KeyHash::of(key).get() >> 48).unwrap());
    for size in SIZES {
        let ring = Ring::new(nodes(size)).unwrap();
        both(&mut group, &format!("ring/{size}"), |key| ring.locate(KeyHash::of(key)).unwrap());

        let dynamic: Box<dyn Placement> = Box::new(ring);
        both(&mut group, &format!("dyn ring/{size}"), |key| dynamic.locate(KeyHash::of(key)).unwrap());

        #[cfg(feature = "hashring")]
        {
            let entries = entries(size).into_iter().map(|entry| (entry, entry.0 as usize));
            let ring = buttress::placement::HashringPlacement::new(entries).unwrap();
            both(&mut group, &format!("hashring placement/{size}"), |key| {
                ring.locate(ring.key(&key[..])).unwrap()
            });
        }

        // As a slice, its length is hashed too, as it is of any key that `hashring` is given.
        let ring = hashring(size);
        both(&mut group, &format!("hashring crate/{size}"), |key| ring.get(&&key[..]).unwrap().0 as usize);
    }
}

fn replicas(c: &mut Criterion) {
    let mut group = c.benchmark_group("replicas of 3");
    for size in SIZES {
        let ring = Ring::new(nodes(size)).unwrap();
        both(&mut group, &format!("ring/{size}"), |key| ring.replicas(KeyHash::of(key), 3)[2]);
    }
    // One size and one key: each call copies the ring.
    let ring = hashring(100);
    group.throughput(Throughput::Elements(1));
    group.bench_function("hashring crate/100", |b| b.iter(|| ring.get_with_replicas(black_box(&"user"), 2)));
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    for size in SIZES {
        let list: Vec<_> = nodes(size).collect();
        group.bench_function(format!("ring/{size}"), |b| {
            b.iter(|| Ring::new(list.iter().map(|(id, weight)| (id, *weight))).unwrap());
        });
        group.bench_function(format!("hashring crate, batch_add/{size}"), |b| b.iter(|| hashring(size)));
    }
}

fn change(c: &mut Criterion) {
    let mut group = c.benchmark_group("change");
    for size in SIZES {
        let ring = Ring::new(nodes(size)).unwrap();
        group.bench_function(format!("ring, add/{size}"), |b| b.iter(|| ring.with("one more", 1).unwrap()));
        group.bench_function(format!("ring, remove/{size}"), |b| b.iter(|| ring.without("node-7")));
        group.bench_function(format!("ring, weight/{size}"), |b| b.iter(|| ring.with("node-7", 2).unwrap()));
        group.bench_function(format!("ring, rebuild/{size}"), |b| {
            b.iter(|| ring.rebuild(nodes(size + 1)).unwrap());
        });

        let theirs = hashring(size);
        let node = |node| (0..VNODES).map(move |copy| (node, copy));
        group.bench_function(format!("hashring crate, batch_add/{size}"), |b| {
            b.iter_batched_ref(
                || theirs.clone(),
                |ring| ring.batch_add(node(size).collect()),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(format!("hashring crate, remove/{size}"), |b| {
            b.iter_batched_ref(
                || theirs.clone(),
                |ring| node(7).filter(|entry| ring.remove(entry).is_some()).count(),
                BatchSize::LargeInput,
            );
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = lookup, replicas, build, change
}
criterion_main!(benches);
