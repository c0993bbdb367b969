use std::convert::Infallible;
use std::time::Duration;

use http::StatusCode;
use tower::BoxError;

use crate::causes::causes;
use crate::forward::{UpstreamError, UpstreamErrorKind};
use crate::overload::Overloaded;
use crate::route::Unmatched;

/// Says what a client is told when the inner service of a [`Proxy`](super::Proxy) fails.
///
/// Only the status goes out, with its usual name as the text: what the error says of addresses and inner workings
/// stays inside.
///
/// ```
/// use std::time::Duration;
/// use buttress::forward::ProxyError;
/// use http::StatusCode;
///
/// struct Full;
///
/// impl ProxyError for Full {
///     fn status(&self) -> StatusCode {
///         StatusCode::SERVICE_UNAVAILABLE
///     }
///
///     fn retry_after(&self) -> Option<Duration> {
///         Some(Duration::from_secs(1))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say which status a client gets",
    note = "implement `ProxyError` for it, or turn it into a `tower::BoxError`"
)]
pub trait ProxyError {
    /// The status of the answer: 502 when the server cannot be reached or breaks off, 503 when there is none to ask,
    /// 504 when it is too slow.
    fn status(&self) -> StatusCode;

    /// After which time a client may try again, for `Retry-After`.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

impl ProxyError for UpstreamError {
    fn status(&self) -> StatusCode {
        match self.kind() {
            UpstreamErrorKind::Connect | UpstreamErrorKind::Transport | UpstreamErrorKind::Protocol => {
                StatusCode::BAD_GATEWAY
            }
            UpstreamErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            UpstreamErrorKind::Request => StatusCode::BAD_REQUEST,
        }
    }
}

/// Looks for an [`UpstreamError`], an [`Unmatched`] or an [`Overloaded`] among the causes; anything else is a 502.
impl ProxyError for BoxError {
    fn status(&self) -> StatusCode {
        known_cause(self).map_or(StatusCode::BAD_GATEWAY, ProxyError::status)
    }

    fn retry_after(&self) -> Option<Duration> {
        known_cause(self)?.retry_after()
    }
}

fn known_cause(error: &BoxError) -> Option<&dyn ProxyError> {
    causes(&**error).find_map(|cause| {
        let upstream = cause.downcast_ref::<UpstreamError>().map(|error| error as &dyn ProxyError);
        let unmatched = || cause.downcast_ref::<Unmatched>().map(|error| error as &dyn ProxyError);
        let overloaded = || cause.downcast_ref::<Overloaded>().map(|error| error as &dyn ProxyError);
        upstream.or_else(unmatched).or_else(overloaded)
    })
}

impl ProxyError for Infallible {
    fn status(&self) -> StatusCode {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapped(#[source] UpstreamError);

    #[test]
    fn a_boxed_error_is_judged_by_its_cause() {
        let slow = UpstreamError::new(UpstreamErrorKind::Timeout, "too slow");
        assert_eq!(BoxError::from(Wrapped(slow)).status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(BoxError::from("anything").status(), StatusCode::BAD_GATEWAY);
        let slow = UpstreamError::new(UpstreamErrorKind::Timeout, "too slow");
        let wrapped = BoxError::from(std::io::Error::other(slow));
        assert_eq!(
            wrapped.status(),
            StatusCode::GATEWAY_TIMEOUT,
            "what an `io::Error` wraps is no source of it"
        );
    }

    #[tokio::test]
    async fn a_boxed_refusal_of_a_limiter_says_when_to_come_back() {
        use crate::overload::{Fixed, Limiter, Queue, Terms};

        let limiter = Limiter::new(Fixed::new(1).expect("a limit"), Queue::new(0, Duration::ZERO));
        let _permit = limiter.acquire(Terms::default()).await;
        let refused = limiter.acquire(Terms::default()).await.expect_err("there is room for one");
        let boxed = BoxError::from(refused);
        assert_eq!(boxed.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(boxed.retry_after().is_some());
    }
}
