use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use http::StatusCode;
use tower::BoxError;

use crate::forward::{UpstreamError, UpstreamErrorKind};
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

/// Looks for an [`UpstreamError`] or an [`Unmatched`] among the causes; anything else is a 502.
impl ProxyError for BoxError {
    fn status(&self) -> StatusCode {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&**self);
        while let Some(error) = cause {
            if let Some(upstream) = error.downcast_ref::<UpstreamError>() {
                return upstream.status();
            }
            if let Some(unmatched) = error.downcast_ref::<Unmatched>() {
                return unmatched.status();
            }
            cause = error.source();
        }
        StatusCode::BAD_GATEWAY
    }
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
    }
}
