//! Two clusters behind one proxy, on real sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use buttress::balance::http::{ClassifyHttp, OnBody};
use buttress::balance::{Balance, NoKey, RoundRobin};
use buttress::cluster::{Cluster, Node};
use buttress::forward::{Proxy, Upstream};
use buttress::route::{Route, Routes, Rule};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::sync::Notify;

use super::support::{Raw, proxy, serve, soon, upstream};

type Clusters = Balance<Upstream, NoKey, ClassifyHttp, OnBody>;

/// A server that says its name and the target it was asked for.
async fn server(name: &'static str) -> SocketAddr {
    serve(move |request: Request<Incoming>| async move {
        Response::new(Full::from(format!("{name} {}", request.uri())))
    })
    .await
}

async fn cluster(names: [&'static str; 2]) -> Clusters {
    let mut nodes = Vec::new();
    for name in names {
        nodes.push((Node::new(name), upstream(server(name).await)));
    }
    Balance::http(Cluster::new(nodes).unwrap(), RoundRobin)
}

/// The status line and the body of the answer to a request that is written by hand.
async fn ask(addr: SocketAddr, host: &str, target: &str) -> String {
    let mut raw = Raw::connect(addr).await;
    raw.send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
    let answer = soon(raw.rest()).await;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    format!("{status} {}", body.trim_end())
}

#[tokio::test]
async fn each_request_reaches_its_cluster() {
    let (web, api) = (cluster(["web-1", "web-2"]).await, cluster(["api-1", "api-2"]).await);
    let route = Route::new(
        Routes::new([
            (Rule::prefix("/").host("example.com").host("*.example.com"), web.clone()),
            (Rule::prefix("/api").host("example.com").rewrite("/"), api.clone()),
        ])
        .unwrap(),
    );
    let addr = proxy(Proxy::new(route.clone())).await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        answers.push(ask(addr, "example.com", "/api/users?page=2").await);
        answers.push(ask(addr, "WWW.example.com:8080", "/api").await);
    }
    answers.sort();
    assert_eq!(
        answers,
        ["200 api-1 /users?page=2", "200 api-2 /users?page=2", "200 web-1 /api", "200 web-2 /api"]
    );

    assert_eq!(ask(addr, "example.org", "/").await, "404 404 Not Found");
    for target in
        ["//api", "/x/../api/users", "/x/%2e%2e/api", "/api%2fusers", "/api;x=1/users", "/api\\users", "/%00"]
    {
        assert_eq!(ask(addr, "example.com", target).await, "400 400 Bad Request", "{target}");
    }
    assert!(ask(addr, "example.com", "/%61pi/x").await.starts_with("200 api-"));
    // The target overrides the header.
    assert!(ask(addr, "example.org", "http://example.com/api/x").await.starts_with("200 api-"));
}

#[tokio::test]
async fn a_request_in_flight_outlives_its_table() {
    let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = serve({
        let (arrived, go_on) = (Arc::clone(&arrived), Arc::clone(&go_on));
        move |_| {
            let (arrived, go_on) = (Arc::clone(&arrived), Arc::clone(&go_on));
            async move {
                arrived.notify_one();
                go_on.notified().await;
                Response::new(Full::from("slow"))
            }
        }
    })
    .await;
    let route = Route::new(Routes::new([(Rule::prefix("/"), upstream(slow))]).unwrap());
    let addr = proxy(Proxy::new(route.clone())).await;
    let in_flight = tokio::spawn(async move { ask(addr, "a", "/").await });
    soon(arrived.notified()).await;
    route.replace(Routes::new([(Rule::path("/"), upstream(server("new").await))]).unwrap());
    assert_eq!(ask(addr, "a", "/").await, "200 new /");
    assert_eq!(ask(addr, "a", "/old").await, "404 404 Not Found");
    go_on.notify_one();
    assert_eq!(soon(in_flight).await.unwrap(), "200 slow");
}
