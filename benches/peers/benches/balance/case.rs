//! One thing that is measured.

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::{Ready, ready};
use std::hint::black_box;

use tokio::runtime::{Builder, Runtime};
use tower::{Service, ServiceExt};

/// A balancer under test, able to take any number of requests in a row.
///
/// One closure serves both the timing and the counting of allocations, so that they speak of the same work.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Sends this many requests, one after another unless the name says otherwise.
    pub(crate) run: Box<dyn FnMut(u64)>,
}

impl Case {
    pub(crate) fn new(name: &'static str, run: impl FnMut(u64) + 'static) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// A service that one task makes ready, calls and awaits, again and again.
    ///
    /// `runtime` is the one that the service was built in, for services with a worker.
    pub(crate) fn driven<S>(name: &'static str, runtime: Runtime, mut service: S) -> Self
    where
        S: Service<u64, Response = u64, Error: Debug> + 'static,
    {
        Self::new(name, move |requests| {
            runtime.block_on(async {
                for request in 0..requests {
                    black_box(send(&mut service, request).await);
                }
            });
        })
    }
}

/// A runtime on this thread only, so that no case is helped or hurt by a second core.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without I/O needs nothing that can fail")
}

/// What every node does with a request: answer at once.
pub(crate) fn answer(request: u64) -> Ready<Result<u64, Infallible>> {
    ready(Ok(request))
}

/// Sends one request. Every node answers, so an error is a mistake in the bench.
pub(crate) async fn send<S>(service: &mut S, request: u64) -> u64
where
    S: Service<u64, Response = u64, Error: Debug>,
{
    let ready = service.ready().await.expect("some node is ready");
    ready.call(request).await.expect("every node answers")
}
