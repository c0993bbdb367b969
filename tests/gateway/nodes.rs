//! Nodes that are found to be ill, clients that are kept with theirs, and too many requests at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::Duration,
};

use http_body_util::Full;
use hyper::{Request, Response, body::Incoming};
use tokio::sync::mpsc;

use crate::{
    clusters::{named, upstream},
    failures::mortal,
    process::{Gateway, send, text},
    support::{BoxBody, empty, full, serve, soon},
};

/// A server that answers everything with this status and its name.
async fn with_status(name: &'static str) -> (std::net::SocketAddr, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let shown = Arc::clone(&status);
    let handler = move |_: Request<Incoming>| {
        let status = shown.load(Relaxed);
        async move {
            let body = Full::<bytes::Bytes>::from(name);
            Response::builder().status(status).body(body).unwrap()
        }
    };
    (serve(handler).await, status)
}

/// Waits until the status says this of a node.
async fn until(gateway: &Gateway, node: &str, is: impl Fn(&serde_json::Value) -> bool) {
    soon(async {
        while !is(&gateway.node(node).await) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_checks_find_ill_gets_nothing_until_it_is_well() {
    let (a, status) = with_status("a").await;
    let b = named("b").await;
    let config = format!(
        "policy.name = \"round_robin\"\noutlier.enabled = false\n\
         health = {{ path = \"/health\", interval = \"500ms\", timeout = \"400ms\", rise = 1, fall = 1 }}\n{}{}",
        upstream("a", "default", &format!("http://{a}")),
        upstream("b", "default", &format!("http://{b}")),
    );
    let gateway = Gateway::with(&config).await;
    for node in ["a", "b"] {
        until(&gateway, node, |node| node["health"] == "up").await;
    }
    status.store(503, Relaxed);
    until(&gateway, "a", |node| node["health"] == "down").await;
    assert_eq!(gateway.node("a").await["complaint"], "status 503 Service Unavailable");
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await.1, "b /");
    }
    status.store(200, Relaxed);
    until(&gateway, "a", |node| node["health"] == "up" && node["complaint"].is_null()).await;
    let answers = [gateway.get("/").await.1, gateway.get("/").await.1];
    assert!(answers.contains(&"a".to_owned()), "{answers:?}");
}

#[tokio::test]
async fn a_node_that_fails_in_the_traffic_is_ejected_until_it_is_let_in() {
    let (a, status) = with_status("a").await;
    status.store(500, Relaxed);
    let b = named("b").await;
    let config = format!(
        "policy.name = \"round_robin\"\n[outlier]\nconsecutive_failures = 3\nbase_ejection = \"5m\"\n{}{}",
        upstream("a", "default", &format!("http://{a}")),
        upstream("b", "default", &format!("http://{b}")),
    );
    let mut gateway = Gateway::with(&config).await;
    // Failures suspend a node for a moment each, so they take their time.
    soon(async {
        while gateway.node("a").await["ejected"].is_null() {
            gateway.get("/").await;
        }
    })
    .await;
    let node = gateway.node("a").await;
    assert_eq!(node["ejected"], "failures in a row");
    assert!(node["ejected_for_ms"].as_u64() > Some(200_000), "{node}");
    for _ in 0..10 {
        assert_eq!(gateway.get("/").await, (200, "b /".to_owned()));
    }
    // It shows in the lines too.
    while !soon(gateway.lines.recv()).await.unwrap().contains("a ejected") {}

    status.store(200, Relaxed);
    assert_eq!(gateway.command("DELETE", "/nodes/a/ejection", "").await, 204);
    assert_eq!(gateway.command("DELETE", "/nodes/a/ejection", "").await, 404);
    assert!(gateway.node("a").await["ejected"].is_null());
    soon(async { while gateway.get("/").await.1 != "a" {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_keeps_its_node_and_moves_when_that_dies() {
    let (alive_a, a) = mortal("a");
    let (alive_b, b) = mortal("b");
    let config = format!(
        "policy.name = \"random\"\n[sticky]\nkeys = [\"{}\"]\ncookie = \"node\"\nsecure = false\n{}{}",
        "k".repeat(32),
        upstream("a", "default", &format!("http://{a}")),
        upstream("b", "default", &format!("http://{b}")),
    );
    let gateway = Gateway::with(&config).await;
    let ask = async |cookie: Option<&str>| {
        let request = Request::get("/").header("host", "a").header("cookie", cookie.unwrap_or("x=1"));
        let answer = send(gateway.addr, request.body(empty()).unwrap()).await;
        assert_eq!(answer.status(), 200);
        let set = answer.headers().get("set-cookie").map(|value| value.to_str().unwrap().to_owned());
        (text(answer).await, set)
    };
    let (first, set) = ask(None).await;
    let set = set.expect("a new client gets a cookie");
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    let cookie = set.split(';').next().unwrap();
    assert!(cookie.starts_with("node="), "{cookie}");
    for _ in 0..20 {
        assert_eq!(ask(Some(cookie)).await, (first.clone(), None));
    }
    // The draining node keeps its clients, the dead one does not.
    let id: &'static str = if first == "a" { "/nodes/a" } else { "/nodes/b" };
    assert_eq!(gateway.command("PUT", id, "{\"admin\": \"draining\"}").await, 204);
    assert_eq!(ask(Some(cookie)).await, (first.clone(), None));
    drop(if first == "a" { alive_a } else { alive_b });
    let (second, set) = ask(Some(cookie)).await;
    assert_ne!(second, first);
    let set = set.expect("it has moved");
    assert_eq!(ask(set.split(';').next()).await, (second, None));
}

/// A server that answers when told so.
async fn slow() -> (std::net::SocketAddr, mpsc::UnboundedSender<()>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let handler = move |_: Request<Incoming>| {
        let receiver = Arc::clone(&receiver);
        async move {
            receiver.lock().await.recv().await;
            Response::new(full("done"))
        }
    };
    (serve(handler).await, sender)
}

#[tokio::test]
async fn too_many_requests_are_turned_away_and_those_first_that_matter_less() {
    let (server, go) = slow().await;
    let config = format!(
        "trusted_proxies = [\"127.0.0.1\"]\n[overload]\nalgorithm = \"fixed\"\nlimit = 1\nqueue = 1\n\
         patience = \"1m\"\npriority_header = \"x-priority\"\n\
         [[route]]\nprefix = \"/batch\"\npriority = \"sheddable_plus\"\n{}",
        upstream("a", "default", &format!("http://{server}")),
    );
    let gateway = Gateway::with(&config).await;
    let addr = gateway.addr;
    let ask = |path: &'static str, priority: &'static str| {
        let request = Request::get(path).header("host", "a").header("x-priority", priority);
        let request: Request<BoxBody> = request.body(empty()).unwrap();
        tokio::spawn(async move { send(addr, request).await })
    };
    let limit = async |key: &str, count: u64| {
        soon(async { while gateway.status().await["clusters"][0]["limit"][key] != count {} }).await;
    };
    let first = ask("/", "sheddable");
    limit("in_flight", 1).await;
    let waiting = ask("/", "sheddable");
    limit("waiting", 1).await;
    // Its place goes to one that matters more, by its route or by the word of a proxy, and another one that does not finds
    // none.
    let batch = ask("/batch", "");
    limit("shed", 1).await;
    let urgent = ask("/batch", "critical_plus");
    limit("shed", 2).await;
    for turned_away in [waiting, batch, ask("/", "sheddable")] {
        let answer = soon(turned_away).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"]),
            (503, &"1".parse().unwrap())
        );
    }
    limit("shed", 3).await;
    for served in [first, urgent] {
        go.send(()).unwrap();
        assert_eq!(text(soon(served).await.unwrap()).await, "done");
    }
    limit("in_flight", 0).await;
}
