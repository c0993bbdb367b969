//! Which requests may be sent more than once, and how.

use std::time::Instant;

use crate::cluster::FailureKind;

/// How a request is sent more than once, and when that is safe.
pub trait Repeat<Req> {
    /// What each attempt sends.
    type Attempt;
    /// What is kept of the request until an answer is there.
    type Kept;

    /// Takes a request in and gives its first attempt.
    fn first(&self, request: Req) -> (Self::Kept, Self::Attempt);

    /// Whether the request may be sent again after this failure. If in doubt it may not: a payment made twice is worse
    /// than one refused.
    fn may_repeat(&self, kept: &Self::Kept, failure: FailureKind) -> bool;

    /// Whether the request may be sent to a second node while a first one is at it. Unless said otherwise, it may if it
    /// may be [repeated](Self::may_repeat) after a timeout: then too, both may act on it.
    fn may_hedge(&self, kept: &Self::Kept) -> bool {
        self.may_repeat(kept, FailureKind::Timeout)
    }

    /// Another attempt, after one of the two above allowed it. `None` if it cannot be made after all.
    fn again(&self, kept: &mut Self::Kept) -> Option<Self::Attempt>;

    /// When the answer is no longer wanted, if the request says so.
    fn deadline(&self, kept: &Self::Kept) -> Option<Instant> {
        let _ = kept;
        None
    }
}

/// Sends clones of the request; `P` says which requests may be repeated after a failure that may have done something.
///
/// Failures before the node saw anything of it are always retried.
#[derive(Clone, Copy, Debug)]
pub struct Cloned<P> {
    is_idempotent: P,
}

impl<P> Cloned<P> {
    /// Repeats a request for which `is_idempotent` holds after any failure, and others only when no node has seen them.
    pub const fn new(is_idempotent: P) -> Self {
        Self { is_idempotent }
    }
}

impl<Req: Clone, P: Fn(&Req) -> bool> Repeat<Req> for Cloned<P> {
    type Attempt = Req;
    type Kept = Req;

    fn first(&self, request: Req) -> (Req, Req) {
        (request.clone(), request)
    }

    fn may_repeat(&self, kept: &Req, failure: FailureKind) -> bool {
        failure == FailureKind::Connect || (self.is_idempotent)(kept)
    }

    fn again(&self, kept: &mut Req) -> Option<Req> {
        Some(kept.clone())
    }
}
