//! Requests that are not answered from the cache, whatever is in it.

use http::{
    Method,
    header::{IF_MATCH, IF_UNMODIFIED_SINCE, UPGRADE},
    request,
};

use super::{Policy, storable::has_body};
use crate::cdn::field::cache_control::RequestDirectives;

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

impl Forward {
    /// The token for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

impl Policy {
    /// Why a request goes to the origin without a look into the cache, if it does: its method is neither
    /// `GET` nor `HEAD`, it has a body, asks for another protocol, or has a condition that only the origin
    /// can tell (`If-Match`, `If-Unmodified-Since`).
    ///
    /// Its response may be stored all the same, if [`store`](Self::store) says so.
    pub fn bypasses(&self, request: &request::Parts) -> Option<Forward> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Some(Forward::Method);
        }
        let headers = &request.headers;
        let is_for_origin = headers.contains_key(UPGRADE)
            || headers.contains_key(IF_MATCH)
            || headers.contains_key(IF_UNMODIFIED_SINCE)
            || has_body(headers);
        is_for_origin.then_some(Forward::Bypass)
    }

    /// Whether nothing that comes of a request may be stored, because the client says so (`no-store`).
    pub fn refuses_to_store(&self, request: &request::Parts) -> bool {
        self.request_directives(request).no_store
    }

    /// Whether the request says `only-if-cached`: what cannot be answered from the cache is answered with 504
    /// (RFC 9111, section 5.2.1.7).
    pub fn only_if_cached(&self, request: &request::Parts) -> bool {
        self.obeys_clients && RequestDirectives::read(&request.headers).only_if_cached
    }
}
