//! Request smuggling: whatever a client sends, no server behind sees a request that the proxy did not.

use std::sync::{Arc, Mutex};

use buttress::forward::{Proxy, ProxyError};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use tower::service_fn;

use crate::support::{BoxBody, Raw, empty, full, proxy, proxy_to, serve, serve_raw};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Ends the connection, if the proxy still takes it for a request.
const LAST: &str = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Sends `bytes` through the proxy; returns the heads that the server saw and the answers.
async fn seen(bytes: String) -> (Vec<String>, String) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    let server = serve_raw(move |mut connection| {
        let heads = Arc::clone(&kept);
        async move {
            while let Ok(head) = connection.until("\r\n\r\n").await {
                let head = head.to_lowercase();
                let chunked = head.contains("transfer-encoding");
                let length = head.contains("content-length: 5");
                heads.lock().unwrap().push(head);
                if chunked {
                    connection.until("0\r\n\r\n").await.unwrap();
                } else if length {
                    connection.until("hello").await.unwrap();
                }
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    let mut client = Raw::connect(proxy_to(server).await).await;
    client.send(bytes + LAST).await;
    let answers = client.rest().await;
    let heads = heads.lock().unwrap().clone();
    (heads, answers)
}

#[tokio::test]
async fn ambiguous_requests_smuggle_nothing() {
    let chunked = format!("0\r\n\r\n{SMUGGLED}");
    let corpus = [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", chunked.as_str()),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", &chunked),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\nContent-Length: 5", &chunked),
        ("Content-Length: 5\r\nContent-Length: 0", SMUGGLED),
        ("Content-Length: 5, 0", SMUGGLED),
        ("Content-Length: +5", SMUGGLED),
        ("Content-Length: 0x5", SMUGGLED),
        ("Content-Length: -1", SMUGGLED),
        ("Content-Length: 18446744073709551616", SMUGGLED),
        ("Content-Length : 5", SMUGGLED),
        ("Transfer-Encoding: identity", SMUGGLED),
        ("Transfer-Encoding: chunked, identity", &chunked),
        ("Transfer-Encoding: xchunked", &chunked),
        ("Transfer-Encoding: gzip, chunked", &chunked),
        ("Transfer-Encoding : chunked", &chunked),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x", &chunked),
        ("Transfer-Encoding:\r\n chunked", &chunked),
        ("Transfer-Encoding: chunked", "1 \r\nZ\r\nQ\r\n\r\n"),
        ("Transfer-Encoding: chunked", "fffffffffffffffff\r\nhello"),
        ("Transfer-Encoding: chunked", "-1\r\nhello"),
        ("X: y\rTransfer-Encoding: chunked", &chunked),
        ("X: y\nTransfer-Encoding: chunked\nContent-Length: 5", &chunked),
    ];
    for (header, body) in corpus {
        let (heads, answers) = seen(format!("POST / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n{body}")).await;
        for head in &heads {
            assert!(!head.contains("smuggled"), "{header}: {heads:?}");
            let twice = head.contains("transfer-encoding") && head.contains("content-length");
            assert!(!twice, "{header}: {heads:?}");
        }
        assert!(heads.len() <= 1, "{header}: {heads:?}");
        assert!(answers.matches("HTTP/1.1").count() <= 1, "{header}: {answers}");
    }
}

#[tokio::test]
async fn the_same_length_twice_leaves_as_one() {
    let (heads, _) =
        seen("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello".into())
            .await;
    assert_eq!(heads[0].matches("content-length: 5\r\n").count(), 1, "{heads:?}");
}

#[tokio::test]
async fn an_old_client_cannot_use_chunks() {
    let bytes = format!("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}");
    let (heads, answers) = seen(bytes).await;
    assert!(heads.is_empty() && answers.starts_with("HTTP/1.1 400"), "{heads:?} {answers}");
}

#[derive(Debug)]
struct Overloaded;

impl ProxyError for Overloaded {
    fn status(&self) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// A proxy that answers `POST` itself, before its body was read, and `GET` with its path.
async fn refusing() -> std::net::SocketAddr {
    let inner = service_fn(|request: Request<Incoming>| async move {
        if request.method() == "POST" {
            return Err(Overloaded);
        }
        assert_eq!(request.uri(), "/next");
        Ok::<Response<BoxBody>, _>(Response::new(full("next")))
    });
    proxy(Proxy::new(inner)).await
}

#[tokio::test]
async fn after_an_early_answer_the_next_request_is_read_behind_the_body() {
    let mut client = Raw::connect(refusing().await).await;
    let length = SMUGGLED.len();
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
        ))
        .await;
    assert!(client.head().await.starts_with("http/1.1 503"));
    client.until("next").await.unwrap();
}

#[tokio::test]
async fn after_an_early_answer_to_a_long_body_the_connection_is_closed() {
    let mut client = Raw::connect(refusing().await).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nstart").await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 503"), "{head}");
    // Whatever comes now is body, and the proxy does not wait for all of it.
    let mut sent = 0;
    while sent < 10_000_000 {
        match tokio::io::AsyncWriteExt::write(&mut client.stream, SMUGGLED.as_bytes()).await {
            Ok(more) => sent += more,
            Err(_) => break,
        }
    }
    let rest = client.rest().await;
    assert!(!rest.contains("HTTP/1.1"), "{rest}");
    assert!(sent < 10_000_000, "the whole body was taken");
}

#[tokio::test]
async fn a_server_that_answers_early_is_heard() {
    let server = serve(|_| async { Response::builder().status(413).body(empty()).unwrap() }).await;
    let mut client = Raw::connect(proxy_to(server).await).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nstart").await;
    assert!(client.head().await.starts_with("http/1.1 413"));
}

#[tokio::test]
async fn an_answer_framed_twice_is_not_passed_on() {
    for framing in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: 5\r\nContent-Length: 6"]
    {
        let server = serve_raw(move |mut connection| async move {
            connection.head().await;
            connection.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhello\r\n0\r\n\r\n")).await;
        })
        .await;
        let mut client = Raw::connect(proxy_to(server).await).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let head = client.head().await;
        let twice = head.contains("content-length") && head.contains("transfer-encoding");
        assert!(!twice && (head.starts_with("http/1.1 502") || !head.contains("content-length")), "{head}");
    }
}

#[tokio::test]
async fn an_answer_that_is_compressed_for_the_connection_is_refused_and_a_coding_that_is_none_is_dropped() {
    for (coding, status) in [
        ("gzip, chunked", "502"),
        ("chunked, GZip", "502"),
        ("x-compress", "502"),
        ("deflate;q=1", "502"),
        ("odd", "200"),
        ("identity", "200"),
    ] {
        let server = serve_raw(move |mut connection| async move {
            connection.head().await;
            connection.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n")).await;
        })
        .await;
        let mut client = Raw::connect(proxy_to(server).await).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let head = client.head().await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{coding}: {head}");
        assert!(!head.contains(&format!("transfer-encoding: {}", coding.to_lowercase())), "{head}");
    }
}
