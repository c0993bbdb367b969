//! What it costs to be admitted and to give the permit back, when nobody else wants it.
//!
//! ```text
//! cargo bench --bench overload
//! ```

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    cluster::Verdict,
    overload::{Aimd, Bounds, Fixed, Gradient, Limit, LimitAlgorithm, Limiter, Queue, Terms},
};
use criterion::{Criterion, criterion_group, criterion_main};
use tower::{Service, limit::ConcurrencyLimit, service_fn};

/// What a future gives that never waits.
fn now<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("there is room"),
    }
}

fn permits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("permit");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let algorithms: [(&str, Box<dyn LimitAlgorithm>); 3] = [
        ("fixed", Box::new(Fixed::new(100).expect("not 0"))),
        ("aimd", Box::new(Aimd::new(Bounds::default(), Duration::from_secs(1)))),
        ("gradient", Box::new(Gradient::default())),
    ];
    for (name, algorithm) in algorithms {
        let limiter = Limiter::new(algorithm, Queue::default());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut permit = now(limiter.acquire(Terms::default())).expect("there is room");
                permit.judge(Verdict::Success);
            });
        });
    }
    group.finish();
}

fn echo(request: u64) -> Ready<Result<u64, Infallible>> {
    ready(Ok(request))
}

fn services(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("service");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let mut context = Context::from_waker(Waker::noop());
    let mut ours = Limit::new(service_fn(echo), Limiter::new(Gradient::default(), Queue::default()));
    group.bench_function("gradient", |bencher| {
        bencher.iter(|| {
            let _ = Service::<u64>::poll_ready(&mut ours, &mut context);
            black_box(now(ours.call(7)).is_ok())
        });
    });
    let mut tower = ConcurrencyLimit::new(service_fn(echo), 100);
    group.bench_function("tower's ConcurrencyLimit", |bencher| {
        bencher.iter(|| {
            let _ = Service::<u64>::poll_ready(&mut tower, &mut context);
            black_box(now(tower.call(7)).is_ok())
        });
    });
    group.finish();
}

criterion_group!(benches, permits, services);
criterion_main!(benches);
