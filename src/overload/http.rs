//! Overload control for HTTP: terms from extensions, permits in bodies, 503 for what is turned away.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Error, Limit, LimitLayer, Limiter, Overloaded, Permit, Priority, ResponseFuture, Terms, TermsOf,
};
use crate::{
    balance::{
        Classify, Complete,
        http::{ClassifyHttp, OnBody},
    },
    time::Deadline,
};

/// Reads the [`Priority`] and the [`Deadline`] of a request from its extensions, where the application has put them.
///
/// Nothing is read from headers: a client that may say that it matters most will say so.
#[derive(Clone, Copy, Debug, Default)]
pub struct FromExtensions;

impl<B> TermsOf<Request<B>> for FromExtensions {
    fn terms(&self, request: &Request<B>) -> Terms {
        let extensions = request.extensions();
        Terms {
            priority: extensions.get::<Priority>().copied().unwrap_or_default(),
            deadline: extensions.get::<Deadline>().map(|deadline| deadline.0),
        }
    }
}

impl<S> Limit<S, FromExtensions, ClassifyHttp, OnBody> {
    /// Limits HTTP requests: as [`LimitLayer::http`].
    pub fn http(inner: S, limiter: Limiter) -> Self {
        Limit::new(inner, limiter).terms(FromExtensions).classify(ClassifyHttp).complete(OnBody)
    }
}

impl LimitLayer<FromExtensions, ClassifyHttp, OnBody> {
    /// A layer for HTTP: terms are [read from extensions](FromExtensions), answers judged by [`ClassifyHttp`], and a
    /// request is over when the response body is.
    ///
    /// So a client that reads slowly keeps its permit, and some that do so on purpose keep all of them: bound how long
    /// sending a body may take. Or, where bodies are in memory when the answer is there, let a request be over then:
    /// `.complete(OnResponse)`.
    ///
    /// With [`AnswerLayer`] around it, it fits axum's routers:
    ///
    /// ```
    /// use axum::{Router, body::Body, routing::get};
    /// use buttress::overload::{Gradient, LimitLayer, Limiter, Queue, http::AnswerLayer};
    /// use http::Request;
    /// use tower::{ServiceBuilder, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let limiter = Limiter::new(Gradient::default(), Queue::default());
    /// let limit = ServiceBuilder::new().layer(AnswerLayer).layer(LimitLayer::http(limiter));
    /// let app: Router = Router::new().route("/", get(|| async { "hello" })).layer(limit);
    /// let response = app.oneshot(Request::get("/").body(Body::empty())?).await?;
    /// assert_eq!(response.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn http(limiter: Limiter) -> Self {
        LimitLayer::new(limiter).terms(FromExtensions).classify(ClassifyHttp).complete(OnBody)
    }
}

/// Makes [responses](Overloaded::response) of what a [`Limit`] turns away, so that only the errors of its service are left.
#[derive(Clone, Debug)]
pub struct Answer<L>(L);

/// Puts an [`Answer`] around a [`Limit`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerLayer;

impl<L> Layer<L> for AnswerLayer {
    type Service = Answer<L>;

    fn layer(&self, limit: L) -> Answer<L> {
        Answer(limit)
    }
}

impl<S, Req, T, J, C, B> Service<Req> for Answer<Limit<S, T, J, C>>
where
    S: Service<Req> + Clone,
    T: TermsOf<Req>,
    J: Classify<S::Response, S::Error> + Clone,
    C: Complete<S::Response, Permit, Response = Response<B>> + Clone,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = AnswerFuture<ResponseFuture<S, Req, J, C>>;

    /// Always ready, as the limit is.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        AnswerFuture { call: self.0.call(request) }
    }
}

pin_project! {
    /// The answer of a limited service, or of its limit.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct AnswerFuture<F> {
        #[pin]
        call: F,
    }
}

impl<F, B, E> Future for AnswerFuture<F>
where
    F: Future<Output = Result<Response<B>, Error<E>>>,
    B: Default,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx).map(|result| match result {
            Ok(response) => Ok(response),
            Err(Error::Overloaded(overloaded)) => Ok(overloaded.response()),
            Err(Error::Service(error)) => Err(error),
        })
    }
}

impl Overloaded {
    /// `503 Service Unavailable`, with `Retry-After` (RFC 9110 section 10.2.3) and an empty body.
    pub fn response<B: Default>(&self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let seconds = HeaderValue::from(self.retry_after().as_secs());
        response.headers_mut().insert(RETRY_AFTER, seconds);
        response
    }
}

#[cfg(feature = "proxy")]
impl crate::forward::ProxyError for Overloaded {
    fn status(&self) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        Some(self.retry_after())
    }
}

#[cfg(feature = "proxy")]
impl<E: crate::forward::ProxyError> crate::forward::ProxyError for Error<E> {
    fn status(&self) -> StatusCode {
        match self {
            Self::Overloaded(overloaded) => overloaded.status(),
            Self::Service(error) => error.status(),
        }
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Overloaded(overloaded) => Some(overloaded.retry_after()),
            Self::Service(error) => error.retry_after(),
        }
    }
}
