//! HTTP/2 on one side or on both.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use buttress::forward::{Proxy, Upstream};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Request, Response, Version};
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::support::{
    Raw, channel, data, empty, full, http1, http2, nobody, proxy, proxy_to, serve, serve_raw, soon,
};

fn over_http2(addr: std::net::SocketAddr) -> Upstream {
    Upstream::builder().http2(true).build(&format!("http://{addr}")).unwrap()
}

#[tokio::test]
async fn http2_goes_out_as_valid_http1() {
    let (sender, mut heads) = mpsc::unbounded_channel();
    let server = serve_raw(move |mut connection| {
        let sender = sender.clone();
        async move {
            while let Ok(head) = connection.until("\r\n\r\n").await {
                sender.send(head.to_lowercase()).unwrap();
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let mut client = http2(proxy_to(server).await).await;
    let request = Request::post("http://a.example:81/x?q=1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers");
    let answer = soon(client.send_request(request.body(empty()).unwrap())).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    assert_eq!(answer.collect().await.unwrap().to_bytes(), "ok");
    let head = heads.recv().await.unwrap();
    assert!(head.starts_with("post /x?q=1 http/1.1\r\n"), "{head}");
    for line in [
        "host: a.example:81",
        "cookie: a=1; b=2",
        "te: trailers",
        "connection: te",
        "content-length: 0",
        "x-forwarded-host: a.example:81",
    ] {
        assert_eq!(head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line} in {head}");
    }
}

#[tokio::test]
async fn bodies_and_trailers_pass_from_http2_to_http1_and_back() {
    let server = serve(|request: Request<Incoming>| async move {
        assert_eq!(request.version(), Version::HTTP_11);
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
        let (answer, body) = channel();
        answer.send(Ok(Frame::data(request.into_body().collect().await.unwrap().to_bytes()))).unwrap();
        answer.send(Ok(Frame::trailers(trailers))).unwrap();
        Response::builder().header("trailer", "x-sum").body(body).unwrap()
    })
    .await;
    let mut client = http2(proxy_to(server).await).await;
    let (body, sent) = channel();
    let request = Request::post("http://a/").header("te", "trailers").body(sent).unwrap();
    body.send(data("hello ")).unwrap();
    body.send(data("world")).unwrap();
    drop(body);
    let answer = soon(client.send_request(request)).await.unwrap().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["x-sum"], "1");
    assert_eq!(answer.to_bytes(), "hello world");
}

#[tokio::test]
async fn a_broken_answer_resets_the_stream() {
    let server = serve_raw(|mut connection| async move {
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    })
    .await;
    let mut client = http2(proxy_to(server).await).await;
    let answer = soon(client.send_request(Request::get("http://a/").body(empty()).unwrap())).await.unwrap();
    assert!(soon(answer.collect()).await.is_err());
}

#[tokio::test]
async fn http1_goes_out_as_http2_with_the_clients_authority() {
    let server = serve(|request: Request<Incoming>| async move {
        assert_eq!(request.version(), Version::HTTP_2);
        assert_eq!(request.uri(), "http://a.example/x");
        assert!(!request.headers().contains_key("host") && !request.headers().contains_key("connection"));
        assert_eq!(request.headers()["te"], "trailers");
        Response::new(request.into_body())
    })
    .await;
    let mut client = Raw::connect(proxy(Proxy::new(over_http2(server))).await).await;
    client
        .send(
            "POST /x HTTP/1.1\r\nHost: a.example\r\nConnection: te, Upgrade\r\nUpgrade: websocket\r\nTE: trailers\r\n\
             Content-Length: 5\r\n\r\nhello",
        )
        .await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    client.until("hello").await.unwrap();
}

#[tokio::test]
async fn requests_for_many_hosts_share_one_connection_that_is_made_again_when_it_breaks() {
    let connections = Arc::new(AtomicUsize::new(0));
    let server = serve(|_| async { Response::new(full("ok")) }).await;
    let counted = Arc::clone(&connections);
    // A relay that breaks its connection on demand.
    let (break_it, broken) = tokio::sync::watch::channel(0);
    let relay = serve_raw(move |mut raw| {
        counted.fetch_add(1, SeqCst);
        let mut broken = broken.clone();
        broken.mark_unchanged();
        async move {
            let mut server = tokio::net::TcpStream::connect(server).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut raw.stream, &mut server) => {}
                _ = broken.changed() => {}
            }
        }
    })
    .await;
    let inner = over_http2(relay);
    let ask = |host: usize| {
        let request = Request::get("/").header("host", format!("h{host}.example")).body(empty()).unwrap();
        tokio::spawn(inner.clone().oneshot(request))
    };
    for made in 1..=3 {
        for answer in (0..20).map(ask).collect::<Vec<_>>() {
            assert!(soon(answer).await.unwrap().is_ok());
        }
        assert_eq!(connections.load(SeqCst), made);
        break_it.send(made).unwrap();
        // Requests may fail until the break is noticed, then they succeed again.
        while soon(ask(0)).await.unwrap().is_err() || connections.load(SeqCst) == made {}
    }
}

#[tokio::test]
async fn a_server_that_is_down_fails_all_who_wait_at_once() {
    let inner = over_http2(nobody().await);
    let asks: Vec<_> = (0..10)
        .map(|_| tokio::spawn(inner.clone().oneshot(Request::get("/").body(empty()).unwrap())))
        .collect();
    for ask in asks {
        assert!(soon(ask).await.unwrap().unwrap_err().is_connect());
    }
}

#[tokio::test]
async fn streams_flow_both_ways_over_http2_on_both_sides() {
    let server = serve(|request: Request<Incoming>| async move { Response::new(request.into_body()) }).await;
    let front = proxy(Proxy::new(over_http2(server))).await;
    let mut client = http2(front).await;
    let (body, sent) = channel();
    body.send(data("one")).unwrap();
    let mut answer = soon(client.send_request(Request::post("http://a/").body(sent).unwrap())).await.unwrap();
    assert_eq!(soon(answer.frame()).await.unwrap().unwrap().into_data().unwrap(), "one");
    body.send(data("two")).unwrap();
    assert_eq!(soon(answer.frame()).await.unwrap().unwrap().into_data().unwrap(), "two");
    body.send(Ok(Frame::trailers(HeaderMap::from_iter([("x-end".parse().unwrap(), "1".parse().unwrap())]))))
        .unwrap();
    drop(body);
    let rest = soon(answer.collect()).await.unwrap();
    assert_eq!(rest.trailers().unwrap()["x-end"], "1");
    assert_eq!(rest.to_bytes(), Bytes::new());

    let mut plain = http1(front).await;
    let request = Request::get("/").header("host", "a").body(empty()).unwrap();
    assert_eq!(soon(plain.send_request(request)).await.unwrap().version(), Version::HTTP_11);
}
