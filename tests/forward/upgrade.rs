//! Upgraded connections.

use std::sync::Arc;
use std::time::Duration;

use buttress::forward::{Proxy, UpgradeLease, UpstreamBody};
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::io::AsyncWriteExt;
use tower::Layer;
use tower::util::MapResponseLayer;

use crate::support::{Raw, empty, http2, proxy, proxy_to, serve, serve_raw, soon, upstream};

const ASK: &str =
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade, x-hop\r\nUpgrade: websocket\r\n\
                      X-Hop: 1\r\nSec-WebSocket-Accept: abc\r\n\r\n";

#[tokio::test]
async fn an_upgrade_joins_the_two_ends() {
    let server = serve_raw(|mut connection| async move {
        let head = connection.head().await;
        assert!(
            head.contains("\r\nconnection: upgrade\r\n") && head.contains("\r\nupgrade: websocket\r\n"),
            "{head}"
        );
        connection.send(format!("{SWITCH}hello ")).await;
        let word = connection.until("\n").await.unwrap();
        connection.send(format!("you said {word}")).await;
        assert_eq!(connection.rest().await, "bye");
        connection.send("closed").await;
    })
    .await;
    let mut client = Raw::connect(proxy_to(server).await).await;
    client.send(ASK).await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 101") && head.contains("sec-websocket-accept: abc"), "{head}");
    assert!(head.contains("\r\nconnection: upgrade\r\n") && !head.contains("x-hop"), "{head}");
    client.send("word\n").await;
    assert_eq!(client.until("word\n").await.unwrap(), "hello you said word\n");
    // Half closed: the other direction goes on.
    client.send("bye").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "closed");
}

#[tokio::test]
async fn nothing_after_an_upgrade_request_is_passed_on_before_the_101() {
    let (sender, mut answered) = tokio::sync::mpsc::unbounded_channel::<()>();
    let server = serve_raw(move |mut connection| {
        let sender = sender.clone();
        async move {
            connection.head().await;
            // A round trip through the proxy's own runtime is time enough for a byte that should not come.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(connection.pending(), "");
            connection.send(SWITCH).await;
            assert_eq!(connection.until("early").await.unwrap(), "early");
            sender.send(()).unwrap();
        }
    })
    .await;
    let mut client = Raw::connect(proxy_to(server).await).await;
    client.send(format!("{ASK}early")).await;
    client.head().await;
    soon(answered.recv()).await.unwrap();
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let server = serve(|request: Request<Incoming>| async move {
        Response::builder().status(if request.uri() == "/chat" { 403 } else { 200 }).body(empty()).unwrap()
    })
    .await;
    let mut client = Raw::connect(proxy_to(server).await).await;
    client.send(format!("{ASK}GET /next HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    assert!(client.head().await.starts_with("http/1.1 403"));
    assert!(client.head().await.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn an_upgrade_to_another_http_is_not_passed_on() {
    let server = serve(|request: Request<Incoming>| async move {
        assert!(
            !request.headers().contains_key("upgrade") && !request.headers().contains_key("http2-settings")
        );
        Response::new(empty())
    })
    .await;
    let mut client = Raw::connect(proxy_to(server).await).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n")
        .await;
    assert!(client.head().await.starts_with("http/1.1 200"));
}

#[tokio::test]
async fn a_lease_is_held_until_the_tunnel_closes() {
    let guard = Arc::new(());
    let server = serve_raw(|mut connection| async move {
        connection.head().await;
        connection.send(SWITCH).await;
        connection.rest().await;
    })
    .await;
    let held = Arc::clone(&guard);
    let leased = MapResponseLayer::new(move |mut response: Response<UpstreamBody>| {
        response.extensions_mut().insert(UpgradeLease::new(Arc::clone(&held)));
        response
    });
    let before = || Arc::strong_count(&guard);
    let mut client = Raw::connect(proxy(Proxy::new(leased.layer(upstream(server)))).await).await;
    let idle = before();
    client.send(ASK).await;
    client.head().await;
    assert_eq!(before(), idle + 1);
    drop(client);
    soon(async {
        while before() > idle {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_that_nobody_uses_is_closed() {
    let server = serve_raw(|mut connection| async move {
        connection.head().await;
        connection.send(SWITCH).await;
        assert_eq!(connection.rest().await, "");
    })
    .await;
    let impatient = Proxy::new(upstream(server)).upgrade_idle_timeout(Duration::from_millis(50));
    let mut client = Raw::connect(proxy(impatient).await).await;
    client.send(ASK).await;
    client.head().await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn http2_clients_get_no_upgrade() {
    let server = serve(|request: Request<Incoming>| async move {
        assert!(!request.headers().contains_key("upgrade"));
        Response::new(empty())
    })
    .await;
    let mut client = http2(proxy_to(server).await).await;
    let request = Request::get("http://a/").body(empty()).unwrap();
    assert_eq!(soon(client.send_request(request)).await.unwrap().status(), 200);
}
