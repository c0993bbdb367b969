//! What passes through it.

use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming};
use tokio::io::AsyncWriteExt;

use crate::{
    process::{Gateway, send, text},
    support::{Raw, channel, data, empty, full, http2, serve, serve_raw, soon},
};

#[tokio::test]
async fn what_a_stranger_says_of_itself_is_dropped() {
    let server = serve(|request: Request<Incoming>| async move {
        let heads: Vec<_> =
            request.headers().iter().map(|(name, value)| format!("{name}: {value:?}\n")).collect();
        Response::new(http_body_util::Full::<bytes::Bytes>::from(heads.concat()))
    })
    .await;
    let gateway = Gateway::before(&[server]).await;
    let request = Request::get("/")
        .header("host", "site.example")
        .header("x-forwarded-for", "6.6.6.6")
        .header("forwarded", "for=6.6.6.6")
        .header("x-real-ip", "6.6.6.6")
        .header("connection", "x-private")
        .header("x-private", "1")
        .body(empty())
        .unwrap();
    let seen = text(send(gateway.addr, request).await).await;
    assert!(!seen.contains("6.6.6.6") && !seen.contains("x-private"), "{seen}");
    assert!(seen.contains("x-forwarded-for: \"127.0.0.1\""), "{seen}");
    assert!(seen.contains("host: \"site.example\""), "{seen}");
}

#[tokio::test]
async fn an_upgraded_connection_is_joined_and_counted() {
    let server = serve_raw(|mut connection| async move {
        connection.head().await;
        connection
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        let word = connection.until("\n").await.unwrap();
        connection.send(word).await;
        connection.rest().await;
    })
    .await;
    let gateway = Gateway::before(&[server]).await;
    let mut client = Raw::connect(gateway.addr).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert!(client.head().await.starts_with("http/1.1 101"));
    client.send("hello\n").await;
    assert_eq!(client.until("\n").await.unwrap(), "hello\n");
    let status = gateway.status().await;
    assert_eq!((&status["connections"], &status["totals"]["in_flight"]), (&1.into(), &1.into()));
    client.stream.shutdown().await.unwrap();
    client.rest().await;
    soon(async { while gateway.status().await["totals"]["in_flight"] != 0 {} }).await;
}

#[tokio::test]
async fn http2_streams_both_ways_at_once() {
    let server = serve(|request: Request<Incoming>| async move { Response::new(request.into_body()) }).await;
    let gateway = Gateway::before(&[server]).await;
    let mut client = http2(gateway.addr).await;
    let (sender, body) = channel();
    let request = Request::post("http://a/").body(body).unwrap();
    sender.send(data("one")).unwrap();
    let mut echo = soon(client.send_request(request)).await.unwrap().into_body();
    for word in ["one", "two"] {
        let frame = soon(echo.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), word);
        sender.send(data("two")).unwrap();
    }
}

#[tokio::test]
async fn the_status_tells_of_each_node() {
    let server = serve(|_: Request<Incoming>| async { Response::new(full("x")) }).await;
    let gateway = Gateway::before(&[server]).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/").await, (200, "x".to_owned()));
    }
    let status = gateway.status().await;
    assert_eq!(status["clusters"][0]["policy"], "least_response_time");
    assert_eq!(status["totals"]["requests"], 5);
    let node = &status["nodes"][0];
    assert_eq!(
        (&node["id"], &node["url"]),
        (&server.to_string().into(), &format!("http://{server}/").trim_end_matches('/').into())
    );
    assert_eq!((&node["admin"], &node["health"]), (&"active".into(), &"unknown".into()));
    for (key, value) in [("in_flight", 0), ("requests", 5), ("failures", 0), ("cancelled", 0), ("weight", 1)]
    {
        assert_eq!(node[key], value, "{key}");
    }
    assert!(node["latency_ms"].as_f64().unwrap() > 0.0 && node["suspended"] == false && node["share"] == 1.0);
}

#[tokio::test]
async fn nodes_are_drained_added_and_removed_by_command() {
    let named =
        |name: &'static str| serve(move |_: Request<Incoming>| async move { Response::new(full(name)) });
    let (a, b) = (named("a").await, named("b").await);
    let gateway = Gateway::with(&format!("[[upstream]]\nid = \"a\"\nurl = \"http://{a}\"\n")).await;
    let add: &'static str = format!("{{\"url\": \"http://{b}\"}}").leak();
    assert_eq!(gateway.command("PUT", "/nodes/b", add).await, 201);
    assert_eq!(gateway.command("PUT", "/nodes/a", "{\"admin\": \"draining\", \"weight\": 7}").await, 204);
    let node = gateway.node("a").await;
    assert_eq!((&node["admin"], &node["weight"]), (&"draining".into(), &7.into()));
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.1, "b");
    }
    assert_eq!(gateway.command("PUT", "/nodes/a", "{\"admin\": \"active\"}").await, 204);
    assert_eq!(gateway.command("DELETE", "/nodes/b", "").await, 204);
    assert_eq!(gateway.get("/").await.1, "a");

    assert_eq!(gateway.command("DELETE", "/nodes/b", "").await, 404);
    assert_eq!(gateway.command("PUT", "/nodes/c", "{}").await, 404);
    assert_eq!(gateway.command("PUT", "/nodes/c", "{\"url\": \"ftp://c\"}").await, 400);
    assert_eq!(gateway.command("PUT", "/nodes/a", "{\"wait\": 7}").await, 400);
    assert_eq!(gateway.command("GET", "/healthz", "").await, 200);
}

#[tokio::test]
async fn the_same_key_meets_the_same_node() {
    let mut config = vec!["policy = { name = \"consistent_hash\", key = \"header:x-user\" }\n".to_owned()];
    for name in ["a", "b", "c"] {
        let server = serve(move |_: Request<Incoming>| async move { Response::new(full(name)) }).await;
        config.push(format!("[[upstream]]\nid = \"{name}\"\nurl = \"http://{server}\"\n"));
    }
    let gateway = Gateway::with(&config.concat()).await;
    let ask = async |user: u32| {
        let request = Request::get("/").header("host", "a").header("x-user", user).body(empty()).unwrap();
        text(send(gateway.addr, request).await).await
    };
    let mut met = std::collections::HashSet::new();
    for user in 0..20 {
        let node = ask(user).await;
        assert_eq!(ask(user).await, node);
        met.insert(node);
    }
    assert!(met.len() > 1, "{met:?}");
}
