//! Checks by gRPC, against tonic's health service.

use std::net::SocketAddr;

use buttress::cluster::{Cluster, Node};
use buttress::forward::Upstream;
use buttress::health::{Answer, CheckResult, GrpcCheck, HealthCheck};
use hyper::{HeaderMap, Response};
use tokio::net::TcpListener;
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::support::{full, nobody, serve, soon};

async fn server() -> (SocketAddr, HealthReporter) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (reporter, service) = tonic_health::server::health_reporter();
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
    (addr, reporter)
}

fn over_http2(addr: SocketAddr) -> Upstream {
    Upstream::builder().http2(true).build(&format!("http://{addr}")).unwrap()
}

async fn ask(upstream: Upstream, check: &GrpcCheck) -> CheckResult {
    let cluster = Cluster::new([(Node::new("a"), upstream)]).unwrap();
    soon(check.check(cluster.get("a").unwrap())).await
}

async fn outcome(addr: SocketAddr, check: &GrpcCheck) -> Result<Answer, String> {
    ask(over_http2(addr), check).await.map_err(|unhealthy| unhealthy.to_string())
}

fn says(reason: &str) -> Result<Answer, String> {
    Err(reason.to_owned())
}

#[tokio::test]
async fn a_node_is_as_its_health_service_says() {
    let (addr, reporter) = server().await;
    assert_eq!(outcome(addr, &GrpcCheck::new()).await, Ok(Answer::Healthy));
    let check = GrpcCheck::new().service("helloworld.Greeter");
    assert_eq!(outcome(addr, &check).await, says("the server does not know the service"));
    for (status, expected) in [
        (ServingStatus::Serving, Ok(Answer::Healthy)),
        (ServingStatus::NotServing, says("the service says NOT_SERVING")),
        (ServingStatus::Unknown, says("the service says UNKNOWN")),
    ] {
        reporter.set_service_status("helloworld.Greeter", status).await;
        assert_eq!(outcome(addr, &check).await, expected);
        let upstream = over_http2(addr);
        for _ in 0..3 {
            let reused = ask(upstream.clone(), &check.clone().reuse_connections(true)).await;
            assert_eq!(reused.is_ok(), expected.is_ok());
        }
    }
}

#[tokio::test]
async fn what_has_no_health_service_is_unhealthy() {
    let refused = outcome(nobody().await, &GrpcCheck::new()).await.unwrap_err();
    assert!(refused.contains("refused"), "{refused}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let routes = tonic::service::Routes::from(
        axum::Router::new()
            .fallback(|| async { tonic::Status::unimplemented("").into_http::<axum::body::Body>() }),
    );
    tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(TcpIncoming::from(listener)));
    let unimplemented = says("the server has no health service: grpc-status 12");
    assert_eq!(outcome(addr, &GrpcCheck::new()).await, unimplemented);

    let website = serve(|_| async { Response::new(full("hello")) }).await;
    assert_eq!(outcome(website, &GrpcCheck::new()).await, says("status 200 OK, and no gRPC"));
    let over_http1 = Upstream::new(&format!("http://{website}")).unwrap();
    assert!(ask(over_http1, &GrpcCheck::new()).await.is_err());
}

#[tokio::test]
async fn hostile_answers_are_unhealthy() {
    for (body, status, expected) in [
        ("\0\0\0\0\x02\x08\x01", Some("0"), Ok(Answer::Healthy)),
        ("\0\0\0\0\x02\x08\x01", Some("13"), says("grpc-status 13")),
        ("\0\0\0\0\x02\x08\x01", Some("what?"), says("the answer has no grpc-status")),
        ("\0\0\0\0\x02\x08\x01", None, says("the answer has no grpc-status")),
        ("\0\0\0\0\x02\x08\x07", Some("0"), says("the service says 7, whatever that is")),
        ("", Some("0"), says("the answer is no HealthCheckResponse")),
        ("garbage", Some("0"), says("the answer is no HealthCheckResponse")),
        (Box::leak("x".repeat(1 << 20).into_boxed_str()), Some("0"), says("the answer is too long")),
    ] {
        let addr = serve(move |_| async move {
            let mut trailers = HeaderMap::new();
            status.map(|status| trailers.insert("grpc-status", status.parse().unwrap()));
            let body = http_body_util::BodyExt::with_trailers(full(body), async { Some(Ok(trailers)) });
            Response::builder().header("content-type", "application/grpc").body(body).unwrap()
        })
        .await;
        assert_eq!(outcome(addr, &GrpcCheck::new()).await, expected);
    }
}
