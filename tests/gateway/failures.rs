//! Servers that fail, and clients that dawdle.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::{Request, Response, body::Incoming};
use tokio::runtime::{Builder, Runtime};

use crate::{
    process::{Gateway, send, text},
    support::{Raw, empty, full, http1, nobody, serve, soon},
};

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A server whose sockets all close when this is dropped.
pub(crate) struct Mortal(Option<Runtime>);

impl Drop for Mortal {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

pub(crate) fn mortal(name: &'static str) -> (Mortal, SocketAddr) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let handler = move |_: Request<Incoming>| async move {
        tokio::time::sleep(Duration::from_millis(2)).await;
        Response::new(full(name))
    };
    let (sender, addr) = std::sync::mpsc::channel();
    runtime.spawn(async move { sender.send(serve(handler).await) });
    let addr = addr.recv().unwrap();
    (Mortal(Some(runtime)), addr)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_get_fails_when_a_server_dies_under_load() {
    let (first, a) = mortal("x");
    let (_second, b) = mortal("x");
    let gateway = Gateway::before(&[a, b]).await;
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (addr, over) = (gateway.addr, Arc::clone(&over));
            tokio::spawn(async move {
                let mut client = http1(addr).await;
                let mut answers = 0;
                while !over.load(Relaxed) {
                    let request = Request::get("/").header("host", "a").body(empty()).unwrap();
                    let answer = soon(client.send_request(request)).await.unwrap();
                    assert_eq!(answer.status(), 200);
                    assert_eq!(text(answer).await, "x");
                    soon(client.ready()).await.unwrap();
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    let requests = |count: u64| {
        let (gateway, a) = (&gateway, a);
        soon(async move { while gateway.node(a).await["requests"].as_u64() < Some(count) {} })
    };
    requests(200).await;
    drop(first);
    let before = gateway.node(b).await["requests"].as_u64().unwrap();
    soon(async { while gateway.node(b).await["requests"].as_u64() < Some(before + 500) {} }).await;
    over.store(true, Relaxed);
    let mut answers = 0;
    for client in clients {
        answers += client.await.unwrap();
    }
    assert!(answers > 700, "{answers}");
    assert!(gateway.node(a).await["failures"].as_u64() > Some(0), "it was hit");
}

#[tokio::test]
async fn a_post_goes_elsewhere_when_nobody_listens() {
    let server = serve(|request: Request<Incoming>| async move { Response::new(request.into_body()) }).await;
    let absent = nobody().await;
    let gateway = Gateway::start(&[
        "--policy=round_robin",
        &format!("--upstream=http://{server}"),
        &format!("--upstream=http://{absent}"),
    ])
    .await;
    for _ in 0..6 {
        let request = Request::post("/").header("host", "a").body(full("pay")).unwrap();
        let answer = send(gateway.addr, request).await;
        assert_eq!((answer.status().as_u16(), text(answer).await.as_str()), (200, "pay"));
    }
    assert!(gateway.node(absent).await["failures"].as_u64() > Some(0), "it was tried");
}

#[tokio::test]
async fn failures_are_answered_without_a_word_on_what_is_behind() {
    let absent = nobody().await;
    let silent = serve(|_: Request<Incoming>| async {
        std::future::pending::<()>().await;
        Response::new(empty())
    })
    .await;
    let config = |addr: SocketAddr, more: &str| {
        format!(
            "timeouts.response = \"100ms\"\n[[upstream]]\nid = \"secret\"\nurl = \"http://{addr}\"\n{more}"
        )
    };
    let cases = [
        (config(absent, ""), 502, "502 Bad Gateway\n"),
        (config(absent, "admin = \"down\""), 503, "503 Service Unavailable\n"),
        (config(silent, ""), 504, "504 Gateway Timeout\n"),
    ];
    for (config, status, body) in cases {
        let gateway = Gateway::with(&config).await;
        let request = Request::get("/").header("host", "a").body(empty()).unwrap();
        let answer = send(gateway.addr, request).await;
        assert_eq!(answer.status(), status);
        let mut names: Vec<_> = answer.headers().keys().map(|name| name.as_str().to_owned()).collect();
        names.retain(|name| name != "retry-after");
        names.sort();
        assert_eq!(names, ["content-length", "content-type", "date"]);
        assert_eq!(text(answer).await, body);
    }
}

#[tokio::test]
async fn a_client_that_does_not_come_to_the_point_is_cut_off() {
    let gateway = Gateway::with(&format!(
        "timeouts.head = \"200ms\"\n[[upstream]]\nid = \"a\"\nurl = \"http://{}\"\n",
        nobody().await
    ))
    .await;
    for start in ["", "GET / HTTP/1.1\r\nHost: a\r\n", "PRI * HTTP/2"] {
        let mut client = Raw::connect(gateway.addr).await;
        client.send(start).await;
        let answer = client.rest().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let server = serve(|_: Request<Incoming>| async { Response::new(full("x")) }).await;
    let gateway =
        Gateway::with(&format!("max_connections = 1\n[[upstream]]\nid = \"a\"\nurl = \"http://{server}\"\n"))
            .await;
    let mut first = Raw::connect(gateway.addr).await;
    first.send(ASK).await;
    first.until("x").await.unwrap();
    let mut second = Raw::connect(gateway.addr).await;
    second.send(ASK).await;
    first.send(ASK).await;
    first.until("x").await.unwrap();
    assert_eq!(second.pending(), "");
    drop(first);
    second.until("x").await.unwrap();
}
