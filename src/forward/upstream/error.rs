use std::error::Error;
use std::fmt;
use std::sync::Arc;

use tower::BoxError;

/// Why an [`Upstream`](super::Upstream) gave no answer.
#[derive(Clone, Debug)]
pub struct UpstreamError {
    kind: UpstreamErrorKind,
    source: Arc<dyn Error + Send + Sync>,
}

/// What went wrong, and whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpstreamErrorKind {
    /// No connection came about. The server has seen nothing of the request.
    Connect,
    /// The server did not begin to answer in time.
    Timeout,
    /// The connection broke before the answer began. The server may have acted on the request.
    Transport,
    /// The server's answer is not HTTP.
    Protocol,
    /// The request cannot be sent, or its body failed: not the server's fault.
    Request,
}

impl UpstreamError {
    pub(in crate::forward) fn new(kind: UpstreamErrorKind, source: impl Into<BoxError>) -> Self {
        Self { kind, source: source.into().into() }
    }

    pub(super) fn with_kind(self, kind: UpstreamErrorKind) -> Self {
        Self { kind, ..self }
    }

    pub(super) fn from_hyper(error: hyper::Error) -> Self {
        Self::new(kind_of(&error), error)
    }

    /// What went wrong.
    pub fn kind(&self) -> UpstreamErrorKind {
        self.kind
    }

    /// Whether no connection came about.
    pub fn is_connect(&self) -> bool {
        self.kind == UpstreamErrorKind::Connect
    }

    /// Whether the server did not answer in time.
    pub fn is_timeout(&self) -> bool {
        self.kind == UpstreamErrorKind::Timeout
    }

    /// Whether the connection broke before the answer began.
    pub fn is_transport(&self) -> bool {
        self.kind == UpstreamErrorKind::Transport
    }

    /// Whether the request or its sender is to blame, so that it must not count against the server.
    pub fn is_request(&self) -> bool {
        self.kind == UpstreamErrorKind::Request
    }

    /// Whether any request may be sent again: the server has certainly not seen it. Where this is false, whether a
    /// second try does harm depends on the method.
    pub fn is_retryable(&self) -> bool {
        self.is_connect()
    }
}

fn kind_of(error: &hyper::Error) -> UpstreamErrorKind {
    if error.is_user() {
        UpstreamErrorKind::Request
    } else if error.is_parse() {
        UpstreamErrorKind::Protocol
    } else {
        UpstreamErrorKind::Transport
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            UpstreamErrorKind::Connect => "cannot connect to the server",
            UpstreamErrorKind::Timeout => "the server did not begin to answer in time",
            UpstreamErrorKind::Transport => "the connection to the server broke before its answer",
            UpstreamErrorKind::Protocol => "the server's answer is not HTTP",
            UpstreamErrorKind::Request => "the request could not be sent to its end",
        })
    }
}

impl Error for UpstreamError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
