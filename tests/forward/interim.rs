//! Interim responses, from the server through the proxy to the client.

use std::{net::SocketAddr, time::Duration};

use buttress::forward::{Interim, PeerAddr, Proxy};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::mpsc, time::sleep};
use tower::Service;

use crate::support::{Raw, serve_raw, upstream};

/// A proxy in front of `server` that passes interim responses on.
async fn attentive(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let proxy = Proxy::new(upstream(server));
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let proxy = proxy.clone();
            let (stream, interim) = Interim::new(stream);
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(PeerAddr(peer));
                interim.attend(&mut request);
                proxy.clone().call(request)
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    addr
}

#[tokio::test]
async fn they_arrive_before_the_answer_and_without_fields_of_the_connection() {
    let (more, wanted) = mpsc::unbounded_channel();
    let wanted = std::sync::Arc::new(tokio::sync::Mutex::new(wanted));
    let server = serve_raw(move |mut connection| {
        let wanted = std::sync::Arc::clone(&wanted);
        async move {
            connection.head().await;
            let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
            connection.send(early).await;
            wanted.lock().await.recv().await;
            connection.send("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let mut client = Raw::connect(attentive(server).await).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let early = client.head().await;
    assert!(early.starts_with("http/1.1 103 early hints\r\nlink: </a>\r\nlink: </b>\r\n"), "{early}");
    assert!(!early.contains("hop"), "{early}");
    more.send(()).unwrap();
    assert!(client.head().await.starts_with("http/1.1 102 "));
    assert!(client.head().await.starts_with("http/1.1 200 "));
    assert_eq!(client.until("ok").await.unwrap(), "ok");
}

#[tokio::test]
async fn what_hyper_does_by_itself_is_not_done_twice() {
    let server = serve_raw(|mut connection| async move {
        for _ in 0..2 {
            connection.head().await;
            connection
                .send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
        }
    })
    .await;
    let mut client = Raw::connect(attentive(server).await).await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(client.head().await.starts_with("http/1.1 200 "));
        client.until("ok").await.unwrap();
    }
}

#[tokio::test]
async fn an_older_client_gets_none() {
    let server = serve_raw(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.1 103 Early Hints\r\n\r\n").await;
        sleep(Duration::from_millis(5)).await;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    let mut client = Raw::connect(attentive(server).await).await;
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert!(client.head().await.starts_with("http/1.0 200 "));
}
