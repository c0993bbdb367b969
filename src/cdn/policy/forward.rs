//! Requests that are not answered from the cache, whatever is in it.

use http::request;

use super::Policy;

/// Why a request went forward: the `fwd` parameter of `Cache-Status` (RFC 9211, section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forward {
    /// The cache was told not to handle the request.
    Bypass,
    /// The method requires it.
    Method,
    /// Nothing is stored for the URI.
    UriMiss,
    /// Something is stored for the URI, but not for what `Vary` names.
    VaryMiss,
    /// Nothing that can be used is stored; the cache does not say which of the two.
    Miss,
    /// The request asked for it.
    Request,
    /// What is stored is stale.
    Stale,
    /// What is stored is not all that the request asks for.
    Partial,
}

impl Policy {
    /// Whether the request goes to the origin without a look into the cache: its method is neither `GET` nor `HEAD`, or it asks
    /// for another protocol.
    pub fn bypasses(&self, request: &request::Parts) -> Option<Forward> {
        let _ = request;
        todo!()
    }

    /// Whether the request says `only-if-cached`: what cannot be answered from the cache is answered with 504 (RFC 9111, section 5.2.1.7).
    pub fn only_if_cached(&self, request: &request::Parts) -> bool {
        let _ = request;
        todo!()
    }
}
