//! Routing: what a search costs among 10, 1000 and 10 000 rules, beside the `matchit` crate.
//!
//! ```text
//! cargo bench --features http --bench routing
//! ```
//!
//! `matchit` matches paths alone, and takes them as they are. So it is asked for its paths in `path`, beside a table
//! of the same patterns; what hosts, headers and escapes add is shown by the others.

use std::{hint::black_box, time::Duration};

use buttress::route::{Routes, Rule};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use http::Request;

const SIZES: [usize; 3] = [10, 1000, 10_000];
/// Requests that are made in turn, to rules all over the table.
const REQUESTS: usize = 256;

/// Two patterns for each service, one of them with parameters.
fn patterns(count: usize) -> Vec<String> {
    let pattern = |i: usize| match i % 2 {
        0 => format!("/service-{i}/users/{{user}}/orders/{{order}}"),
        _ => format!("/service-{i}/health/ready"),
    };
    (0..count).map(pattern).collect()
}

fn paths(count: usize) -> Vec<String> {
    let path = |pattern: &String| pattern.replace("{user}", "4711").replace("{order}", "2026-08");
    let patterns = patterns(count);
    (0..REQUESTS).map(|i| path(&patterns[i * 7919 % count])).collect()
}

fn requests(count: usize, host: impl Fn(usize) -> String) -> Vec<Request<()>> {
    let request = |(i, path): (usize, String)| {
        let host = host(i * 7919 % count);
        Request::get(path).header("host", host).header("accept", "*/*").header("x-canary", "yes").body(())
    };
    paths(count).into_iter().enumerate().map(|numbered| request(numbered).unwrap()).collect()
}

/// Measures one search, over all requests in turn.
fn search<R>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: String,
    requests: &[R],
    find: impl Fn(&R) -> Option<usize>,
) {
    assert!(requests.iter().all(|request| find(request).is_some()), "{name} misses");
    let mut turn = requests.iter().cycle();
    group.bench_function(name, |b| b.iter(|| turn.next().map(|request| find(black_box(request)))));
}

fn routing(c: &mut Criterion) {
    let mut group = c.benchmark_group("routing");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(40);
    for size in SIZES {
        let patterns = patterns(size);
        let find = |routes: Routes<usize>| {
            move |request: &Request<()>| routes.find(request).ok().map(|found| *found.target())
        };
        let table = |rule: &dyn Fn(usize, &String) -> Rule| {
            Routes::new(patterns.iter().enumerate().map(|(i, pattern)| (rule(i, pattern), i))).unwrap()
        };

        let mut peer = matchit::Router::new();
        for (i, pattern) in patterns.iter().enumerate() {
            peer.insert(pattern, i).unwrap();
        }
        search(&mut group, format!("matchit, path/{size}"), &paths(size), |path| {
            peer.at(path).ok().map(|found| *found.value)
        });

        let one_host = requests(size, |_| "shop.example.com".to_owned());
        search(&mut group, format!("path/{size}"), &one_host, find(table(&|_, pattern| Rule::path(pattern))));

        let canary =
            |_: usize, pattern: &String| Rule::path(pattern).host("*.example.com").header("x-canary", "yes");
        search(&mut group, format!("wildcard, path, header/{size}"), &one_host, find(table(&canary)));

        let hosts = requests(size, |i| format!("tenant-{i}.example.com"));
        let tenant = |i: usize, pattern: &String| Rule::path(pattern).host(format!("tenant-{i}.example.com"));
        search(&mut group, format!("host for each rule/{size}"), &hosts, find(table(&tenant)));
    }
    group.finish();
}

criterion_group!(benches, routing);
criterion_main!(benches);
