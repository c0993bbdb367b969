//! A service behind a cache.

use std::{
    error::Error,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use tower_service::Service;

use super::{Body, Cdn, future::ResponseFuture, look::Look, miss::Miss, pass::pass, policy::Forward};

/// A service behind a [`Cdn`].
///
/// It is always ready, as what is stored needs no service: on a miss a clone of the inner service is polled ready, and called.
/// Whatever is fetched for more than one client runs in a task of its own, so the service must be called within a tokio
/// runtime. Errors of the inner service keep their type; one that a stale response can stand in for is not passed on.
pub struct CdnService<S> {
    cdn: Cdn,
    inner: S,
}

impl<S> CdnService<S> {
    /// Puts `cdn` in front of a service.
    pub const fn new(cdn: Cdn, inner: S) -> Self {
        Self { cdn, inner }
    }

    /// The cache.
    pub const fn cdn(&self) -> &Cdn {
        &self.cdn
    }
}

impl<S: Clone> Clone for CdnService<S> {
    fn clone(&self) -> Self {
        Self { cdn: self.cdn.clone(), inner: self.inner.clone() }
    }
}

impl<S> fmt::Debug for CdnService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CdnService").field("cdn", &self.cdn).finish_non_exhaustive()
    }
}

impl<S, B, RB> Service<Request<B>> for CdnService<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone + Send + 'static,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body + Default + Send + 'static,
    RB: http_body::Body<Data = Bytes> + Send + 'static,
    RB::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Error>;

    /// Always ready: the service may not be needed.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S::Error> {
        let (parts, body) = request.into_parts();
        let shared = &self.cdn.shared;
        let forward = shared.policy(&parts).bypasses(&parts);
        // A body makes a `GET` mean something else than its URL says (RFC 9110, section 9.3.1).
        let has_body = !body.is_end_stream();
        let key = shared.store.keys().of(&parts).ok();
        let key = match (key, forward) {
            (Some(key), None) if !has_body => key,
            (key, forward) => {
                // What comes may be stored, unless it depends on the body.
                let key = key.filter(|_| parts.method == Method::POST || !has_body);
                let forward = forward.unwrap_or(Forward::Bypass);
                let passed = pass(Arc::clone(shared), self.inner.clone(), parts, body, key, forward);
                return ResponseFuture::slow(Box::pin(passed));
            }
        };
        let revalidate = |object| shared.revalidate::<S, B, RB>(|| self.inner.clone(), &parts, &key, object);
        match shared.look(&parts, &key, revalidate) {
            Look::Hit(response) => ResponseFuture::hit(response),
            Look::Miss(missing) => {
                let asked = shared.ask(parts, key);
                let miss = Miss { shared: Arc::clone(shared), service: self.inner.clone(), asked, body };
                ResponseFuture::slow(Box::pin(miss.run(missing)))
            }
        }
    }
}
