//! `tower::balance`, raw and behind `tower::buffer`.
//!
//! Raw it is cheapest, but it is not `Clone`: one task owns it. A server that many tasks share puts a `Buffer` in front,
//! which is then the fair comparison with a balancer that is `Clone`.

use std::convert::Infallible;
use std::fmt::Debug;
use std::hint::black_box;
use std::time::Duration;

use tokio::task::JoinSet;
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::{Discover, ServiceList};
use tower::load::{CompleteOnResponse, PeakEwmaDiscover, PendingRequestsDiscover};
use tower::{BoxError, Service, service_fn};

use crate::case::{Case, answer, runtime, send};

/// These steer which node is chosen, not what the choice costs.
const DEFAULT_RTT: Duration = Duration::from_millis(1);
const DECAY: Duration = Duration::from_secs(10);
const TASKS: u64 = 64;
/// Room for every task at once, so that none is turned back.
const BUFFER: usize = 1024;

pub(crate) fn cases(nodes: usize) -> Vec<Case> {
    vec![
        Case::driven("tower Balance, PendingRequests", runtime(), pending_requests(nodes)),
        Case::driven("tower Balance, PeakEwma", runtime(), peak_ewma(nodes)),
        buffered(nodes),
        buffered_for_many(nodes),
    ]
}

fn pending_requests(nodes: usize) -> impl Service<u64, Response = u64, Error: Debug> {
    Balance::new(PendingRequestsDiscover::new(discover(nodes), CompleteOnResponse::default()))
}

fn peak_ewma(nodes: usize) -> impl Service<u64, Response = u64, Error = BoxError, Future: Send> + Send {
    let completion = CompleteOnResponse::default();
    Balance::new(PeakEwmaDiscover::new::<u64>(discover(nodes), DEFAULT_RTT, DECAY, completion))
}

fn buffered(nodes: usize) -> Case {
    let runtime = runtime();
    let service = {
        let _worker_spawns_here = runtime.enter();
        Buffer::new(peak_ewma(nodes), BUFFER)
    };
    Case::driven("tower Buffer<Balance, PeakEwma>", runtime, service)
}

/// Many callers at once let the worker answer several requests per wake-up: kinder to the buffer than a single caller.
fn buffered_for_many(nodes: usize) -> Case {
    let runtime = runtime();
    let service = {
        let _worker_spawns_here = runtime.enter();
        Buffer::new(peak_ewma(nodes), BUFFER)
    };
    Case::new("tower Buffer<Balance, PeakEwma>, 64 tasks", move |requests| {
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for task in 0..TASKS {
                let mut service = service.clone();
                tasks.spawn(async move {
                    for request in (task..requests).step_by(TASKS as usize) {
                        black_box(send(&mut service, request).await);
                    }
                });
            }
            tasks.join_all().await;
        });
    })
}

type Node = tower::util::ServiceFn<fn(u64) -> std::future::Ready<Result<u64, Infallible>>>;

fn discover(nodes: usize) -> impl Discover<Key = usize, Service = Node, Error = Infallible> + Send + Unpin {
    let node: Node = service_fn(answer);
    ServiceList::new::<u64>(vec![node; nodes])
}
