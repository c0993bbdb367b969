use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full};
use tower::{BoxError, ServiceExt, limit::ConcurrencyLimit, service_fn};

use super::*;
use crate::forward::{ClientAddr, UpstreamError, UpstreamErrorKind};

type Answer = Response<ProxyBody<Full<Bytes>>>;

fn get(uri: &str, headers: &[(&'static str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::get(uri).body(Empty::new()).unwrap();
    request.extensions_mut().insert(PeerAddr("192.0.2.1:4711".parse().unwrap()));
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

/// Answers with the request's headers, and those of `answer`.
async fn seen(
    request: Request<Empty<Bytes>>,
    answer: &'static [(&'static str, &'static str)],
) -> (Answer, Option<http::request::Parts>) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let inner = service_fn(move |request: Request<Empty<Bytes>>| {
        sender.send(request.into_parts().0).unwrap();
        let mut response = Response::new(Full::new(Bytes::from_static(b"hello")));
        for (name, value) in answer {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let response = Proxy::new(inner).oneshot(request).await.unwrap();
    (response, receiver.try_recv().ok())
}

async fn text(answer: Answer) -> Bytes {
    answer.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn headers_are_rewritten_both_ways() {
    let asked = [
        ("host", "a.example"),
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("te", "trailers, deflate"),
        ("x-forwarded-for", "6.6.6.6"),
        ("expect", "100-continue"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
    ];
    let answered = &[("connection", "x-back"), ("x-back", "1"), ("keep-alive", "5"), ("x-kept", "1")];
    let (answer, inner) = seen(get("/", &asked), answered).await;
    let inner = inner.unwrap();
    assert_eq!(inner.extensions.get(), Some(&ClientAddr("192.0.2.1".parse().unwrap())));
    let names: Vec<_> = inner.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["host", "te", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);
    assert_eq!(inner.headers["te"], "trailers");
    assert_eq!(inner.headers["x-forwarded-for"], "192.0.2.1");
    let names: Vec<_> = answer.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["x-kept"]);
    assert_eq!(text(answer).await, "hello");
}

#[tokio::test]
async fn an_absolute_target_overrides_the_host_header() {
    let (_, inner) = seen(get("http://user@real.example:81/x", &[("host", "evil")]), &[]).await;
    let headers = inner.unwrap().headers;
    assert_eq!(headers["host"], "real.example:81");
    assert_eq!(headers["x-forwarded-host"], "real.example:81");
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused() {
    let refused: [&[(&str, &str)]; 8] = [
        &[],
        &[("host", "a"), ("host", "a")],
        &[("host", "")],
        &[("host", "a,b")],
        &[("host", "a b")],
        &[("host", "a/b")],
        &[("host", "a"), ("content-length", "5"), ("transfer-encoding", "chunked")],
        &[("host", "a"), ("content-length", "5"), ("content-length", "6")],
    ];
    for headers in refused {
        let (answer, inner) = seen(get("/", headers), &[]).await;
        assert!(inner.is_none(), "{headers:?}");
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{headers:?}");
        assert_eq!(answer.headers()["connection"], "close");
    }
    let mut old = get("/", &[]);
    *old.version_mut() = Version::HTTP_10;
    assert!(seen(old, &[]).await.1.is_some(), "HTTP/1.0 needs no host");
}

#[tokio::test]
async fn connect_is_refused() {
    let mut request = get("http://a:80", &[]);
    *request.method_mut() = Method::CONNECT;
    assert_eq!(seen(request, &[]).await.0.status(), StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn a_request_without_its_peer_is_refused() {
    let mut request = get("/", &[("host", "a")]);
    request.extensions_mut().clear();
    let (answer, inner) = seen(request, &[]).await;
    assert!(inner.is_none());
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn lengths_that_agree_become_one() {
    let twice = &[("content-length", "5"), ("content-length", "5")];
    let (answer, inner) = seen(get("/", &[&[("host", "a")][..], twice].concat()), twice).await;
    assert_eq!(inner.unwrap().headers.get_all("content-length").iter().count(), 1);
    assert_eq!(answer.headers().get_all("content-length").iter().count(), 1);
}

#[tokio::test]
async fn a_transfer_coding_that_would_be_lost_is_refused() {
    for coding in ["gzip, chunked", "gzip", "chunked, chunked"] {
        let (answer, inner) = seen(get("/", &[("host", "a"), ("transfer-encoding", coding)]), &[]).await;
        assert!(inner.is_none());
        assert_eq!(answer.status(), StatusCode::NOT_IMPLEMENTED);
    }
    let (answer, _) = seen(get("/", &[("host", "a")]), &[("transfer-encoding", "gzip, chunked")]).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn an_answer_framed_twice_is_not_passed_on() {
    let answered = &[("transfer-encoding", "chunked"), ("content-length", "5")];
    assert_eq!(seen(get("/", &[("host", "a")]), answered).await.0.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_not_passed_on() {
    for headers in
        [&[("host", "a")][..], &[("host", "a"), ("connection", "upgrade"), ("upgrade", "websocket")]]
    {
        let inner = service_fn(|_| async {
            let response =
                Response::builder().status(101).header("upgrade", "evil").header("connection", "upgrade");
            Ok::<_, Infallible>(response.body(Full::<Bytes>::default()).unwrap())
        });
        let answer = Proxy::new(inner).oneshot(get("/", headers)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    }
}

#[tokio::test]
async fn errors_become_answers_that_leak_nothing() {
    for (kind, status) in [
        (UpstreamErrorKind::Connect, 502),
        (UpstreamErrorKind::Transport, 502),
        (UpstreamErrorKind::Protocol, 502),
        (UpstreamErrorKind::Timeout, 504),
        (UpstreamErrorKind::Request, 400),
    ] {
        let inner = service_fn(move |_| async move {
            Err::<Response<Full<Bytes>>, _>(UpstreamError::new(kind, "10.0.0.7:8080 refused"))
        });
        let answer = Proxy::new(inner).oneshot(get("/", &[("host", "a")])).await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
        let text = text(answer).await;
        assert!(
            text.starts_with(status.to_string().as_bytes()) && !text.windows(2).any(|two| two == b"10"),
            "{text:?}"
        );
    }
}

#[tokio::test]
async fn an_overload_says_when_to_come_back() {
    #[derive(Debug)]
    struct Full503;
    impl ProxyError for Full503 {
        fn status(&self) -> StatusCode {
            StatusCode::SERVICE_UNAVAILABLE
        }
        fn retry_after(&self) -> Option<Duration> {
            Some(Duration::from_millis(1200))
        }
    }
    let inner = service_fn(|_| async { Err::<Response<Full<Bytes>>, _>(Full503) });
    let answer = Proxy::new(inner).oneshot(get("/", &[("host", "a")])).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "2");
}

#[tokio::test]
async fn the_inner_service_is_ready_when_it_is_called() {
    let inner = service_fn(|_| async { Ok::<_, BoxError>(Response::new(Full::<Bytes>::default())) });
    let mut proxy = Proxy::new(ConcurrencyLimit::new(inner, 1));
    for _ in 0..3 {
        let answer = proxy.ready().await.unwrap().call(get("/", &[("host", "a")])).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

#[test]
fn services_and_futures_are_send() {
    use crate::forward::Upstream;
    fn service<T: Clone + Send + Sync + 'static>() {}
    fn future<T: Send + 'static>() {}
    service::<Proxy<Upstream>>();
    future::<ResponseFuture<Upstream, hyper::body::Incoming>>();
    future::<ProxyBody<hyper::body::Incoming>>();
}
