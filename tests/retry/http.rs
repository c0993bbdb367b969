//! Over HTTP: bodies, methods, dates and deadlines.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    balance::{Balance, Error, Hedge, Retry, http::RepeatHttp},
    cluster::{Cluster, Node},
    forward::{ProxyError, ReplayBody},
    time::Deadline,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Request, Response, StatusCode, body::Frame};
use tokio::time::{Instant, sleep};
use tokio_stream::StreamExt;
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};

use crate::support::{First, SECOND, ms, plenty};

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Server = BoxCloneSyncService<Request<ReplayBody<Body>>, Response<Full<Bytes>>, io::Error>;
/// What each server has read.
type Seen = Arc<Mutex<Vec<(char, Bytes)>>>;

/// A server that reads the request, takes its time, and answers with a status and perhaps a header.
fn server(
    name: char,
    seen: &Seen,
    delay: Duration,
    status: u16,
    after: Option<&'static str>,
) -> (Node, Server) {
    let seen = Arc::clone(seen);
    let service = tower::service_fn(move |request: Request<ReplayBody<Body>>| {
        let seen = Arc::clone(&seen);
        async move {
            let body = request
                .into_body()
                .collect()
                .await
                .map_err(|_| io::Error::other("the body broke"))?
                .to_bytes();
            seen.lock().unwrap().push((name, body));
            sleep(delay).await;
            let mut response = Response::builder().status(status);
            if let Some(after) = after {
                response = response.header("retry-after", after);
            }
            response.body(Full::default()).map_err(io::Error::other)
        }
    });
    (Node::new(name.to_string()), BoxCloneSyncService::new(service))
}

fn retry(
    nodes: impl IntoIterator<Item = (Node, Server)>,
    limit: usize,
) -> Retry<
    Balance<
        Server,
        buttress::balance::NoKey,
        buttress::balance::http::ClassifyHttp,
        buttress::balance::http::OnBody,
    >,
    RepeatHttp,
> {
    let cluster = Cluster::new(nodes).unwrap();
    Retry::new(Balance::http(cluster, First), RepeatHttp::new().limit(limit)).budget(plenty())
}

fn full(text: &'static str) -> Body {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

/// A body whose second half comes after a while.
fn slow(wait: Duration) -> Body {
    let parts = tokio_stream::iter([("first, ", Duration::ZERO), ("second", wait)]);
    let frames = parts.then(|(part, wait)| async move {
        sleep(wait).await;
        Ok::<_, io::Error>(Frame::data(Bytes::from_static(part.as_bytes())))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn put(body: Body) -> Request<Body> {
    Request::put("http://a.example/").body(body).unwrap()
}

fn names(seen: &Seen) -> String {
    seen.lock().unwrap().iter().map(|(name, _)| *name).collect()
}

#[tokio::test(start_paused = true)]
async fn a_body_is_repeated_whole_while_it_fits() {
    for (limit, expected) in [(64, "ab"), (12, "a")] {
        let seen = Seen::default();
        let nodes = [server('a', &seen, ms(1), 500, None), server('b', &seen, ms(1), 200, None)];
        let response = retry(nodes, limit).call(put(slow(ms(10)))).await.unwrap();
        assert_eq!((response.status() == 200, names(&seen)), (expected == "ab", expected.to_owned()));
        assert!(seen.lock().unwrap().iter().all(|(_, body)| body == "first, second"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_is_neither_repeated_nor_hedged() {
    for status in [500, 502, 503, 504, 429, 200] {
        let seen = Seen::default();
        let nodes = [server('a', &seen, SECOND, status, None), server('b', &seen, ms(1), 200, None)];
        let post = Request::post("http://a.example/").body(full("money")).unwrap();
        let response = retry(nodes, 64).hedge(Hedge::after(ms(10))).call(post).await.unwrap();
        assert_eq!((response.status().as_u16(), &*names(&seen)), (status, "a"));
    }
}

#[tokio::test(start_paused = true)]
async fn both_tries_of_a_hedged_request_have_the_whole_body() {
    let seen = Seen::default();
    let nodes = [server('a', &seen, SECOND, 200, None), server('b', &seen, 2 * SECOND, 200, None)];
    let start = Instant::now();
    let response = retry(nodes, 64).hedge(Hedge::after(ms(10))).call(put(full("again"))).await.unwrap();
    // The first one was not disturbed by the second.
    assert_eq!((response.status(), start.elapsed()), (StatusCode::OK, SECOND));
    assert_eq!(*seen.lock().unwrap(), [('a', Bytes::from("again")), ('b', Bytes::from("again"))]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_still_on_its_way_is_not_hedged() {
    let seen = Seen::default();
    let nodes = [server('a', &seen, SECOND, 200, None), server('b', &seen, ms(1), 200, None)];
    let response = retry(nodes, 64).hedge(Hedge::after(ms(10))).call(put(slow(ms(100)))).await.unwrap();
    assert_eq!((response.status(), &*names(&seen)), (StatusCode::OK, "a"));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_not_hedged() {
    let seen = Seen::default();
    let nodes = [server('a', &seen, SECOND, 200, None), server('b', &seen, ms(1), 200, None)];
    let mut request = Request::get("http://a.example/").body(full("")).unwrap();
    request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    retry(nodes, 64).hedge(Hedge::after(ms(10))).call(request).await.unwrap();
    assert_eq!(names(&seen), "a");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_read_from_the_answer() {
    for (value, waits) in [("3", true), ("0", true), ("soon", false), ("99999999999999999999", false)] {
        let seen = Seen::default();
        let nodes = [server('a', &seen, Duration::ZERO, 503, Some(value))];
        let mut service = retry(nodes, 64).timeout(60 * SECOND).tries(2);
        let response = service.call(put(full(""))).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(names(&seen), if waits { "aa" } else { "a" }, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_among_the_extensions_is_honoured_and_answered_with_504() {
    let seen = Seen::default();
    let mut service = retry([server('a', &seen, SECOND, 200, None)], 64);
    let mut request = put(full(""));
    request.extensions_mut().insert(Deadline(Instant::now().into_std() + ms(100)));
    let start = Instant::now();
    let error = service.call(request).await.unwrap_err();
    assert_eq!(start.elapsed(), ms(100));
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let error = error_of(error);
    assert_eq!((error.status(), error.retry_after()), (StatusCode::GATEWAY_TIMEOUT, None));
}

/// The same with an error that says its status.
fn error_of(error: Error<io::Error>) -> Error<BoxError> {
    match error {
        Error::Timeout { limit, node, tries } => Error::Timeout { limit, node, tries },
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_may_take_longer_than_the_limits() {
    let service = tower::service_fn(|_: Request<ReplayBody<Body>>| async {
        Ok::<_, io::Error>(Response::new(slow(3600 * SECOND)))
    });
    let cluster = Cluster::new([(Node::new("a"), service)]).unwrap();
    let retry = Retry::new(Balance::http(cluster.clone(), First), RepeatHttp::new());
    let response = retry.timeout(SECOND).try_timeout(SECOND).oneshot(put(full(""))).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "first, second");
    assert_eq!(cluster.get("a").unwrap().member.state.failures(), 0);
}
