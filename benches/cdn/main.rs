//! What a hit of the HTTP cache costs in process, beside the inner service alone and the decision of http-cache-semantics.
//!
//! The same cases, with http-cache beside them and allocations counted, are in `benches/peers`.

mod hits;

use std::{hint::black_box, time::SystemTime};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http_cache_semantics::CachePolicy;

use self::hits::{BODIES, ours, request, response};

fn hits(criterion: &mut Criterion) {
    for (name, size) in BODIES {
        let mut group = criterion.benchmark_group(format!("cdn/{name}"));
        group.throughput(Throughput::Elements(1));
        let mut inner = hits::inner(size);
        group.bench_function("the inner service alone", |bencher| bencher.iter(&mut inner));
        let mut ours = ours(size);
        group.bench_function("buttress, a hit", |bencher| bencher.iter(&mut ours));
        group.finish();
    }
}

/// No service, no body and no key: only whether the response may be reused, and its head.
#[expect(clippy::disallowed_methods, reason = "it wants the time of day")]
fn semantics(criterion: &mut Criterion) {
    let (asked, answered) = (request(), response(0));
    let policy = CachePolicy::new(&asked, &answered);
    criterion.bench_function("cdn/http-cache-semantics, asking a policy", |bencher| {
        bencher.iter(|| black_box(policy.before_request(black_box(&asked), SystemTime::now())));
    });
}

criterion_group!(benches, hits, semantics);
criterion_main!(benches);
