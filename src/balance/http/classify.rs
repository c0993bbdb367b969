//! The verdict on an HTTP response.

use std::{error::Error, io};

use http::{Response, StatusCode};

use crate::{
    balance::Classify,
    cluster::{FailureKind, Verdict},
    overload::Overloaded,
};

/// Judges responses by their status and errors by their kind.
///
/// | answer | verdict |
/// |---|---|
/// | 5xx but for those below | failure: response |
/// | 503, 429 | failure: overloaded |
/// | 501, 505 and other 4xx | neutral: the request was at fault |
/// | others | success |
/// | error | failure of the [kind](NodeError) it shows |
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassifyHttp;

impl<B, E: NodeError> Classify<Response<B>, E> for ClassifyHttp {
    fn classify(&self, answer: Result<&Response<B>, &E>) -> Verdict {
        let status = match answer {
            Ok(response) => response.status(),
            Err(error) => return error.failure().map_or(Verdict::Neutral, Verdict::Failure),
        };
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                Verdict::Failure(FailureKind::Overloaded)
            }
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Verdict::Neutral,
            status if status.is_server_error() => Verdict::Failure(FailureKind::Response),
            status if status.is_client_error() => Verdict::Neutral,
            _ => Verdict::Success,
        }
    }
}

/// What an error of a node's service says about the node.
///
/// Implemented for every error: connection failures are recognised by the [`io::ErrorKind`] among the causes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `std::error::Error`, so it cannot be judged",
    note = "map the error of the node's service, or give `Balance` a verdict of your own with `classify`"
)]
pub trait NodeError {
    /// The kind of failure; `None` if it was not the node's.
    fn failure(&self) -> Option<FailureKind>;
}

impl<E: Error + 'static> NodeError for E {
    fn failure(&self) -> Option<FailureKind> {
        let mut cause: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(error) = cause {
            #[cfg(feature = "proxy")]
            if let Some(upstream) = error.downcast_ref::<crate::forward::UpstreamError>() {
                return upstream_failure(upstream);
            }
            #[cfg(feature = "proxy")]
            if error
                .downcast_ref::<hyper_util::client::legacy::Error>()
                .is_some_and(hyper_util::client::legacy::Error::is_connect)
            {
                return Some(FailureKind::Connect);
            }
            if error.is::<Overloaded>() {
                return Some(FailureKind::Overloaded);
            }
            if error.is::<tokio::time::error::Elapsed>() {
                return Some(FailureKind::Timeout);
            }
            if let Some(kind) = error.downcast_ref::<io::Error>().and_then(|error| io_failure(error.kind())) {
                return Some(kind);
            }
            cause = error.source();
        }
        Some(FailureKind::Transport)
    }
}

#[cfg(feature = "proxy")]
fn upstream_failure(error: &crate::forward::UpstreamError) -> Option<FailureKind> {
    use crate::forward::UpstreamErrorKind as Kind;
    match error.kind() {
        Kind::Connect => Some(FailureKind::Connect),
        Kind::Timeout => Some(FailureKind::Timeout),
        // The client's body broke off, or the request could not be sent as it is.
        Kind::Request => None,
        _ => Some(FailureKind::Transport),
    }
}

/// Only what connecting alone gives counts as a failed connection. (A host that becomes unreachable can be told to a
/// connection that stands.)
fn io_failure(kind: io::ErrorKind) -> Option<FailureKind> {
    match kind {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::AddrNotAvailable => Some(FailureKind::Connect),
        io::ErrorKind::TimedOut => Some(FailureKind::Timeout),
        _ => None,
    }
}
