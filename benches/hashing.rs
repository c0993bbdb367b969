//! Placement: what a lookup, a set of replicas, a build and a change of one node cost, and what memory it takes,
//! beside the crates `hashring`, `pingora-ketama`, `maglev-hash`, `jumpconsistenthash` and `rendezvous_hash`.
//!
//! ```text
//! cargo bench --all-features --bench hashing
//! cargo bench --all-features --bench hashing -- 'lookup/100x160'
//! ```
//!
//! Sizes are nodes × virtual nodes, or nodes alone. `throughput` looks up keys that do not depend on each other;
//! `latency` takes each key from the result before it. Keys are strings of 21 bytes, and their hashing is part of
//! every lookup. Memory is printed first: what stays on the heap, and the most there was while building.

// A global allocator is unsafe by nature.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use buttress::placement::{
    JumpShards, KeyHash, KeyHasher, Maglev, Placement, Rendezvous, Ring, RingBuilder, SlotMap, Zones,
};
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use hashring::HashRing;
use maglev_hash::MaglevTable;
use pingora_ketama::{Bucket, Continuum};
use rendezvous_hash::{DefaultNodeHasher, IdNode, Node, RendezvousNodes};

const NODES: [u32; 3] = [10, 100, 1000];
const VNODES: [u32; 3] = [40, 160, 1000];
/// Few enough to stay in the nearest cache, so that the keys themselves cost nothing; a power of two.
const KEYS: usize = 1024;

type Key = [u8; 21];
type Peer = HashRing<(u32, u32)>;

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

fn names(count: u32) -> Vec<String> {
    nodes(count).map(|(name, _)| name).collect()
}

fn rings(vnodes: u32) -> RingBuilder {
    Ring::builder().vnodes(vnodes)
}

fn entries(nodes: u32, vnodes: u32) -> Vec<(u32, u32)> {
    (0..nodes).flat_map(|node| (0..vnodes).map(move |copy| (node, copy))).collect()
}

fn hashring(nodes: u32, vnodes: u32) -> Peer {
    let mut ring = HashRing::new();
    ring.batch_add(entries(nodes, vnodes));
    ring
}

/// Its points come in sets of 160 per weight, so other numbers of virtual nodes are left out.
fn pingora(nodes: u32) -> Continuum {
    let address = |i: u32| format!("10.0.{}.{}:80", i / 250, i % 250).parse().unwrap();
    Continuum::new(&(0..nodes).map(|i| Bucket::new(address(i), 1)).collect::<Vec<_>>())
}

fn rendezvous_crate(nodes: u32) -> RendezvousNodes<IdNode<u32>, DefaultNodeHasher> {
    let mut peers = RendezvousNodes::default();
    peers.extend((0..nodes).map(IdNode::new));
    peers
}

fn zones(nodes: u32) -> Zones {
    Zones::new((0..nodes).map(|i| ["a", "b", "c"][i as usize % 3]))
}

/// Every size that has virtual nodes.
fn sizes() -> impl Iterator<Item = (u32, u32)> {
    NODES.into_iter().flat_map(|nodes| VNODES.map(|vnodes| (nodes, vnodes)))
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
    let hasher = KeyHasher::new(*b"a secret of ours");
    both(&mut group, "hash with a secret", |key| usize::try_from(hasher.hash(key).get() >> 48).unwrap());
    for (n, vnodes) in sizes() {
        let size = format!("{n}x{vnodes}");
        let ring = rings(vnodes).build(nodes(n)).unwrap();
        both(&mut group, &format!("{size}/ring"), |key| ring.locate(KeyHash::of(key)).unwrap());
        if vnodes == 160 {
            let dynamic: Box<dyn Placement> = Box::new(ring);
            both(&mut group, &format!("{size}/dyn ring"), |key| dynamic.locate(KeyHash::of(key)).unwrap());

            let theirs = pingora(n);
            both(&mut group, &format!("{size}/pingora-ketama crate"), |key| theirs.node_idx(key) & 0xffff);
        }
        #[cfg(feature = "ketama")]
        if vnodes == 160 {
            let ring = buttress::placement::KetamaPlacement::new(nodes(n)).unwrap();
            both(&mut group, &format!("{size}/ketama placement"), |key| {
                ring.locate(buttress::placement::KetamaPlacement::key(key)).unwrap()
            });
        }
        #[cfg(feature = "hashring")]
        {
            let entries = entries(n, vnodes).into_iter().map(|entry| (entry, entry.0 as usize));
            let ring = buttress::placement::HashringPlacement::new(entries).unwrap();
            both(&mut group, &format!("{size}/hashring placement"), |key| {
                ring.locate(ring.key(&key[..])).unwrap()
            });
        }
        // As a slice, its length is hashed too, as it is of any key that `hashring` is given.
        let ring = hashring(n, vnodes);
        both(&mut group, &format!("{size}/hashring crate"), |key| ring.get(&&key[..]).unwrap().0 as usize);
    }
    for n in NODES {
        let map = SlotMap::new(nodes(n)).unwrap();
        both(&mut group, &format!("{n}/slots"), |key| map.locate(KeyHash::of(key)).unwrap());
        let table = Maglev::new(nodes(n)).unwrap();
        both(&mut group, &format!("{n}/maglev"), |key| table.locate(KeyHash::of(key)).unwrap());
        let table = MaglevTable::new((0..n).collect());
        both(&mut group, &format!("{n}/maglev-hash crate"), |key| *table.get(&&key[..]).unwrap() as usize);
        let shards = JumpShards::new(n);
        both(&mut group, &format!("{n}/jump"), |key| shards.locate(KeyHash::of(key)).unwrap());
        // Hashed as ours, since on its own it hashes only strings.
        both(&mut group, &format!("{n}/jumpconsistenthash crate"), |key| {
            jumpconsistenthash::jump_hash_from_u64(KeyHash::of(key).get(), n) as usize
        });
        let list = Rendezvous::new(nodes(n)).unwrap();
        both(&mut group, &format!("{n}/rendezvous"), |key| list.locate(KeyHash::of(key)).unwrap());
        let list = Rendezvous::new((1..).zip(nodes(n)).map(|(i, (name, _))| (name, i % 5 + 1))).unwrap();
        both(&mut group, &format!("{n}/rendezvous, weights 1 to 5"), |key| {
            list.locate(KeyHash::of(key)).unwrap()
        });
        let list = rendezvous_crate(n);
        both(&mut group, &format!("{n}/rendezvous_hash crate"), |key| {
            list.calc_candidates(&&key[..]).next().map_or(0, |node| *node.node_id() as usize)
        });
    }
}

fn replicas(c: &mut Criterion) {
    let mut group = c.benchmark_group("replicas of 3");
    for n in NODES {
        let zones = zones(n);
        let ring = Ring::new(nodes(n)).unwrap();
        both(&mut group, &format!("{n}x160/ring"), |key| ring.replicas(KeyHash::of(key), 3)[2]);
        both(&mut group, &format!("{n}x160/ring, a zone each"), |key| {
            ring.zoned_replicas(KeyHash::of(key), 3, &zones)[2]
        });
        let table = Maglev::new(nodes(n)).unwrap();
        both(&mut group, &format!("{n}/maglev"), |key| table.replicas(KeyHash::of(key), 3)[2]);
        let map = SlotMap::new(nodes(n)).unwrap();
        both(&mut group, &format!("{n}/slots"), |key| map.replicas(KeyHash::of(key), 3)[2]);
        let list = Rendezvous::new(nodes(n)).unwrap();
        both(&mut group, &format!("{n}/rendezvous"), |key| list.replicas(KeyHash::of(key), 3)[2]);
        let table = MaglevTable::new((0..n).collect());
        both(&mut group, &format!("{n}/maglev-hash crate"), |key| {
            table.get_top_k(&&key[..], 3).last().map_or(0, |&&node| node as usize)
        });
        // It repeats nodes; whoever wants three of them looks for them.
        let theirs = pingora(n);
        both(&mut group, &format!("{n}x160/pingora-ketama crate"), |key| {
            let mut found: [Option<&std::net::SocketAddr>; 3] = [None; 3];
            let mut len = 0;
            for address in theirs.node_iter(key) {
                if !found[..len].contains(&Some(address)) {
                    found[len] = Some(address);
                    len += 1;
                }
                if len == 3 {
                    break;
                }
            }
            usize::from(found[2].map_or(0, std::net::SocketAddr::port))
        });
    }
    // One size and one key: each call copies the ring, and the nodes are not distinct.
    let ring = hashring(100, 160);
    group.throughput(Throughput::Elements(1));
    group.bench_function("100x160/hashring crate", |b| {
        b.iter(|| ring.get_with_replicas(black_box(&"user"), 2));
    });
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    for (n, vnodes) in sizes() {
        let list: Vec<_> = nodes(n).collect();
        group.bench_function(format!("{n}x{vnodes}/ring"), |b| {
            b.iter(|| rings(vnodes).build(list.iter().map(|(id, weight)| (id, *weight))).unwrap());
        });
        group.bench_function(format!("{n}x{vnodes}/hashring crate, batch_add"), |b| {
            b.iter(|| hashring(n, vnodes));
        });
    }
    for n in NODES {
        let list = || nodes(n);
        group.bench_function(format!("{n}/slots"), |b| b.iter(|| SlotMap::new(list()).unwrap()));
        group.bench_function(format!("{n}/maglev"), |b| b.iter(|| Maglev::new(list()).unwrap()));
        group.bench_function(format!("{n}/rendezvous"), |b| b.iter(|| Rendezvous::new(list()).unwrap()));
        group.bench_function(format!("{n}x160/pingora-ketama crate"), |b| b.iter(|| pingora(n)));
        group.bench_function(format!("{n}/rendezvous_hash crate"), |b| b.iter(|| rendezvous_crate(n)));
        group.bench_function(format!("{n}/maglev-hash crate"), |b| {
            b.iter(|| MaglevTable::new(names(n)));
        });
    }
}

fn change(c: &mut Criterion) {
    let mut group = c.benchmark_group("change");
    for (n, vnodes) in sizes() {
        let size = format!("{n}x{vnodes}");
        let ring = rings(vnodes).build(nodes(n)).unwrap();
        group.bench_function(format!("{size}/ring, add"), |b| b.iter(|| ring.with("one more", 1).unwrap()));
        group.bench_function(format!("{size}/ring, remove"), |b| b.iter(|| ring.without("node-7")));
        group.bench_function(format!("{size}/ring, weight"), |b| b.iter(|| ring.with("node-7", 2).unwrap()));
        group.bench_function(format!("{size}/ring, rebuild"), |b| {
            b.iter(|| ring.rebuild(nodes(n + 1)).unwrap());
        });
        let more = ring.with("one more", 1).unwrap();
        group.bench_function(format!("{size}/ring, plan"), |b| {
            b.iter(|| buttress::placement::MovePlan::between(&ring, &more));
        });

        let theirs = hashring(n, vnodes);
        let node = |node| (0..vnodes).map(move |copy| (node, copy));
        group.bench_function(format!("{size}/hashring crate, batch_add"), |b| {
            b.iter_batched_ref(
                || theirs.clone(),
                |ring| ring.batch_add(node(n).collect()),
                BatchSize::LargeInput,
            );
        });
        group.bench_function(format!("{size}/hashring crate, remove"), |b| {
            b.iter_batched_ref(
                || theirs.clone(),
                |ring| node(7).filter(|entry| ring.remove(entry).is_some()).count(),
                BatchSize::LargeInput,
            );
        });
    }
    for n in NODES {
        let map = SlotMap::new(nodes(n)).unwrap();
        let more = map.rebalanced(nodes(n + 1)).unwrap();
        group.bench_function(format!("{n}/slots, add"), |b| b.iter(|| map.rebalanced(nodes(n + 1)).unwrap()));
        group.bench_function(format!("{n}/slots, remove"), |b| {
            b.iter(|| map.rebalanced(nodes(n - 1)).unwrap());
        });
        group.bench_function(format!("{n}/slots, plan"), |b| b.iter(|| map.plan(&more).unwrap()));
        // The others build afresh: see there.
    }
}

/// The system's allocator, counting.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is handed on to `System` unchanged, and counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `ptr` came from `System` with this layout, as all of ours do.
        unsafe { System.dealloc(ptr, layout) }
    }
}

fn memory_of<T>(name: &str, points: u32, build: impl FnOnce() -> T) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let kept = build();
    let (live, peak) = (LIVE.load(Relaxed) - before, PEAK.load(Relaxed) - before);
    let each = if points == 0 {
        String::new()
    } else {
        format!(", {:.1} B a point", live as f64 / f64::from(points))
    };
    println!(
        "memory/{name:<40} {:>10.1} KiB, at most {:>10.1} KiB{each}",
        live as f64 / 1024.0,
        peak as f64 / 1024.0
    );
    drop(kept);
}

fn memory(_: &mut Criterion) {
    for (n, vnodes) in sizes() {
        let points = n * vnodes;
        memory_of(&format!("{n}x{vnodes}/ring"), points, || rings(vnodes).build(nodes(n)).unwrap());
        memory_of(&format!("{n}x{vnodes}/hashring crate"), points, || hashring(n, vnodes));
    }
    for n in NODES {
        memory_of(&format!("{n}x160/pingora-ketama crate"), n * 160, || pingora(n));
        memory_of(&format!("{n}/slots"), 0, || SlotMap::new(nodes(n)).unwrap());
        memory_of(&format!("{n}/maglev"), 0, || Maglev::new(nodes(n)).unwrap());
        memory_of(&format!("{n}/maglev-hash crate"), 0, || MaglevTable::new(names(n)));
        memory_of(&format!("{n}/rendezvous"), 0, || Rendezvous::new(nodes(n)).unwrap());
        memory_of(&format!("{n}/rendezvous_hash crate"), 0, || rendezvous_crate(n));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = memory, lookup, replicas, build, change
}
criterion_main!(benches);
