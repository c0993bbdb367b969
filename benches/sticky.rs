//! What a sticky cookie costs: to verify, to refuse, to issue, and in all around a balanced request.
//!
//! ```text
//! cargo bench --bench sticky --all-features
//! ```

use std::{hint::black_box, time::Duration};

use buttress::{
    balance::{Balance, RoundRobin},
    cluster::{Cluster, Node},
    sticky::{CookieKeys, Pins, Sticky, StickyCookie},
    time::{Clock, ManualClock},
};
use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http_body_util::Empty;
use hyper::{Request, Response};
use tower::{Service, service_fn};

fn cookie(secrets: &[[u8; 32]]) -> StickyCookie {
    StickyCookie::new("shop", CookieKeys::new(secrets).expect("long enough")).expect("a name")
}

fn pure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sticky cookie");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let now = ManualClock::new().wall();
    let two = cookie(&[[1; 32], [2; 32]]);
    let id = "web-17.eu-central.example.com:8443".into();
    for (name, issuer) in [("newest", cookie(&[[1; 32]])), ("older", cookie(&[[2; 32]]))] {
        let value = issuer.issue(&id, now);
        group.bench_function(format!("verify, signed by the {name} of two keys"), |bencher| {
            bencher.iter(|| two.verify(black_box(value.as_bytes()), now).expect("it is ours"));
        });
    }
    let mut forged = two.issue(&id, now).into_bytes();
    forged[30] = if forged[30] == b'A' { b'B' } else { b'A' };
    group.bench_function("refuse a forged one", |bencher| {
        bencher.iter(|| two.verify(black_box(&forged), now).expect_err("it is not"));
    });
    group.bench_function("issue", |bencher| bencher.iter(|| two.issue(black_box(&id), now)));
    group.finish();
}

fn request(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sticky request, 100 nodes");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let node = service_fn(|_: Request<()>| async {
        Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let nodes = (0..100).map(|n| (Node::new(format!("node-{n}")), node));
    let cluster = Cluster::new(nodes).expect("a hundred names");
    let cookie = cookie(&[[1; 32], [2; 32]]);
    let value = format!(
        "theme=dark; __Host-shop={}",
        cookie.issue(&"node-7".into(), buttress::time::TokioClock.wall())
    );
    let with = || Request::builder().header("cookie", &value).body(()).expect("a request");

    let mut plain = Balance::http(cluster.clone(), RoundRobin);
    group.bench_function("balanced, no stickiness", |bencher| {
        bencher.iter(|| runtime.block_on(plain.call(with())).expect("an answer"));
    });
    let mut sticky = Sticky::new(plain.clone().sticky(), Pins::cookie(cookie, &cluster));
    group.bench_function("pinned", |bencher| {
        bencher.iter(|| runtime.block_on(sticky.call(with())).expect("an answer"));
    });
    group.bench_function("new client, gets a cookie", |bencher| {
        bencher.iter(|| runtime.block_on(sticky.call(Request::new(()))).expect("an answer"));
    });
    group.finish();
}

/// A node comes and goes, with the tags of two keys to follow.
fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("add and remove 1 of 10000 nodes");
    group.sample_size(20);
    let nodes = || (0..10_000).map(|n| (Node::new(format!("node-{n}")), ()));
    let plain = Cluster::new(nodes()).expect("names");
    let followed = Cluster::new(nodes()).expect("names");
    let _pins = Pins::cookie(cookie(&[[1; 32], [2; 32]]), &followed);
    for (name, cluster) in [("cluster alone", plain), ("with pins", followed)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                cluster.insert(Node::new("one more"), ()).expect("a name");
                cluster.remove("one more")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pure, request, change);
criterion_main!(benches);
