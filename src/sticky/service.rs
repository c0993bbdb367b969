//! The service that keeps clients with their nodes.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Pins, pins::Arrival};
use crate::balance::http::ServedBy;

/// Sends each request to the node that its client belongs to.
///
/// Goes around a [`sticky`](crate::balance::Balance::sticky) balancer, or around a [`Retry`](crate::balance::Retry) of one,
/// and below whatever answers for it when it fails, such as `forward::Proxy`. See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct Sticky<B> {
    inner: B,
    pins: Pins,
}

impl<B> Sticky<B> {
    /// Steers what `inner` sends.
    pub fn new(inner: B, pins: Pins) -> Self {
        Self { inner, pins }
    }
}

impl<B, Req, Res> Service<Request<Req>> for Sticky<B>
where
    B: Service<Request<Req>, Response = Response<Res>>,
{
    type Response = Response<Res>;
    type Error = B::Error;
    type Future = ResponseFuture<B::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), B::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Req>) -> Self::Future {
        let (arrival, affinity) = self.pins.arrive(&mut request);
        if let Some(affinity) = affinity {
            request.extensions_mut().insert(affinity);
        }
        ResponseFuture { answer: self.inner.call(request), pins: self.pins.clone(), arrival }
    }
}

pin_project! {
    /// The answer of the node that the client belongs to, or now does.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        answer: F,
        pins: Pins,
        arrival: Arrival,
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<F, Res, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<Res>, E>>,
{
    type Output = Result<Response<Res>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = ready!(this.answer.poll(cx));
        if let Ok(response) = &mut answer {
            match response.extensions_mut().remove() {
                Some(ServedBy(node)) => this.pins.answer(this.arrival, &node, response),
                None => this.pins.unmarked(),
            }
        }
        Poll::Ready(answer)
    }
}

/// Puts a [`Sticky`] around a service.
#[derive(Clone, Debug)]
pub struct StickyLayer(Pins);

impl StickyLayer {
    /// A layer whose services share these pins.
    pub fn new(pins: Pins) -> Self {
        Self(pins)
    }
}

impl<B> Layer<B> for StickyLayer {
    type Service = Sticky<B>;

    fn layer(&self, inner: B) -> Sticky<B> {
        Sticky::new(inner, self.0.clone())
    }
}
