//! Overload control for HTTP: terms from extensions, permits in bodies, 503 for what is turned away.

use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};

use super::{Error, Limit, LimitLayer, Limiter, Overloaded, Priority, Terms, TermsOf};
use crate::{
    balance::http::{ClassifyHttp, OnBody},
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
    /// Together with [`answer`], it fits axum's routers:
    ///
    /// ```
    /// use axum::{Router, body::Body, routing::get};
    /// use buttress::overload::{Gradient, LimitLayer, Limiter, Queue, http::answer};
    /// use http::Request;
    /// use tower::{ServiceBuilder, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let limiter = Limiter::new(Gradient::default(), Queue::default());
    /// let limit = ServiceBuilder::new().map_result(answer).layer(LimitLayer::http(limiter));
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

/// Makes a response of what was turned away, so that only the errors of the service are left.
///
/// # Errors
/// Those of the service.
pub fn answer<B: Default, E>(result: Result<Response<B>, Error<E>>) -> Result<Response<B>, E> {
    match result {
        Ok(response) => Ok(response),
        Err(Error::Overloaded(overloaded)) => Ok(overloaded.response()),
        Err(Error::Service(error)) => Err(error),
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
impl<E: crate::forward::ProxyError> crate::forward::ProxyError for Error<E> {
    fn status(&self) -> StatusCode {
        match self {
            Self::Overloaded(_) => StatusCode::SERVICE_UNAVAILABLE,
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
