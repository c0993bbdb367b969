//! Checks that send HTTP requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use buttress::balance::{Balance, RoundRobin};
use buttress::cluster::{Cluster, Endpoint, Health, Node};
use buttress::forward::Upstream;
use buttress::health::{Answer, CheckResult, HealthCheck, HttpCheck, Monitor};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{Method, Request, Response};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tower::ServiceExt;

use crate::stage::health;
use crate::support::{Raw, empty, full, nobody, serve, serve_raw, soon, upstream};

fn check() -> HttpCheck {
    HttpCheck::new("/health").unwrap()
}

async fn ask(upstream: Upstream, check: &HttpCheck) -> CheckResult {
    let cluster = Cluster::new([(Node::new("a"), upstream)]).unwrap();
    soon(check.check(cluster.get("a").unwrap())).await
}

/// What comes of a check, with the reason as a text.
async fn outcome(addr: SocketAddr, check: &HttpCheck) -> Result<Answer, String> {
    ask(upstream(addr), check).await.map_err(|unhealthy| unhealthy.to_string())
}

/// A server that sends these bytes, whatever it is asked, and closes the connection.
async fn says(answer: &'static str) -> SocketAddr {
    serve_raw(move |mut connection: Raw| async move {
        connection.head().await;
        connection.send(answer).await;
    })
    .await
}

#[tokio::test]
async fn a_request_is_what_it_was_configured_to_be() {
    let (sender, mut heads) = mpsc::unbounded_channel();
    let server = serve_raw(move |mut connection: Raw| {
        let sender = sender.clone();
        async move {
            sender.send(connection.head().await).unwrap();
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    assert_eq!(outcome(server, &HttpCheck::new("/up?deep=1").unwrap()).await, Ok(Answer::Healthy));
    let head = heads.recv().await.unwrap();
    assert!(head.starts_with("get /up?deep=1 http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {server}\r\n")) && head.contains("user-agent: "), "{head}");

    let check = check().method(Method::HEAD).host("shop.example:81".parse().unwrap());
    let check = check.header("x-token".parse().unwrap(), "s3cret".parse().unwrap());
    let own_host = Upstream::builder().preserve_host(false).build(&format!("http://{server}/base")).unwrap();
    assert_eq!(ask(own_host, &check).await, Ok(Answer::Healthy));
    let head = heads.recv().await.unwrap();
    assert!(head.starts_with("head /base/health http/1.1\r\n"), "{head}");
    assert!(head.contains("host: shop.example:81\r\n") && head.contains("x-token: s3cret\r\n"), "{head}");
}

#[test]
fn a_path_begins_with_a_slash() {
    for path in ["", "health", "*", "http://a/health", "/a b", "/\r\n"] {
        assert!(HttpCheck::new(path).is_err(), "{path:?}");
    }
}

#[tokio::test]
async fn the_status_must_be_expected() {
    let teapot = says("HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n").await;
    let refused = Err("status 418 I'm a teapot".to_owned());
    assert_eq!(outcome(teapot, &check()).await, refused);
    assert_eq!(outcome(teapot, &check().expect_status(200..=204).expect_status(400..=417)).await, refused);
    assert_eq!(
        outcome(teapot, &check().expect_status(200..=204).expect_status(418..=418)).await,
        Ok(Answer::Healthy)
    );
    let no_content = says("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(outcome(no_content, &check()).await, Ok(Answer::Healthy));
    assert!(outcome(no_content, &check().expect_status(200..=200)).await.is_err());
}

#[tokio::test]
async fn a_node_may_say_that_it_drains() {
    let drained = check()
        .draining_status(404..=404)
        .draining_header("x-state".parse().unwrap(), "draining".parse().unwrap())
        .expect_body("ready");
    let not_found = says("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(outcome(not_found, &drained).await, Ok(Answer::Draining));
    assert_eq!(outcome(not_found, &check()).await, Err("status 404 Not Found".to_owned()));
    let header = says("HTTP/1.1 200 OK\r\nX-State: draining\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(outcome(header, &drained).await, Ok(Answer::Draining));
    let broken = says("HTTP/1.1 500 Oops\r\nX-State: draining\r\nContent-Length: 0\r\n\r\n").await;
    assert!(outcome(broken, &drained).await.is_err(), "one that drains still works");
    let other = says("HTTP/1.1 200 OK\r\nX-State: fine\r\nContent-Length: 5\r\n\r\nready").await;
    assert_eq!(outcome(other, &drained).await, Ok(Answer::Healthy));
}

#[tokio::test]
async fn the_body_must_hold_the_text() {
    let ready = says("HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nall is ready!!").await;
    assert_eq!(outcome(ready, &check().expect_body("ready")).await, Ok(Answer::Healthy));
    assert_eq!(outcome(ready, &check().expect_body("ready").body_limit(12)).await, Ok(Answer::Healthy));
    let lacks = Err("the body lacks the expected text".to_owned());
    assert_eq!(outcome(ready, &check().expect_body("ready").body_limit(11)).await, lacks);
    assert_eq!(outcome(ready, &check().expect_body("steady")).await, lacks);
    assert_eq!(outcome(ready, &check().expect_body("")).await, Ok(Answer::Healthy));
    for reuse in [false, true] {
        let chunked = says(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nre\r\n1\r\na\r\n2\r\ndy\r\n0\r\n\r\n",
        );
        let check = check().expect_body("ready").reuse_connections(reuse);
        assert_eq!(outcome(chunked.await, &check).await, Ok(Answer::Healthy), "over chunks");
    }
    let cut = says("HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nall is").await;
    assert!(outcome(cut, &check().expect_body("ready")).await.is_err());
}

#[tokio::test]
async fn of_a_huge_body_only_the_beginning_is_read() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let endless = serve(move |_| {
        let count = Arc::clone(&count);
        let chunks = tokio_stream::iter(std::iter::repeat(Bytes::from_static(&[b'x'; 1024])));
        let frames = chunks.map(move |chunk| {
            count.fetch_add(chunk.len(), SeqCst);
            Ok::<_, Infallible>(Frame::data(chunk))
        });
        async move { Response::new(StreamBody::new(frames)) }
    })
    .await;
    for check in [check().expect_body("ready"), check().expect_body("ready").reuse_connections(true)] {
        assert!(outcome(endless, &check).await.is_err());
    }
    assert_eq!(outcome(endless, &check().reuse_connections(true)).await, Ok(Answer::Healthy));
    assert_eq!(
        outcome(endless, &check().expect_body("xxx")).await,
        Ok(Answer::Healthy),
        "without reading on"
    );
}

#[tokio::test]
async fn what_does_not_answer_is_unhealthy_with_a_reason() {
    let reason = |outcome: Result<_, String>| outcome.expect_err("it does not answer");
    let refused = reason(outcome(nobody().await, &check()).await);
    assert!(
        refused.starts_with("cannot connect to the server: ") && refused.contains("refused"),
        "{refused}"
    );
    let closes = says("").await;
    assert!(reason(outcome(closes, &check()).await).starts_with("the connection to the server broke"));
    let babbles = says("SSH-2.0-OpenSSH\r\n\r\n").await;
    assert!(reason(outcome(babbles, &check()).await).starts_with("the server's answer is not HTTP"));
}

#[tokio::test]
async fn checks_use_new_connections_or_those_of_the_traffic() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let server = serve_raw(move |mut connection: Raw| {
        count.fetch_add(1, SeqCst);
        async move {
            while connection.until("\r\n\r\n").await.is_ok() {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let upstream = upstream(server);
    let request = || Request::new(empty());
    let answer = soon(upstream.clone().oneshot(request())).await.unwrap();
    answer.into_body().collect().await.unwrap();
    for _ in 0..5 {
        assert_eq!(ask(upstream.clone(), &check().reuse_connections(true)).await, Ok(Answer::Healthy));
    }
    assert_eq!(connections.load(SeqCst), 1);
    for _ in 0..5 {
        assert_eq!(ask(upstream.clone(), &check()).await, Ok(Answer::Healthy));
    }
    assert_eq!(connections.load(SeqCst), 6);
    let answer = soon(upstream.oneshot(request())).await.unwrap();
    answer.into_body().collect().await.unwrap();
    assert_eq!(connections.load(SeqCst), 6, "the traffic keeps its own");
}

#[tokio::test]
async fn http2_nodes_are_checked_over_http2() {
    let server = serve(|request: Request<_>| async move {
        assert_eq!(request.version(), hyper::Version::HTTP_2);
        Response::new(full(if request.uri().authority().unwrap() == "shop.example" {
            "ready"
        } else {
            "who?"
        }))
    })
    .await;
    let upstream = Upstream::builder().http2(true).build(&format!("http://{server}")).unwrap();
    for reuse in [false, true] {
        let check = check().expect_body("ready").reuse_connections(reuse);
        assert!(ask(upstream.clone(), &check).await.is_err());
        let check = check.host("shop.example".parse().unwrap());
        assert_eq!(ask(upstream.clone(), &check).await, Ok(Answer::Healthy));
    }
}

#[tokio::test]
async fn services_that_wrap_an_upstream_can_be_checked() {
    struct Wrapped(Upstream);
    impl AsRef<Upstream> for Wrapped {
        fn as_ref(&self) -> &Upstream {
            &self.0
        }
    }
    let server = says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let cluster = Cluster::new([(Node::new("a"), Wrapped(upstream(server)))]).unwrap();
    let endpoint: Arc<Endpoint<Wrapped>> = cluster.get("a").unwrap();
    assert_eq!(soon(check().check(endpoint)).await, Ok(Answer::Healthy));
}

#[tokio::test]
async fn traffic_follows_what_the_nodes_answer() {
    let good = serve(|_| async { Response::new(full("good")) }).await;
    let hangs = serve_raw(|mut connection: Raw| async move {
        connection.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let nodes = [("good", good), ("hangs", hangs), ("refuses", nobody().await)];
    let cluster = Cluster::new(nodes.map(|(name, addr)| (Node::new(name), upstream(addr)))).unwrap();
    let builder = Monitor::builder().interval(Duration::from_millis(300)).timeout(Duration::from_millis(200));
    let monitor = builder.start(&cluster, check()).unwrap();
    soon(async {
        while health(&cluster, "hangs") != Health::Down || health(&cluster, "refuses") != Health::Down {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(monitor.report()[1].last.clone().unwrap().unwrap_err().reason(), "no answer within 200ms");
    // The loaded machine that this may run on must not let the good one seem slow.
    cluster.set_health("good", Health::Up).unwrap();
    drop(monitor);
    let balance = Balance::http(cluster, RoundRobin).levels(buttress::balance::Levels::default().panic(0));
    for _ in 0..10 {
        let answer = soon(balance.clone().oneshot(Request::new(empty()))).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "good");
    }
}
