//! A service behind a cache.

use std::{
    error::Error,
    fmt,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use super::{Body, Cdn, future::ResponseFuture};

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
        let _ = request;
        todo!()
    }
}
