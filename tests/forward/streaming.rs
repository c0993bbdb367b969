//! Heads and bodies through the proxy over HTTP/1.1, and what happens when one side goes away.

use std::time::Duration;

use buttress::forward::{ForwardHeaders, Proxy, Replay, TrustedProxies, Upstream};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Request, Response, StatusCode};
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::support::{
    Raw, channel, data, empty, full, http1, nobody, proxy, proxy_to, serve, serve_raw, soon, upstream,
};

#[tokio::test]
async fn the_server_gets_a_clean_request_and_the_client_a_clean_answer() {
    let server = serve_raw(|mut connection| async move {
        let head = connection.head().await;
        assert!(head.starts_with("get /x?q=1 http/1.1\r\n"), "{head}");
        for line in ["host: a.example", "x-forwarded-for: 127.0.0.1", "x-forwarded-host: a.example", "te: trailers"] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
        }
        assert!(head.contains("\r\nconnection: te\r\n"), "{head}");
        assert!(!head.contains("x-secret") && !head.contains("6.6.6.6") && !head.contains("keep-alive"), "{head}");
        connection
            .send("HTTP/1.1 200 Fine\r\nConnection: x-hop\r\nX-Hop: 1\r\nContent-Length: 2\r\nX-Kept: 1\r\n\r\nok")
            .await;
    })
    .await;
    let mut client = Raw::connect(proxy_to(server).await).await;
    client
        .send(
            "GET /x?q=1 HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, x-secret\r\nX-Secret: 1\r\n\
             X-Forwarded-For: 6.6.6.6\r\nTE: trailers\r\n\r\n",
        )
        .await;
    let head = client.head().await;
    assert!(
        head.starts_with("http/1.1 200") && head.contains("x-kept: 1") && !head.contains("x-hop"),
        "{head}"
    );
    assert_eq!(client.until("ok").await.unwrap(), "ok");
}

#[tokio::test]
async fn an_absolute_target_and_a_star_arrive_in_the_right_form() {
    let (sender, mut heads) = mpsc::unbounded_channel();
    let server = serve_raw(move |mut connection| {
        let sender = sender.clone();
        async move {
            loop {
                let Ok(head) = connection.until("\r\n\r\n").await else { return };
                sender.send(head.to_lowercase()).unwrap();
                connection.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        }
    })
    .await;
    let base = Upstream::builder().build(&format!("http://{server}/base")).unwrap();
    let mut client = Raw::connect(proxy(Proxy::new(base)).await).await;
    client.send("GET http://real.example/x HTTP/1.1\r\nHost: evil\r\n\r\n").await;
    client.head().await;
    let head = heads.recv().await.unwrap();
    assert!(
        head.starts_with("get /base/x http/1.1\r\n") && head.contains("\r\nhost: real.example\r\n"),
        "{head}"
    );
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.head().await;
    assert!(heads.recv().await.unwrap().starts_with("options * http/1.1\r\n"));
}

#[tokio::test]
async fn the_host_may_be_that_of_the_server() {
    let server = serve(|request| async move {
        Response::new(full(if request.headers()["host"] == "a.example" { "theirs" } else { "own" }))
    })
    .await;
    let inner = Upstream::builder().preserve_host(false).build(&format!("http://{server}")).unwrap();
    let mut client = http1(proxy(Proxy::new(inner)).await).await;
    let request = Request::get("/").header("host", "a.example").body(empty()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.collect().await.unwrap().to_bytes(), "own");
}

#[tokio::test]
async fn a_chain_of_trusted_proxies_tells_the_client_apart() {
    let server = serve(|request| async move {
        Response::builder().header("seen", &request.headers()["x-forwarded-for"]).body(empty()).unwrap()
    })
    .await;
    let second =
        Proxy::new(upstream(server)).headers(ForwardHeaders::new().trust(TrustedProxies::loopback()));
    let mut client = Raw::connect(proxy(second).await).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.1, 127.0.0.2\r\n\r\n")
        .await;
    let head = client.head().await;
    assert!(head.contains("seen: 203.0.113.1, 127.0.0.2, 127.0.0.1\r\n"), "{head}");
}

#[tokio::test]
async fn both_bodies_stream_at_the_same_time() {
    let server = serve(|request| async move { Response::new(request.into_body()) }).await;
    let mut client = http1(proxy_to(server).await).await;
    let (body, sent) = channel();
    let request = Request::post("/").header("host", "a").body(sent).unwrap();
    body.send(data("one")).unwrap();
    let mut answer = soon(client.send_request(request)).await.unwrap();
    for next in ["two", "three", "four"] {
        let frame = soon(answer.frame()).await.unwrap().unwrap();
        assert!(frame.is_data());
        body.send(data(next)).unwrap();
    }
    drop(body);
    let rest = soon(answer.collect()).await.unwrap().to_bytes();
    assert_eq!(rest, "four");
}

#[tokio::test]
async fn a_body_of_a_get_arrives() {
    let server = serve(|request| async move { Response::new(request.into_body()) }).await;
    let mut client = Raw::connect(proxy_to(server).await).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .await;
    client.until("5\r\nhello\r\n0\r\n\r\n").await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_breaks_the_request() {
    let (sender, mut outcome) = mpsc::unbounded_channel();
    let server = serve(move |request| {
        let sender = sender.clone();
        async move {
            sender.send(request.into_body().collect().await.is_ok()).unwrap();
            Response::new(empty())
        }
    })
    .await;
    let front = proxy_to(server).await;
    for framing in ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let mut client = Raw::connect(front).await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}")).await;
        drop(client);
        assert!(!soon(outcome.recv()).await.unwrap(), "a request cut short looked whole");
    }
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_makes_no_whole_answer() {
    for framing in ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let server = serve_raw(move |mut connection| async move {
            connection.head().await;
            connection.send(format!("HTTP/1.1 200 OK\r\n{framing}")).await;
        })
        .await;
        let front = proxy_to(server).await;
        let mut client = Raw::connect(front).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("hello"), "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");

        let mut client = http1(front).await;
        let answer =
            client.send_request(Request::get("/").header("host", "a").body(empty()).unwrap()).await.unwrap();
        assert!(soon(answer.collect()).await.is_err());
    }
}

#[tokio::test]
async fn servers_that_fail_before_the_answer_become_statuses() {
    let silent = serve_raw(|mut connection| async move {
        connection.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let breaking = serve_raw(|mut connection| async move { drop(connection.head().await) }).await;
    let babbling = serve_raw(|mut connection| async move {
        connection.head().await;
        connection.send("SSH-2.0-OpenSSH_9.9\r\n\r\n").await;
    })
    .await;
    let cases = [
        (nobody().await, StatusCode::BAD_GATEWAY),
        (breaking, StatusCode::BAD_GATEWAY),
        (babbling, StatusCode::BAD_GATEWAY),
        (silent, StatusCode::GATEWAY_TIMEOUT),
    ];
    for (server, status) in cases {
        let builder = Upstream::builder().response_timeout(Duration::from_millis(100));
        let inner = builder.build(&format!("http://{server}")).unwrap();
        let mut client = http1(proxy(Proxy::new(inner)).await).await;
        let request = Request::get("/").header("host", "a").body(empty()).unwrap();
        let answer = soon(client.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), status);
        let text = answer.collect().await.unwrap().to_bytes();
        assert!(!text.windows(3).any(|window| window == b"127"), "{text:?}");
    }
}

#[tokio::test]
async fn errors_say_whose_fault_it_was() {
    let error = upstream(nobody().await).oneshot(Request::get("/").body(empty()).unwrap()).await.unwrap_err();
    assert!(error.is_connect() && error.is_retryable(), "{error:?}");

    let breaking = serve_raw(|mut connection| async move { drop(connection.head().await) }).await;
    let error = upstream(breaking).oneshot(Request::get("/").body(empty()).unwrap()).await.unwrap_err();
    assert!(error.is_transport() && !error.is_retryable(), "{error:?}");

    let server = serve(|request| async move {
        request.into_body().collect().await.ok();
        Response::new(empty())
    })
    .await;
    for http2 in [false, true] {
        let inner = Upstream::builder().http2(http2).build(&format!("http://{server}")).unwrap();
        let (body, sent) = channel();
        body.send(data("half")).unwrap();
        body.send(Err("the client went away".into())).unwrap();
        let error = soon(inner.oneshot(Request::post("/").body(sent).unwrap())).await.unwrap_err();
        assert!(error.is_request(), "{error:?}");
    }
}

#[tokio::test]
async fn only_a_silent_server_is_too_slow() {
    let server = serve(|request| async move {
        Response::new(request.into_body().collect().await.unwrap().to_bytes().len().to_string())
    });
    let server = server.await;
    let builder = Upstream::builder().response_timeout(Duration::from_millis(200));
    let inner = builder.build(&format!("http://{server}")).unwrap();

    // An upload that takes longer than the limit, but moves.
    let (body, sent) = channel();
    let upload = tokio::spawn(inner.clone().oneshot(Request::post("/").body(sent).unwrap()));
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        body.send(data("more")).unwrap();
    }
    drop(body);
    assert!(soon(upload).await.unwrap().is_ok());

    // A client that stops is not the server's fault.
    let (_body, sent) = channel();
    let error = soon(inner.oneshot(Request::post("/").body(sent).unwrap())).await.unwrap_err();
    assert!(error.is_request(), "{error:?}");
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it() {
    let server = serve(|request| async move {
        assert!(!request.headers().contains_key("expect"));
        Response::new(request.into_body())
    })
    .await;
    let mut client = Raw::connect(proxy_to(server).await).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert!(client.head().await.starts_with("http/1.1 100"));
    client.send("hello").await;
    assert!(client.head().await.starts_with("http/1.1 200"));
    assert_eq!(client.until("hello").await.unwrap(), "hello");
}

#[tokio::test]
async fn an_old_client_gets_an_old_answer() {
    let server = serve(|_| async { Response::new(full("hello")) }).await;
    let mut client = Raw::connect(proxy_to(server).await).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn an_old_server_is_spoken_for_in_our_version() {
    let server = serve_raw(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.0 200 OK\r\n\r\nhello").await;
    })
    .await;
    let mut client = Raw::connect(proxy_to(server).await).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 200") && head.contains("transfer-encoding: chunked"), "{head}");
    client.until("5\r\nhello\r\n0\r\n\r\n").await.unwrap();
}

#[tokio::test]
async fn a_replayed_body_reaches_the_next_server_whole() {
    let early = serve_raw(|mut connection| async move {
        connection.until("first").await.unwrap();
    })
    .await;
    let echo = serve(|request| async move { Response::new(request.into_body()) }).await;
    let (body, sent) = channel();
    body.send(data("first")).unwrap();
    let replay = Replay::new(sent, 1024);
    let request = |body| Request::post("/").body(body).unwrap();
    let error = soon(upstream(early).oneshot(request(replay.attempt().unwrap()))).await.unwrap_err();
    assert!(error.is_transport(), "{error:?}");
    body.send(data("second")).unwrap();
    drop(body);
    let answer = soon(upstream(echo).oneshot(request(replay.attempt().unwrap()))).await.unwrap();
    assert_eq!(answer.collect().await.unwrap().to_bytes(), Bytes::from_static(b"firstsecond"));
}
