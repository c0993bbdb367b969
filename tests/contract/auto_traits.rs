//! What can be cloned, sent and shared.

use buttress::{
    balance::{
        Backoff, Balance, BalanceLayer, Budget, Cloned, Hedge, Queue, Retry, RetryLayer,
        http::{ClassifyHttp, OnBody, RepeatHttp, Reported, Steered, TrackedBody},
    },
    cache::{
        CacheLayer, Cached, MemoryCache,
        flight::SingleFlight,
        load::ReadThrough,
        write::{WriteBehind, WriteThrough},
    },
    cluster::{Change, Cluster, LoadGuard, Node, NodeState, Version},
    forward::{
        Proxy, ReplayBody, Upstream, UpstreamError,
        tcp::{Connect, TcpProxy, TcpUpstream},
    },
    health::{HttpCheck, Monitor, MonitorBuilder},
    overload::{
        self, Admission, Limit, LimitLayer, Limiter, Permit,
        http::{Answer, FromExtensions},
    },
    route::{Matched, Route, Routes, Rule, RulesError},
    sticky::{CookieKeys, Pins, Sticky, StickyCookie, StickyLayer},
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, body::Incoming};
use tokio::net::TcpStream;
use tower::Service;

type Direct = Balance<Upstream, buttress::balance::NoKey, ClassifyHttp, OnBody>;
type Again = Retry<Direct, RepeatHttp>;
type Limited<S> = Limit<S, FromExtensions, ClassifyHttp, OnBody>;
type Remembered<S> = Cached<S, String, u32, fn(&u8) -> Option<String>>;
type Number = tower::util::BoxCloneSyncService<u8, u32, std::io::Error>;
type Pinned = Sticky<
    Retry<Balance<Upstream, Steered<buttress::balance::NoKey>, ClassifyHttp, Reported<OnBody>>, RepeatHttp>,
>;

/// Something that loads.
#[derive(Clone, Copy)]
struct Reader;

impl buttress::cache::load::Load<String, u32> for Reader {
    type Error = std::io::Error;

    async fn load(&self, _: String) -> std::io::Result<Option<u32>> {
        Ok(None)
    }
}

fn shared<T: Clone + Send + Sync + 'static>() {}
fn sent<T: Send + Sync + 'static>() {}
fn debug<T: std::fmt::Debug>() {}

fn service<S, Req>()
where
    S: Service<Req> + Clone + Send + Sync + std::fmt::Debug + 'static,
    S::Future: Send + std::fmt::Debug + 'static,
    S::Response: Send,
    S::Error: Send + Sync + 'static,
{
}

#[test]
fn services_are_cheap_handles_and_their_futures_can_be_spawned() {
    service::<Upstream, Request<Incoming>>();
    service::<Upstream, Request<Full<Bytes>>>();
    service::<Direct, Request<Incoming>>();
    service::<Again, Request<Incoming>>();
    service::<Proxy<Upstream>, Request<Incoming>>();
    service::<Proxy<Direct>, Request<Incoming>>();
    service::<Proxy<Again>, Request<Incoming>>();
    service::<Limited<Upstream>, Request<Incoming>>();
    service::<Proxy<Limited<Upstream>>, Request<Incoming>>();
    service::<Answer<Limited<Proxy<Again>>>, Request<Incoming>>();
    service::<Route<Again>, Request<Incoming>>();
    service::<Proxy<Route<Again>>, Request<Incoming>>();
    service::<TcpUpstream, Connect>();
    service::<Remembered<Number>, u8>();
    service::<TcpProxy<TcpUpstream>, TcpStream>();
    service::<Pinned, Request<Incoming>>();
    service::<Proxy<Pinned>, Request<Incoming>>();
}

#[test]
fn layers_handles_and_guards_go_anywhere() {
    shared::<BalanceLayer>();
    shared::<RetryLayer<RepeatHttp>>();
    shared::<RetryLayer<Cloned<fn(&u8) -> bool>>>();
    shared::<Cluster<Upstream>>();
    shared::<Change<Upstream>>();
    shared::<HttpCheck>();
    shared::<Monitor>();
    shared::<MonitorBuilder>();
    shared::<Node>();
    shared::<Queue>();
    shared::<Limiter>();
    shared::<LimitLayer>();
    sent::<Permit>();
    sent::<Admission<u8>>();
    sent::<overload::Error<UpstreamError>>();
    shared::<Rule>();
    shared::<Matched>();
    sent::<Routes<Upstream>>();
    sent::<RulesError>();
    sent::<buttress::route::Error<UpstreamError>>();
    shared::<MemoryCache<String, u32>>();
    shared::<SingleFlight<String, u32>>();
    shared::<CacheLayer<String, u32, fn(&u8) -> Option<String>>>();
    shared::<ReadThrough<String, u32, Reader>>();
    shared::<WriteThrough<String, u32, MemoryCache<String, u32>, ()>>();
    shared::<WriteBehind<String, u32, MemoryCache<String, u32>>>();
    debug::<ReadThrough<String, u32, Reader>>();
    shared::<Pins>();
    shared::<StickyLayer>();
    shared::<StickyCookie>();
    shared::<CookieKeys>();
    shared::<Backoff>();
    shared::<Hedge>();
    sent::<Budget>();
    sent::<LoadGuard>();
    sent::<NodeState>();
    sent::<Version<Upstream>>();
    sent::<UpstreamError>();
    sent::<buttress::balance::Error<UpstreamError>>();
    debug::<LimitLayer>();
    debug::<Permit>();
    debug::<BalanceLayer>();
    debug::<RetryLayer<RepeatHttp>>();
    debug::<Cluster<Upstream>>();
    debug::<Routes<u8>>();
    debug::<Matched>();
    debug::<TrackedBody<Incoming>>();
    debug::<ReplayBody<Incoming>>();
}

/// A service need not be `Debug`, nor hold anything that is, for a balancer over it to be.
#[test]
fn debug_asks_nothing_of_the_services() {
    #[derive(Clone)]
    struct Opaque;
    let cluster = Cluster::new([(Node::new("a"), Opaque)]).unwrap();
    let balance = Balance::new(cluster, buttress::balance::RoundRobin);
    assert!(format!("{balance:?}").contains("RoundRobin"));
    let limiter = Limiter::new(overload::Gradient::default(), overload::Queue::default());
    assert!(format!("{:?}", Limit::new(Opaque, limiter)).contains("in_flight"));
    let routes = Routes::new([(Rule::prefix("/"), Opaque)]).unwrap();
    assert!(format!("{:?}", Route::new(routes)).contains("/*"));
    assert!(format!("{:?}", Retry::new(balance, Cloned::new(|_: &u8| true))).contains("tries"));
}
