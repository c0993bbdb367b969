//! The balancer over the services that people have: functions, axum routers, hyper's client, tonic's channels.

#![cfg(feature = "proxy")]

use std::{collections::BTreeMap, convert::Infallible, io, net::SocketAddr, time::Duration};

use axum::{Router, body::Body, routing::get};
use buttress::{
    balance::{
        Balance, Error, LeastRequest, LeastResponseTime, Retry, RoundRobin,
        http::{ClassifyHttp, RepeatHttp},
    },
    cluster::{Cluster, FailureKind, Node, Verdict},
    forward::ReplayBody,
};
use bytes::{Buf, BufMut, Bytes};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, Uri, service::service_fn as hyper_fn};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;
use tonic::{
    Code, Status,
    client::{Grpc, GrpcService},
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tower::{Service, ServiceExt, service_fn};

#[tokio::test]
async fn functions() {
    let node = |name: &'static str| {
        (Node::new(name), service_fn(move |request: u32| async move { Ok::<_, io::Error>((name, request)) }))
    };
    let cluster = Cluster::new(["a", "b", "c"].map(node)).unwrap();
    let mut balance = Balance::new(cluster.clone(), RoundRobin);
    for request in 0..30 {
        assert_eq!(balance.ready().await.unwrap().call(request).await.unwrap().1, request);
    }
    assert!(cluster.load().iter().all(|member| member.state.requests() == 10));
}

#[tokio::test]
async fn axum_routers() {
    let node =
        |name: &'static str| (Node::new(name), Router::new().route("/", get(move || async move { name })));
    let cluster = Cluster::new(["a", "b"].map(node)).unwrap();
    let balance = Balance::http(cluster.clone(), RoundRobin);
    let unavailable =
        |error: Error<Infallible>| async move { (StatusCode::SERVICE_UNAVAILABLE, error.to_string()) };
    let app = Router::new().fallback_service(axum::error_handling::HandleError::new(balance, unavailable));
    let ask = |path: &str| app.clone().oneshot(Request::get(path).body(Body::empty()).unwrap());

    let response = ask("/").await.unwrap();
    let in_flight = || cluster.load().iter().map(|member| member.state.in_flight()).sum::<u32>();
    assert_eq!(in_flight(), 1, "until the body is read");
    let first = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(in_flight(), 0);
    let second = ask("/").await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert!(first != second && [first, second].iter().all(|name| name == "a" || name == "b"));
    assert_eq!(ask("/nowhere").await.unwrap().status(), StatusCode::NOT_FOUND);

    cluster.remove("a");
    cluster.remove("b");
    assert_eq!(ask("/").await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
}

/// An address that refuses connections.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn hypers_pooled_client() {
    let mut nodes = vec![("dead", nobody().await)];
    for name in ["a", "b"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        nodes.push((name, listener.local_addr().unwrap()));
        let echo = |request: Request<hyper::body::Incoming>| async {
            Ok::<_, hyper::Error>(Response::new(Full::new(request.into_body().collect().await?.to_bytes())))
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), hyper_fn(echo)));
            }
        });
    }
    let client = Client::builder(TokioExecutor::new()).build_http::<ReplayBody<Full<Bytes>>>();
    let nodes = nodes.into_iter().map(|(name, addr)| {
        let to_node = move |mut request: Request<_>| {
            let path = request.uri().path();
            *request.uri_mut() = format!("http://{addr}{path}").parse::<Uri>().unwrap();
            request
        };
        (Node::new(name), client.clone().map_request(to_node))
    });
    let cluster = Cluster::new(nodes).unwrap();
    let retry = Retry::new(Balance::http(cluster.clone(), LeastResponseTime::new()), RepeatHttp::new());
    for number in 0..60 {
        // A refused connection is safe to retry for any method.
        let method = [Method::POST, Method::GET, Method::PUT][number % 3].clone();
        let body = Bytes::from(format!("body {number}"));
        let request = Request::builder().method(method).uri("/").body(Full::new(body.clone())).unwrap();
        let response = retry.clone().oneshot(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    }
    let dead = &cluster.get("dead").unwrap().member.state;
    assert!((1..10).contains(&dead.failures()), "{dead:?}");
    assert!(cluster.load().iter().all(|member| member.state.in_flight() == 0));
}

/// A gRPC server with one method. It answers with its name, or fails with `code`.
async fn greeter(name: &'static str, code: Code) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let hello = move |request: tonic::Request<String>| async move {
        match code {
            Code::Ok => Ok(tonic::Response::new(format!("{name} {}", request.into_inner()))),
            code => Err(Status::new(code, "as it was told")),
        }
    };
    let service = service_fn(move |request: Request<Body>| async move {
        Ok::<_, Infallible>(tonic::server::Grpc::new(Text).unary(service_fn(hello), request).await)
    });
    let routes = tonic::service::Routes::from(Router::new().fallback_service(service));
    tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(TcpIncoming::from(listener)));
    addr
}

fn channel(addr: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
    endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy()
}

async fn hello<T>(service: &T) -> Result<String, Status>
where
    T: GrpcService<tonic::body::Body> + Clone,
    T::ResponseBody: hyper::body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as hyper::body::Body>::Error: Into<tower::BoxError> + Send,
{
    let mut client = Grpc::new(service.clone());
    client.ready().await.map_err(|error| Status::unknown(error.into().to_string()))?;
    let path = "/greeter.Greeter/Hello".parse().unwrap();
    client.unary(tonic::Request::new("hello".to_owned()), path, Text).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn tonics_channels() {
    let cluster = Cluster::new([
        (Node::new("a"), channel(greeter("a", Code::Ok).await)),
        (Node::new("b"), channel(greeter("b", Code::Ok).await)),
    ])
    .unwrap();
    let balance = Balance::http(cluster.clone(), RoundRobin);
    let mut served = BTreeMap::new();
    for _ in 0..20 {
        *served.entry(hello(&balance).await.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(served, BTreeMap::from([("a hello".into(), 10), ("b hello".into(), 10)]));

    // What a method says in its trailers comes through.
    cluster.insert(Node::new("a"), channel(greeter("a", Code::AlreadyExists).await)).unwrap();
    cluster.remove("b");
    assert_eq!(hello(&balance).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(cluster.get("a").unwrap().member.state.failures(), 0);

    // A server that is not there is the node's failure.
    cluster.insert(Node::new("a"), channel(nobody().await)).unwrap();
    hello(&balance).await.unwrap_err();
    assert_eq!(cluster.get("a").unwrap().member.state.failures(), 1);
    assert!(cluster.load().iter().all(|member| member.state.in_flight() == 0));
}

#[tokio::test]
async fn a_grpc_server_that_fails_fast_is_found_out_by_a_verdict_of_ones_own() {
    let cluster = Cluster::new([
        (Node::new("good"), channel(greeter("good", Code::Ok).await)),
        (Node::new("bad"), channel(greeter("bad", Code::Unavailable).await)),
    ])
    .unwrap();
    // Over HTTP all is well: the failure is in a header, where the answer has nothing else.
    let judge = |answer: Result<&Response<tonic::body::Body>, &tonic::transport::Error>| {
        let failed = answer.is_ok_and(|response| {
            Status::from_header_map(response.headers())
                .is_some_and(|status| status.code() == Code::Unavailable)
        });
        let otherwise = || buttress::balance::Classify::classify(&ClassifyHttp, answer);
        if failed { Verdict::Failure(FailureKind::Overloaded) } else { otherwise() }
    };
    let balance = Balance::http(cluster.clone(), LeastRequest::new()).classify(judge);
    let mut failed = 0;
    for _ in 0..200 {
        failed += usize::from(hello(&balance).await.is_err());
    }
    assert!((1..=10).contains(&failed), "{failed} of 200 failed");
    assert_eq!(cluster.get("bad").unwrap().member.state.failures(), failed as u64);
}

/// Messages of plain text.
#[derive(Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        String::from_utf8(bytes.into()).map(Some).map_err(|_| Status::invalid_argument("not text"))
    }
}
