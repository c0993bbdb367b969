//! Which HTTP requests may be sent again, and how.

use std::time::Instant;

use bytes::Bytes;
use http::{Request, header, request::Parts};
use http_body::Body;

use crate::{
    balance::Repeat,
    cluster::FailureKind,
    forward::{Replay, ReplayBody},
    time::Deadline,
};

/// How much of a request body is remembered for a second attempt, unless set.
const LIMIT: usize = 64 * 1024;

/// Repeats requests as RFC 9110 §9.2.2 allows: of any method when no connection came about, of idempotent methods after
/// any failure.
///
/// Bodies stream through while at most `limit` bytes are remembered; a request that has sent more cannot be repeated.
/// Requests for an upgrade are repeated only if no connection came about. A request is hedged only once its whole body is
/// remembered.
///
/// A [`Deadline`] among the extensions of a request is honoured.
#[derive(Clone, Copy, Debug)]
pub struct RepeatHttp {
    limit: usize,
}

impl RepeatHttp {
    /// Remembers at most 64 KiB of each body.
    pub const fn new() -> Self {
        Self { limit: LIMIT }
    }

    /// Sets how many bytes of a body are remembered.
    #[must_use]
    pub const fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }
}

impl Default for RepeatHttp {
    fn default() -> Self {
        Self::new()
    }
}

/// What is kept of a request that may be sent again.
#[derive(Debug)]
pub struct KeptRequest<B> {
    head: Parts,
    body: Replay<B>,
}

impl<B: Body<Data = Bytes>> Repeat<Request<B>> for RepeatHttp {
    type Attempt = Request<ReplayBody<B>>;
    type Kept = KeptRequest<B>;

    fn first(&self, request: Request<B>) -> (Self::Kept, Self::Attempt) {
        let (head, body) = request.into_parts();
        let (body, first) = Replay::start(body, self.limit);
        (KeptRequest { head: head.clone(), body }, Request::from_parts(head, first))
    }

    fn may_repeat(&self, kept: &Self::Kept, failure: FailureKind) -> bool {
        (failure == FailureKind::Connect || kept.is_idempotent()) && kept.body.can_replay()
    }

    fn may_hedge(&self, kept: &Self::Kept) -> bool {
        kept.is_idempotent() && kept.body.is_whole()
    }

    fn again(&self, kept: &mut Self::Kept) -> Option<Self::Attempt> {
        Some(Request::from_parts(kept.head.clone(), kept.body.attempt()?))
    }

    fn deadline(&self, kept: &Self::Kept) -> Option<Instant> {
        kept.head.extensions.get().map(|&Deadline(at)| at)
    }
}

impl<B> KeptRequest<B> {
    fn is_idempotent(&self) -> bool {
        self.head.method.is_idempotent() && !self.head.headers.contains_key(header::UPGRADE)
    }
}
