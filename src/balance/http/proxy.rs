//! What a client is told when no node gave an answer.

use std::time::Duration;

use http::StatusCode;

use crate::{balance::Error, forward::ProxyError};

/// When to come back where there is no better guess.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl<E: ProxyError> ProxyError for Error<E> {
    fn status(&self) -> StatusCode {
        match self {
            Self::Node { source, .. } => source.status(),
            Self::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Node { source, .. } => source.retry_after(),
            Self::Timeout { .. } => None,
            _ => Some(RETRY_AFTER),
        }
    }
}
