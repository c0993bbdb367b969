//! A service, and the cache in front of it.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    task::{Context, Poll, Waker},
};

use buttress::cdn::Cdn;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    header::{
        ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE, DATE, ETAG, HOST, HeaderValue, LAST_MODIFIED,
        USER_AGENT, VARY,
    },
};
use tower::{Service, service_fn};

pub(crate) const BODIES: [(&str, usize); 2] = [("1 KiB", 1 << 10), ("100 KiB", 100 << 10)];

pub(crate) type Asked = Request<Full<Bytes>>;

/// What a browser asks, more or less.
pub(crate) fn request() -> Asked {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = hyper::Uri::from_static("/assets/app.js?v=3");
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("www.example.com"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, br"));
    headers.insert(USER_AGENT, HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64)"));
    request
}

/// What a server answers, more or less.
pub(crate) fn response(size: usize) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(vec![b'x'; size])));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/javascript"));
    headers.insert(ETAG, HeaderValue::from_static("\"0123456789abcdef\""));
    headers.insert(LAST_MODIFIED, HeaderValue::from_static("Wed, 01 Jan 2020 00:00:00 GMT"));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(DATE, HeaderValue::from_static("Wed, 01 Jan 2020 00:00:00 GMT"));
    response
}

/// Answers at once.
pub(crate) fn service(
    size: usize,
) -> impl Service<
    Asked,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future = Ready<Result<Response<Full<Bytes>>, Infallible>>,
> + Clone
+ Send
+ 'static {
    let mut response = response(size);
    // It has just been made, whenever that is.
    response.headers_mut().remove(DATE);
    service_fn(move |_: Asked| ready(Ok(response.clone())))
}

/// Asks the service itself.
pub(crate) fn inner(size: usize) -> impl FnMut() {
    let mut service = service(size);
    move || {
        let answer = now(service.call(request()));
        let Ok(answer) = answer;
        read(answer);
    }
}

/// Asks the cache, which has it.
pub(crate) fn ours(size: usize) -> impl FnMut() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let cdn = Cdn::new(64 << 20);
    let mut service = cdn.service(service(size));
    runtime.block_on(async {
        let Ok(answer) = service.call(request()).await;
        answer.into_body().collect().await.expect("a body");
        tokio::task::yield_now().await;
    });
    let mut hit = move || {
        // Nothing is spawned, but the clock is tokio's.
        let _inside = runtime.enter();
        let Ok(answer) = now(service.call(request()));
        read(answer);
    };
    hit();
    assert_eq!(cdn.stats().hits, 1, "it has it");
    hit
}

/// What a future gives that has nothing to wait for.
fn now<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// Takes the body as a server would.
fn read<B: hyper::body::Body<Data = Bytes> + Unpin>(answer: Response<B>) {
    let (head, mut body) = answer.into_parts();
    black_box(head);
    let mut length = 0;
    while let Some(Ok(frame)) = now(body.frame()) {
        length += frame.data_ref().map_or(0, Bytes::len);
    }
    black_box(length);
}
