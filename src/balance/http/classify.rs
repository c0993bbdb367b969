//! The verdict on an HTTP response.

use std::{error::Error, io, time::Duration};

use http::{HeaderValue, Response, StatusCode, header};

use crate::{
    balance::{Classify, RetryAfter},
    causes::causes,
    cluster::{FailureKind, Verdict},
    overload::Overloaded,
};

/// Judges responses by their status and errors by their kind.
///
/// | answer | verdict |
/// |---|---|
/// | 5xx but for those below | failure: response |
/// | 502, 504 | failure: gateway |
/// | 503 | failure: overloaded |
/// | 429 | failure: throttled |
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
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Verdict::Failure(FailureKind::Gateway),
            StatusCode::SERVICE_UNAVAILABLE => Verdict::Failure(FailureKind::Overloaded),
            StatusCode::TOO_MANY_REQUESTS => Verdict::Failure(FailureKind::Throttled),
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Verdict::Neutral,
            status if status.is_server_error() => Verdict::Failure(FailureKind::Response),
            status if status.is_client_error() => Verdict::Neutral,
            _ => Verdict::Success,
        }
    }

    fn retry_after(&self, answer: Result<&Response<B>, &E>) -> Option<RetryAfter> {
        parse_retry_after(answer.ok()?.headers().get(header::RETRY_AFTER)?)
    }
}

/// Seconds or a date (RFC 9110, section 10.2.3). More seconds than can be counted are that many.
fn parse_retry_after(value: &HeaderValue) -> Option<RetryAfter> {
    let text = value.to_str().ok()?.trim_ascii();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Nothing but digits fails only by being too large.
        return Some(RetryAfter::Delay(Duration::from_secs(text.parse().unwrap_or(u64::MAX))));
    }
    httpdate::parse_http_date(text).ok().map(RetryAfter::Date)
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
        for error in causes(self) {
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
            let io = error.downcast_ref::<io::Error>();
            if let Some(kind) = io.and_then(|error| io_failure(error.kind())) {
                return Some(kind);
            }
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn every_status_has_its_verdict() {
        use FailureKind::{Gateway, Overloaded, Response as Failed, Throttled};
        for status in 100..=999 {
            let status = StatusCode::from_u16(status).unwrap();
            let mut response = Response::new(());
            *response.status_mut() = status;
            let expected = match status.as_u16() {
                429 => Verdict::Failure(Throttled),
                400..500 | 501 | 505 => Verdict::Neutral,
                502 | 504 => Verdict::Failure(Gateway),
                503 => Verdict::Failure(Overloaded),
                500..600 => Verdict::Failure(Failed),
                _ => Verdict::Success,
            };
            let answer: Result<_, &io::Error> = Ok(&response);
            assert_eq!(ClassifyHttp.classify(answer), expected, "{status}");
        }
    }

    #[test]
    fn an_error_is_judged_by_what_stands_behind_it() {
        use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, ConnectionReset, TimedOut, UnexpectedEof};
        let table = [
            (ConnectionRefused, FailureKind::Connect),
            (AddrNotAvailable, FailureKind::Connect),
            (TimedOut, FailureKind::Timeout),
            (ConnectionReset, FailureKind::Transport),
            (UnexpectedEof, FailureKind::Transport),
        ];
        for (kind, expected) in table {
            let wrapped = io::Error::other(io::Error::other(io::Error::from(kind)));
            for error in [io::Error::from(kind), wrapped] {
                let answer: Result<&Response<()>, _> = Err(&error);
                assert_eq!(ClassifyHttp.classify(answer), Verdict::Failure(expected), "{error:?}");
            }
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_nonsense() {
        let parse = |text: &str| parse_retry_after(&HeaderValue::from_str(text).unwrap());
        let seconds = |seconds| Some(RetryAfter::Delay(Duration::from_secs(seconds)));
        assert_eq!(parse("0"), seconds(0));
        assert_eq!(parse(" 120 "), seconds(120));
        assert_eq!(parse("99999999999999999999999999"), seconds(u64::MAX));
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(RetryAfter::Date(date)));
        assert_eq!(parse("Sunday, 06-Nov-94 08:49:37 GMT"), Some(RetryAfter::Date(date)));
        for nonsense in ["", "-1", "+1", "1.5", "soon", "0x10", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
        assert_eq!(parse_retry_after(&HeaderValue::from_bytes(b"\xff1").unwrap()), None);
    }
}
