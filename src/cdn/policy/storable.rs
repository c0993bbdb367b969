//! Which responses may be stored (RFC 9111, section 3).

use http::{request, response};

use super::{Moment, Policy, Stored};

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unstorable {
    /// Answers to this method are not stored.
    #[error("method")]
    Method,
    /// The status is not final, not understood, or never cacheable.
    #[error("status")]
    Status,
    /// The response says `no-store`.
    #[error("no-store")]
    NoStore,
    /// The response is for one user only.
    #[error("private")]
    Private,
    /// The request says `no-store`.
    #[error("request-no-store")]
    RequestNoStore,
    /// The request has credentials, and the response does not say that it may be shared all the same.
    #[error("authorization")]
    Authorization,
    /// The response sets a cookie.
    #[error("set-cookie")]
    SetCookie,
    /// The response varies on what no request field tells.
    #[error("vary")]
    Vary,
    /// Nothing says how long the response is fresh, nor how it could be validated.
    #[error("no-freshness")]
    NoFreshness,
    /// A part of a representation that cannot be combined with others.
    #[error("partial")]
    Partial,
    /// What is in its fields contradicts itself.
    #[error("malformed")]
    Malformed,
}

impl Policy {
    /// What is to be stored of a response, besides its body; or why nothing is.
    ///
    /// `sent` is when the request went to the origin, `received` when the head of the response came back. An answer to
    /// `POST` that is storable serves later `GET` requests to the same URI.
    ///
    /// # Errors
    /// If the response must not be stored, or would be of no use.
    pub fn store(
        &self,
        request: &request::Parts,
        response: &response::Parts,
        sent: Moment,
        received: Moment,
    ) -> Result<Stored, Unstorable> {
        let _ = (request, response, sent, received);
        todo!()
    }
}
