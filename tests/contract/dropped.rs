//! Futures dropped at every one of their polls.

use std::{cell::Cell, rc::Rc, time::Duration};

use buttress::{
    balance::{
        Backoff, Balance, Cloned, Queue, Retry, RoundRobin,
        http::{OnBody, RepeatHttp},
    },
    cluster::{Cluster, FailureKind, Node, Verdict},
    forward::{PeerAddr, Proxy},
    overload::{Fixed, Limit, Limiter, Priority, Queue as Line, Terms},
    sticky::{CookieKeys, Pins, Sticky, StickyCookie},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Request, Response};
use tokio::task::yield_now;
use tokio_test::task;
use tower::{BoxError, Service, ServiceExt, service_fn};

use crate::readiness::{Strict, everything};

/// Drops `operation` after one poll, after two, and so on until it comes to its end. Returns how many that took.
fn drop_at_every_poll<F: Future>(mut operation: impl FnMut() -> F, check: impl Fn(usize)) -> usize {
    for polls in 0.. {
        let mut future = task::spawn(Box::pin(operation()));
        let done = (0..polls).any(|_| future.poll().is_ready());
        drop(future);
        check(polls);
        if done {
            return polls;
        }
    }
    unreachable!("it has an end")
}

fn idle<S>(cluster: &Cluster<S>) -> impl Fn(usize) {
    let cluster = cluster.clone();
    move |polls| {
        for member in cluster.load().iter() {
            assert_eq!(member.state.in_flight(), 0, "{} after {polls} polls", member.node.id);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_balanced_request_is_taken_back_wherever_it_is_dropped() {
    let answer = service_fn(|()| async {
        yield_now().await;
        yield_now().await;
        Ok::<_, BoxError>(())
    });
    let slow_to_be_ready = |name: &'static str| {
        let then = move |_: Result<Response<_>, std::convert::Infallible>| answer.oneshot(());
        let service = ServiceExt::<()>::then(Strict::new(name, 2), then);
        (Node::new(name).max_in_flight(1), service)
    };
    let cluster = Cluster::new(["a", "b"].map(slow_to_be_ready)).unwrap();
    let balance = Balance::new(cluster.clone(), RoundRobin).queue(Queue::new(5, Duration::from_secs(5)));
    let polls = drop_at_every_poll(|| balance.clone().oneshot(()), idle(&cluster));
    assert!(polls > 2, "{polls}");

    // The same behind a request that holds the only node.
    cluster.remove("b");
    let holder = cluster.get("a").unwrap();
    let polls = drop_at_every_poll(
        || {
            let guard = buttress::cluster::LoadGuard::start(&holder.member).unwrap();
            let mut waiting = task::spawn(Box::pin(balance.clone().oneshot(())));
            assert!(waiting.poll().is_pending());
            async move {
                yield_now().await;
                drop(guard);
                yield_now().await;
                waiting.into_inner().await
            }
        },
        idle(&cluster),
    );
    assert!(polls > 5, "{polls}");
}

#[tokio::test(start_paused = true)]
async fn a_retried_request_is_taken_back_wherever_it_is_dropped() {
    let tries = Rc::new(Cell::new(0));
    thread_local!(static TRIES: Cell<u32> = const { Cell::new(0) });
    let service = service_fn(|()| async {
        yield_now().await;
        TRIES.set(TRIES.get() + 1);
        yield_now().await;
        if TRIES.get().is_multiple_of(3) { Ok(()) } else { Err(BoxError::from("not yet")) }
    });
    let cluster = Cluster::new(["a", "b", "c"].map(|name| (Node::new(name), service))).unwrap();
    let retry = Retry::new(Balance::new(cluster.clone(), RoundRobin), Cloned::new(|(): &()| true))
        .budget(buttress::balance::Budget::new(1.0, 1000).unwrap());
    let polls = drop_at_every_poll(
        || {
            tries.set(tries.get() + 1);
            TRIES.set(0);
            retry.clone().oneshot(())
        },
        idle(&cluster),
    );
    assert!(polls > 5, "{polls}");
    assert_eq!(tries.get(), polls + 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_with_all_rules_is_taken_back_wherever_it_is_dropped() {
    thread_local!(static TRIES: Cell<u32> = const { Cell::new(0) });
    let answer = service_fn(|()| async {
        TRIES.set(TRIES.get() + 1);
        let mine = TRIES.get();
        for _ in 0..10 {
            yield_now().await;
        }
        // The first two run side by side and fail, the third waits and succeeds.
        if mine > 2 { Ok(()) } else { Err(BoxError::from("not yet")) }
    });
    let slow_to_be_ready = |name: &'static str| {
        let then = move |_: Result<Response<_>, std::convert::Infallible>| answer.oneshot(());
        (Node::new(name), ServiceExt::<()>::then(Strict::new(name, 0), then))
    };
    let cluster = Cluster::new(["a", "b", "c"].map(slow_to_be_ready)).unwrap();
    let retry =
        everything(Retry::new(Balance::new(cluster.clone(), RoundRobin), Cloned::new(|(): &()| true)))
            .budget(buttress::balance::Budget::new(1.0, 1000).unwrap())
            .backoff(Backoff::new(Duration::from_nanos(1), Duration::from_nanos(1)).unwrap());
    let most = Cell::new(0);
    let polls = drop_at_every_poll(
        || {
            most.set(most.get().max(TRIES.replace(0)));
            retry.clone().oneshot(())
        },
        idle(&cluster),
    );
    assert!(polls > 10, "{polls}");
    assert_eq!(TRIES.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_proxied_request_is_taken_back_wherever_it_is_dropped() {
    let service = service_fn(|request: Request<buttress::forward::ReplayBody<Full<Bytes>>>| async {
        yield_now().await;
        request.into_body().collect().await?;
        let frames = futures_of(3).await;
        Ok::<_, BoxError>(Response::new(StreamBody::new(frames)))
    });
    let judge = |answer: Result<&Response<_>, &BoxError>| match answer {
        Ok(_) => Verdict::Success,
        Err(_) => Verdict::Failure(FailureKind::Transport),
    };
    let cluster = Cluster::new([(Node::new("a"), service)]).unwrap();
    let balance = Balance::new(cluster.clone(), RoundRobin).classify(judge).complete(OnBody).sticky();
    let cookie = StickyCookie::new("shop", CookieKeys::new([[7; 32]]).unwrap()).unwrap();
    let pins = Pins::cookie(cookie, &cluster);
    let proxy = Proxy::new(Sticky::new(Retry::new(balance, RepeatHttp::new()), pins));
    let polls = drop_at_every_poll(
        || {
            let mut request = Request::post("/").header("host", "a").body(Full::from("body")).unwrap();
            request.extensions_mut().insert(PeerAddr(([127, 0, 0, 1], 1).into()));
            let mut proxy = proxy.clone();
            async move {
                let response = proxy.call(request).await.unwrap();
                let mut body = response.into_body();
                let mut frames = 0;
                while let Some(frame) = body.frame().await {
                    frame.unwrap();
                    frames += 1;
                    yield_now().await;
                }
                assert_eq!(frames, 3);
            }
        },
        idle(&cluster),
    );
    assert!(polls > 5, "{polls}");
}

#[tokio::test(start_paused = true)]
async fn a_limited_request_is_taken_back_wherever_it_is_dropped() {
    let then = |_: Result<Response<_>, std::convert::Infallible>| async {
        yield_now().await;
        yield_now().await;
        Ok::<_, BoxError>(Response::new(StreamBody::new(futures_of(3).await)))
    };
    let service = ServiceExt::<()>::then(Strict::new("inner", 2), then);
    let limiter = Limiter::new(Fixed::new(1).unwrap(), Line::new(5, Duration::from_secs(5)));
    let judge = |_: Result<&Response<_>, &BoxError>| Verdict::Success;
    let limit = Limit::new(service, limiter.clone()).classify(judge).complete(OnBody);
    let idle = |polls| {
        let status = limiter.status();
        assert_eq!((status.in_flight, status.waiting), (0, 0), "after {polls} polls");
    };
    let polls = drop_at_every_poll(|| async { read(limit.clone().oneshot(()).await.unwrap()).await }, idle);
    assert!(polls > 5, "{polls}");

    // The same behind a request that holds the only permit, with others who wait and lose interest.
    let polls = drop_at_every_poll(
        || {
            let mut holder = task::spawn(Box::pin(limiter.acquire(Terms::default())));
            let holder = match holder.poll() {
                std::task::Poll::Ready(permit) => permit.expect("there is room"),
                std::task::Poll::Pending => panic!("there is room"),
            };
            let mut waiting = task::spawn(Box::pin(limit.clone().oneshot(())));
            assert!(waiting.poll().is_pending());
            let mut other = task::spawn(Box::pin(limiter.acquire(Terms::new(Priority::CriticalPlus))));
            let limiter = &limiter;
            async move {
                yield_now().await;
                let mut third = task::spawn(Box::pin(limiter.acquire(Terms::default())));
                assert!(other.poll().is_pending() && third.poll().is_pending());
                drop(holder);
                yield_now().await;
                // It has the permit, and nobody looks.
                assert!(other.is_woken());
                drop(other);
                yield_now().await;
                read(waiting.into_inner().await.unwrap()).await;
                yield_now().await;
            }
        },
        idle,
    );
    assert!(polls > 10, "{polls}");
}

async fn read<B: hyper::body::Body<Data = Bytes>>(response: Response<B>) {
    let mut body = std::pin::pin!(response.into_body());
    while body.frame().await.is_some() {
        yield_now().await;
    }
}

/// So many frames.
async fn futures_of(frames: usize) -> impl futures_core::Stream<Item = Result<Frame<Bytes>, BoxError>> {
    yield_now().await;
    Frames(frames)
}

struct Frames(usize);

impl futures_core::Stream for Frames {
    type Item = Result<Frame<Bytes>, BoxError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let Some(left) = self.0.checked_sub(1) else { return std::task::Poll::Ready(None) };
        self.0 = left;
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"frame")))))
    }
}
