//! Which service is called, and when.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    balance::{
        Backoff, Balance, BalanceLayer, Budget, Cloned, Error, Hedge, LeastRequest, Queue, Retry, RetryLayer,
        RoundRobin, http::RepeatHttp,
    },
    cache::{CacheLayer, MemoryCache},
    cluster::{Cluster, FailureKind, LoadGuard, Member, Node, Verdict},
    forward::{PeerAddr, Proxy, ProxyError},
    health::OutlierDetection,
    overload::{Gradient, Limit, LimitLayer, Limiter, http::AnswerLayer},
    route::{Route, Routes, Rule},
    sticky::{CookieKeys, Pins, StickyCookie, StickyLayer},
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode};
use tokio::time::{Instant, Sleep, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{
    BoxError, Layer, Service, ServiceExt, buffer::Buffer, limit::ConcurrencyLimit, service_fn,
    timeout::TimeoutLayer,
};

/// Answers with its name, once it was polled ready: this very instance, and for each call anew.
#[derive(Debug)]
pub(crate) struct Strict {
    name: &'static str,
    /// Wake-ups until an instance is ready.
    steps: u32,
    taken: u32,
    ready: bool,
}

impl Strict {
    pub(crate) fn new(name: &'static str, steps: u32) -> Self {
        Self { name, steps, taken: 0, ready: false }
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::new(self.name, self.steps)
    }
}

impl<Req> Service<Req> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Full<Bytes>>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.taken < self.steps {
            self.taken += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "{} was called without having been polled ready", self.name);
        self.taken = 0;
        std::future::ready(Ok(Response::new(Full::new(Bytes::from_static(self.name.as_bytes())))))
    }
}

fn strict(nodes: usize, steps: u32) -> Cluster<Strict> {
    let names = ["a", "b", "c", "d", "e"];
    Cluster::new(names.into_iter().take(nodes).map(|name| (Node::new(name), Strict::new(name, steps))))
        .unwrap()
}

fn request() -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    request.extensions_mut().insert(PeerAddr(([127, 0, 0, 1], 1).into()));
    request.headers_mut().insert("host", "a.example".parse().unwrap());
    request
}

fn sticky(cluster: &Cluster<Strict>) -> StickyLayer {
    let cookie = StickyCookie::new("shop", CookieKeys::new([[7; 32]]).unwrap()).unwrap();
    StickyLayer::new(Pins::cookie(cookie, cluster))
}

async fn call_twice<S, Req>(mut service: S, request: impl Fn() -> Req)
where
    S: Service<Req> + Clone,
    S::Error: std::fmt::Debug,
{
    // Twice through one instance, then through clones of one that is ready.
    for _ in 0..2 {
        service.ready().await.unwrap().call(request()).await.unwrap();
    }
    service.ready().await.unwrap();
    let mut clone = service.clone();
    clone.ready().await.unwrap().call(request()).await.unwrap();
    service.call(request()).await.unwrap();
}

/// With all that a retry can be told.
pub(crate) fn everything<B, R>(retry: Retry<B, R>) -> Retry<B, R> {
    let second = Duration::from_secs(1);
    retry
        .hedge(Hedge::after(Duration::ZERO))
        .backoff(Backoff::new(second, 2 * second).unwrap())
        .try_timeout(10 * second)
        .timeout(60 * second)
}

#[tokio::test(start_paused = true)]
async fn a_retry_and_a_hedge_call_what_they_polled_ready() {
    // Each answer is a failure, which leads to all nodes; or takes long, which leads to two.
    for (status, calls) in [(500, 5), (200, 2)] {
        for steps in [0, 1, 3] {
            let slow = move |service: Strict| {
                ServiceExt::<u32>::then(service, move |answer: Result<Response<_>, Infallible>| async move {
                    tokio::time::sleep(Duration::from_millis(status)).await;
                    answer
                })
            };
            let nodes =
                ["a", "b", "c", "d", "e"].map(|name| (Node::new(name), slow(Strict::new(name, steps))));
            let cluster = Cluster::new(nodes).unwrap();
            let judge = move |_: Result<&Response<_>, &Infallible>| match status {
                200 => Verdict::Success,
                _ => Verdict::Failure(FailureKind::Response),
            };
            let balance = Balance::new(cluster.clone(), RoundRobin).classify(judge);
            let retry = everything(Retry::new(balance, Cloned::new(|_: &u32| true))).tries(9);
            retry.budget(Budget::new(1.0, 100).unwrap()).oneshot(7).await.unwrap();
            let requests: u64 = cluster.load().iter().map(|member| member.state.requests()).sum();
            // No hedge waits for a node to become ready.
            assert!(requests == calls || (steps > 0 && status == 200 && requests == 1), "{requests}");
        }
    }
}

#[tokio::test]
async fn every_service_calls_what_it_polled_ready() {
    for steps in [0, 1, 3] {
        let limiter = Limiter::new(Gradient::default(), buttress::overload::Queue::default());
        call_twice(Limit::new(Strict::new("inner", steps), limiter.clone()), || ()).await;
        call_twice(LimitLayer::new(limiter.clone()).layer(Strict::new("inner", steps)), || ()).await;
        let answered = AnswerLayer.layer(LimitLayer::http(limiter).layer(Strict::new("inner", steps)));
        call_twice(answered, request).await;
        // With a key and without, kept and not.
        for (key, kept) in [(None, true), (Some(1), true), (Some(1), false)] {
            let layer = CacheLayer::new(MemoryCache::new(10), move |(): &()| key).keep(move |_| kept);
            call_twice(layer.layer(Strict::new("inner", steps)), || ()).await;
        }
        for nodes in [1, 5] {
            let cluster = strict(nodes, steps);
            call_twice(Balance::new(cluster.clone(), RoundRobin), || ()).await;
            call_twice(BalanceLayer::new(RoundRobin).layer(cluster.clone()), || ()).await;
            let queued =
                Balance::new(cluster.clone(), RoundRobin).queue(Queue::new(9, Duration::from_secs(9)));
            call_twice(queued, || ()).await;
            let http = Balance::http(cluster.clone(), RoundRobin);
            call_twice(Retry::new(http.clone(), RepeatHttp::new()), request).await;
            let sticky = sticky(&cluster);
            call_twice(sticky.layer(Retry::new(http.clone().sticky(), RepeatHttp::new())), request).await;
            call_twice(sticky.layer(Strict::new("inner", steps)), request).await;
            call_twice(RetryLayer::new(RepeatHttp::new()).layer(http.clone()), request).await;
            call_twice(everything(Retry::new(http, RepeatHttp::new())), request).await;
            call_twice(Proxy::new(Strict::new("inner", steps)), request).await;
            let routes = Routes::new([(Rule::prefix("/"), Strict::new("inner", steps))]).unwrap();
            call_twice(Route::new(routes), request).await;
        }
    }
}

#[tokio::test]
async fn buffered_and_limited_nodes_work() {
    let echo = service_fn(|request: u32| async move { Ok::<_, BoxError>(request) });
    let limited = |name: &str| (Node::new(name), ConcurrencyLimit::new(Buffer::new(echo, 4), 2));
    let cluster = Cluster::new(["a", "b", "c"].map(limited)).unwrap();
    let retry = Retry::new(Balance::new(cluster, LeastRequest::new()), Cloned::new(|_: &u32| true));
    // More at once than all nodes together let in.
    let calls = (0..200).map(|request| tokio::spawn(retry.clone().oneshot(request)));
    for (call, request) in calls.collect::<Vec<_>>().into_iter().zip(0..) {
        assert_eq!(call.await.unwrap().unwrap(), request);
    }
}

#[tokio::test]
async fn a_permit_is_not_kept_by_a_node_that_was_passed_over() {
    let forever = service_fn(|(): ()| std::future::pending::<Result<(), BoxError>>());
    let nodes: Vec<_> = (0..4).map(|_| ConcurrencyLimit::new(forever, 1)).collect();
    let named = nodes.iter().enumerate().map(|(index, node)| (Node::new(index.to_string()), node.clone()));
    let mut balance = Balance::new(Cluster::new(named).unwrap(), RoundRobin);
    let mut calls: Vec<_> = (0..10).map(|_| task::spawn(balance.call(()))).collect();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    drop(calls);
    for mut node in nodes {
        assert!(task::spawn(node.ready()).poll().is_ready(), "a permit is lost");
    }
}

/// A node whose readiness is set from outside.
#[derive(Clone, Default)]
struct Gated {
    open: Arc<AtomicUsize>,
    wakers: Arc<Mutex<Vec<Waker>>>,
    calls: Arc<AtomicU32>,
}

/// What a gated node says when it is polled.
const SHUT: usize = 0;
const OPEN: usize = 1;
const BROKEN: usize = 2;

impl Gated {
    fn set(&self, to: usize) {
        self.open.store(to, SeqCst);
        self.wakers.lock().unwrap().drain(..).for_each(Waker::wake);
    }
}

impl Service<u32> for Gated {
    type Response = u32;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<u32>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.open.load(SeqCst) {
            SHUT => {
                self.wakers.lock().unwrap().push(cx.waker().clone());
                Poll::Pending
            }
            BROKEN => Poll::Ready(Err(io::Error::other("broken"))),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: u32) -> Self::Future {
        self.calls.fetch_add(1, SeqCst);
        std::future::ready(Ok(request))
    }
}

fn gated(nodes: usize) -> (Vec<Gated>, Cluster<Gated>) {
    let gates: Vec<_> = (0..nodes).map(|_| Gated::default()).collect();
    let named = gates.iter().enumerate().map(|(index, gate)| (Node::new(index.to_string()), gate.clone()));
    let cluster = Cluster::new(named).unwrap();
    (gates, cluster)
}

fn called(gates: &[Gated]) -> Vec<u32> {
    gates.iter().map(|gate| gate.calls.load(SeqCst)).collect()
}

#[tokio::test]
async fn the_caller_is_woken_when_its_node_becomes_ready() {
    let (gates, cluster) = gated(1);
    let mut balance = Balance::new(cluster, RoundRobin);
    // First asked in `call`, with a waker that does nothing.
    let mut call = task::spawn(balance.call(7));
    assert_pending!(call.poll());
    gates[0].set(OPEN);
    assert!(call.is_woken());
    assert_eq!(assert_ready!(call.poll()).unwrap(), 7);
}

#[tokio::test]
async fn the_first_node_to_be_ready_gets_the_request() {
    for first in 0..3 {
        let (gates, cluster) = gated(3);
        let mut balance = Balance::new(cluster.clone(), RoundRobin);
        let mut call = task::spawn(balance.call(7));
        assert_pending!(call.poll());
        gates[first].set(OPEN);
        assert!(call.is_woken());
        assert_ready!(call.poll()).unwrap();
        let mut expected = [0; 3];
        expected[first] = 1;
        assert_eq!(called(&gates), expected);
        assert!(cluster.load().iter().all(|member| member.state.in_flight() == 0));
    }
}

#[tokio::test]
async fn a_node_that_is_not_ready_is_passed_over() {
    let (gates, cluster) = gated(3);
    gates[1].set(OPEN);
    let mut balance = Balance::new(cluster.clone(), RoundRobin);
    for request in 0..9 {
        assert_eq!(assert_ready!(task::spawn(balance.call(request)).poll()).unwrap(), request);
    }
    assert_eq!(called(&gates), [0, 9, 0]);
    // Nobody cancelled anything: the other nodes have seen nothing of it.
    let counts = |member: &Member| (member.state.requests(), member.state.cancelled());
    assert_eq!(cluster.load().iter().map(counts).collect::<Vec<_>>(), [(0, 0), (9, 0), (0, 0)]);
}

#[tokio::test]
async fn a_node_that_cannot_become_ready_is_passed_over() {
    let (gates, cluster) = gated(3);
    gates[0].set(BROKEN);
    gates[1].set(BROKEN);
    gates[2].set(OPEN);
    let mut balance = Balance::new(cluster.clone(), RoundRobin);
    for request in 0..9 {
        assert_eq!(balance.call(request).await.unwrap(), request);
    }
    gates[2].set(BROKEN);
    let error = balance.call(9).await.unwrap_err();
    assert!(matches!(error, Error::Node { .. }), "{error}");
    assert_eq!(called(&gates), [0, 0, 9]);
    assert!(cluster.load().iter().all(|member| member.state.in_flight() == 0));
    // What cannot become ready now may later: the balancer has not given up on it.
    gates[0].set(OPEN);
    assert_eq!(balance.call(10).await.unwrap(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_fails_to_become_ready_is_put_out_and_comes_back() {
    let (gates, cluster) = gated(3);
    let ejections = OutlierDetection::new().watch(&cluster).unwrap();
    let mut balance = Balance::new(cluster.clone(), RoundRobin);
    gates[0].set(BROKEN);
    gates[1].set(OPEN);
    gates[2].set(OPEN);
    for request in 0..60 {
        assert_eq!(balance.call(request).await.unwrap(), request);
    }
    let state = &cluster.get("0").unwrap().member.state;
    assert!(state.is_ejected());
    assert_eq!((state.failures(), ejections.list().len()), (5, 1));
    gates[0].set(OPEN);
    tokio::time::advance(Duration::from_secs(6)).await;
    for request in 0..60 {
        assert_eq!(balance.call(request).await.unwrap(), request);
    }
    assert!(!state.is_ejected() && called(&gates)[0] >= 10, "{:?}", called(&gates));
}

/// A node that takes five waits to become ready.
struct Slow {
    waits: u32,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Slow {
    fn new(waits: u32) -> Self {
        Self { waits, sleep: None }
    }
}

impl Clone for Slow {
    fn clone(&self) -> Self {
        Self::new(self.waits)
    }
}

impl Service<u32> for Slow {
    type Response = u32;
    type Error = Infallible;
    type Future = std::future::Ready<Result<u32, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        while self.waits > 0 {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(Duration::from_secs(2))));
            std::task::ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
            self.waits -= 1;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        std::future::ready(Ok(request))
    }
}

/// No other request drives it, nor does anything else happen meanwhile.
#[tokio::test(start_paused = true)]
async fn a_node_becomes_ready_step_by_step_with_no_other_traffic() {
    for nodes in [1, 3] {
        let named = (0..nodes).map(|index: u32| (Node::new(index.to_string()), Slow::new(5)));
        let mut balance = Balance::new(Cluster::new(named).unwrap(), RoundRobin);
        let start = Instant::now();
        assert_eq!(balance.call(7).await.unwrap(), 7);
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}

#[tokio::test]
async fn a_node_that_breaks_while_it_is_waited_for_is_passed_over() {
    let (gates, cluster) = gated(2);
    let mut balance = Balance::new(cluster, RoundRobin);
    let mut call = task::spawn(balance.call(7));
    assert_pending!(call.poll());
    gates[0].set(BROKEN);
    assert_pending!(call.poll());
    gates[1].set(OPEN);
    assert!(call.is_woken());
    assert_eq!(assert_ready!(call.poll()).unwrap(), 7);
}

#[tokio::test]
async fn a_full_node_is_waited_for_although_another_is_broken() {
    let (gates, cluster) = gated(2);
    gates[0].set(BROKEN);
    gates[1].set(OPEN);
    cluster.set_max_in_flight("1", 1).unwrap();
    let room = LoadGuard::start(&cluster.get("1").unwrap().member).unwrap();
    let mut balance = Balance::new(cluster, RoundRobin).queue(Queue::new(9, Duration::from_secs(9)));
    let mut call = task::spawn(balance.call(7));
    assert_pending!(call.poll());
    drop(room);
    assert!(call.is_woken());
    assert_eq!(assert_ready!(call.poll()).unwrap(), 7);
    assert_eq!(called(&gates), [0, 1]);
}

#[tokio::test]
async fn the_proxy_answers_for_an_inner_service_that_fails() {
    let (gates, _) = gated(1);
    gates[0].set(BROKEN);
    let inner = gates[0]
        .clone()
        .map_request(|_: Request<Full<Bytes>>| 7)
        .map_response(|_| Response::new(Full::<Bytes>::default()));
    let inner = inner.map_err(BoxError::from);
    let response = Proxy::new(inner).oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);

    let empty = Balance::http(Cluster::<Strict>::new([]).unwrap(), RoundRobin);
    let response = Proxy::new(empty.clone()).oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(empty.oneshot(request()).await.unwrap_err().status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn other_layers_fit_around_and_below() {
    let stuck = service_fn(|(): ()| std::future::pending::<Result<(), io::Error>>());
    let node = TimeoutLayer::new(Duration::from_secs(1)).layer(stuck).map_err(io::Error::other);
    let cluster = Cluster::new([(Node::new("a"), node)]).unwrap();
    let balance = tower::ServiceBuilder::new()
        .timeout(Duration::from_secs(3))
        .layer(RetryLayer::new(Cloned::new(|(): &()| true)))
        .layer(BalanceLayer::new(LeastRequest::new()))
        .service(cluster.clone());
    let error = balance.oneshot(()).await.unwrap_err();
    let error = error.downcast::<Error<io::Error>>().unwrap().into_node_error().unwrap();
    assert!(error.get_ref().unwrap().is::<tower::timeout::error::Elapsed>());
    assert_eq!(cluster.get("a").unwrap().member.state.failures(), 1);
}
