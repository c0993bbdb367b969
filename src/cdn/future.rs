//! The future of an answer.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;

use super::Body;

/// The answer of a service behind a [`Cdn`](super::Cdn).
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<E> {
    step: Step<E>,
}

enum Step<E> {
    /// On a hit there is nothing to wait for, and nothing to allocate.
    Hit(Option<Response<Body>>),
    Slow(Slow<E>),
}

pub(super) type Slow<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<E> ResponseFuture<E> {
    pub(super) const fn hit(response: Response<Body>) -> Self {
        Self { step: Step::Hit(Some(response)) }
    }

    pub(super) const fn slow(future: Slow<E>) -> Self {
        Self { step: Step::Slow(future) }
    }
}

// The only thing in it that is pinned is boxed.
impl<E> Unpin for ResponseFuture<E> {}

impl<E> Future for ResponseFuture<E> {
    type Output = Result<Response<Body>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.step {
            Step::Hit(response) => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
            Step::Slow(future) => future.as_mut().poll(cx),
        }
    }
}

impl<E> fmt::Debug for ResponseFuture<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
