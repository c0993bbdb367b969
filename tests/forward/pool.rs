//! Which requests share a connection to the server.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress::forward::{Upstream, UpstreamBody};
use http_body_util::BodyExt;
use hyper::{Request, Response};
use tokio::sync::mpsc;
use tower::{Service, ServiceExt};

use crate::support::{BoxBody, Raw, empty, full, serve_raw, soon};

/// A server that gives these answers one after another on each connection, and then closes it. It counts connections,
/// and tells of each that the other side closed first.
async fn answering(
    answers: &'static [&'static str],
) -> (SocketAddr, Arc<AtomicUsize>, mpsc::UnboundedReceiver<()>) {
    let count = Arc::new(AtomicUsize::new(0));
    let (sender, closed) = mpsc::unbounded_channel();
    let counted = Arc::clone(&count);
    let addr = serve_raw(move |mut connection: Raw| {
        counted.fetch_add(1, Relaxed);
        let sender = sender.clone();
        async move {
            for answer in answers {
                if connection.until("\r\n\r\n").await.is_err() {
                    sender.send(()).unwrap();
                    return;
                }
                connection.send(format!("HTTP/1.1 {answer}")).await;
            }
        }
    })
    .await;
    (addr, count, closed)
}

async fn get(upstream: &Upstream) -> Response<UpstreamBody> {
    let request = Request::get("/").header("host", "a").body(empty()).unwrap();
    soon(upstream.clone().oneshot(request)).await.unwrap()
}

async fn read(answer: Response<UpstreamBody>) -> String {
    String::from_utf8(soon(answer.collect()).await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_connection_is_used_again_whatever_the_framing() {
    const ANSWERS: &[&str] = &[
        "200 OK\r\nContent-Length: 2\r\n\r\nab",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n",
        "204 No Content\r\n\r\n",
        "200 OK\r\nContent-Length: 0\r\n\r\n",
        "200 OK\r\nContent-Length: 2\r\n\r\nab",
    ];
    let (addr, count, _) = answering(ANSWERS).await;
    let upstream = Upstream::new(&format!("http://{addr}")).unwrap();
    for answer in ANSWERS {
        assert_eq!(read(get(&upstream).await).await == "ab", answer.contains('a'));
    }
    assert_eq!(count.load(Relaxed), 1);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_noticed_before_it_is_used() {
    let (addr, count, _) = answering(&["200 OK\r\nContent-Length: 2\r\n\r\nab"]).await;
    let upstream = Upstream::new(&format!("http://{addr}")).unwrap();
    assert_eq!(read(get(&upstream).await).await, "ab");
    for connections in 2..10 {
        // The end of the connection is on its way.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let request = Request::post("/").header("host", "a").body(full("")).unwrap();
        assert_eq!(read(soon(upstream.clone().oneshot(request)).await.unwrap()).await, "ab");
        assert_eq!(count.load(Relaxed), connections);
    }
}

#[tokio::test]
async fn an_answer_given_up_half_read_ends_its_connection() {
    let (addr, count, mut closed) =
        answering(&["200 OK\r\nContent-Length: 4\r\n\r\nab", "200 OK\r\nContent-Length: 2\r\n\r\ncd"]).await;
    let upstream = Upstream::new(&format!("http://{addr}")).unwrap();
    let mut answer = get(&upstream).await.into_body();
    assert_eq!(soon(answer.frame()).await.unwrap().unwrap().into_data().unwrap(), "ab");
    drop(answer);
    soon(closed.recv()).await.unwrap();
    drop(get(&upstream).await);
    assert_eq!(count.load(Relaxed), 2);
}

#[tokio::test]
async fn a_request_given_up_ends_its_connection() {
    let (addr, _, mut closed) = answering(&["100 Continue\r\n\r\n", ""]).await;
    let mut upstream = Upstream::new(&format!("http://{addr}")).unwrap();
    let request: Request<BoxBody> = Request::get("/").header("host", "a").body(empty()).unwrap();
    let answer = upstream.call(request);
    assert!(tokio::time::timeout(Duration::from_millis(50), answer).await.is_err());
    soon(closed.recv()).await.unwrap();
}

#[tokio::test]
async fn an_unused_connection_is_closed_after_a_while() {
    let (addr, count, mut closed) = answering(&["200 OK\r\nContent-Length: 2\r\n\r\nab"; 9]).await;
    let upstream =
        Upstream::builder().idle_timeout(Duration::from_millis(50)).build(&format!("http://{addr}")).unwrap();
    for connections in 1..3 {
        read(get(&upstream).await).await;
        soon(closed.recv()).await.unwrap();
        assert_eq!(count.load(Relaxed), connections);
    }
}

#[tokio::test]
async fn no_more_unused_connections_are_kept_than_asked_for() {
    let (addr, count, mut closed) = answering(&["200 OK\r\nContent-Length: 2\r\n\r\nab"; 9]).await;
    let upstream = Upstream::builder().max_idle(2).build(&format!("http://{addr}")).unwrap();
    let answers = [get(&upstream).await, get(&upstream).await, get(&upstream).await];
    assert_eq!(count.load(Relaxed), 3);
    for answer in answers {
        read(answer).await;
    }
    soon(closed.recv()).await.unwrap();
    for _ in 0..4 {
        read(get(&upstream).await).await;
    }
    assert_eq!(count.load(Relaxed), 3);
    assert!(closed.try_recv().is_err());
}
