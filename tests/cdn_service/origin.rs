//! An origin that does as it is told, in this process.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use buttress::cdn::{self, Cdn, CdnService};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, body::Frame};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::UnboundedReceiverStream};
use tower::{BoxError, Service, ServiceExt};

pub(crate) type Sent = UnsyncBoxBody<Bytes, BoxError>;
pub(crate) type Answer = Result<Response<Sent>, BoxError>;
type Script = dyn Fn(Seen) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync;

/// A request as the origin saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Counted from 1.
    pub(crate) number: usize,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Panics when an instance is called that was not polled ready, or is called twice after having been polled once.
pub(crate) struct Origin {
    script: Arc<Script>,
    log: Arc<Mutex<Vec<Seen>>>,
    ready: bool,
}

impl Origin {
    pub(crate) fn new<F>(script: impl Fn(Seen) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self { script: Arc::new(move |seen| Box::pin(script(seen))), log: Arc::default(), ready: false }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.log.lock().unwrap().len()
    }
}

impl Clone for Origin {
    fn clone(&self) -> Self {
        Self { script: Arc::clone(&self.script), log: Arc::clone(&self.log), ready: false }
    }
}

impl Service<Request<Full<Bytes>>> for Origin {
    type Response = Response<Sent>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been polled ready");
        let mut log = self.log.lock().unwrap();
        let seen = Seen {
            number: log.len() + 1,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            headers: request.headers().clone(),
        };
        log.push(seen.clone());
        drop(log);
        (self.script)(seen)
    }
}

/// An answer with these fields.
pub(crate) fn answer(status: u16, headers: &[(&'static str, &str)], body: &'static str) -> Response<Sent> {
    let mut response = Response::new(Full::from(body).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(*name, value.parse().unwrap());
    }
    response
}

/// A body that is sent piece by piece, until the sender goes.
pub(crate) fn streamed(
    headers: &[(&'static str, &str)],
) -> (mpsc::UnboundedSender<Result<&'static str, BoxError>>, Response<Sent>) {
    let (sender, receiver) = mpsc::unbounded_channel::<Result<&'static str, BoxError>>();
    let stream = UnboundedReceiverStream::new(receiver)
        .map(|piece| piece.map(|piece| Frame::data(Bytes::from_static(piece.as_bytes()))));
    let mut response = answer(200, headers, "");
    *response.body_mut() = http_body_util::StreamBody::new(stream).boxed_unsync();
    (sender, response)
}

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    with(path, &[])
}

pub(crate) fn with(path: &str, headers: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::get(path).header("host", "example.com").body(Full::default()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

pub(crate) fn by(method: Method, path: &str) -> Request<Full<Bytes>> {
    let mut request = get(path);
    *request.method_mut() = method;
    request
}

/// What a client gets.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Result<String, cdn::BodyError>,
}

impl Got {
    pub(crate) fn text(&self) -> &str {
        self.body.as_ref().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// What the cache says it did.
    pub(crate) fn cache(&self) -> &str {
        self.header("cache-status").unwrap_or_default()
    }
}

pub(crate) async fn read(response: Response<cdn::Body>) -> Got {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map(|all| String::from_utf8(all.to_bytes().to_vec()).unwrap());
    Got { status: head.status.as_u16(), headers: head.headers, body }
}

/// A client of a cache in front of an origin.
#[derive(Clone, Debug)]
pub(crate) struct Client(pub(crate) CdnService<Origin>);

impl Client {
    pub(crate) fn new(cdn: &Cdn, origin: &Origin) -> Self {
        Self(cdn.service(origin.clone()))
    }

    pub(crate) async fn try_send(&self, request: Request<Full<Bytes>>) -> Result<Got, BoxError> {
        Ok(read(self.0.clone().oneshot(request).await?).await)
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Got {
        self.try_send(request).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        self.send(get(path)).await
    }
}

pub(crate) fn cdn() -> Cdn {
    Cdn::builder(64 << 20).clock(buttress::time::TokioClock).build()
}
