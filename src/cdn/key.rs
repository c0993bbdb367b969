//! What a stored response is found by.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Uri, request, uri::Scheme};

/// How requests are told apart: what of a request belongs to the key of its response.
#[derive(Clone, Debug)]
#[must_use]
pub struct CacheKey {
    scheme: Scheme,
    headers: Vec<HeaderName>,
    longest: usize,
}

/// The key of a request. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    bytes: Bytes,
    /// The length of the URL, which the key begins with.
    url: u32,
}

/// Why a request has no key: it is not answered from the cache, nor is its answer stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unkeyed {
    /// The key would be longer than it may be.
    #[error("the key is too long")]
    TooLong,
    /// It names no host, several, or one that makes no sense.
    #[error("the host is ambiguous")]
    Host,
}

impl CacheKey {
    /// Scheme, host, path and query.
    pub fn new() -> Self {
        Self { scheme: Scheme::HTTP, headers: Vec::new(), longest: 8 << 10 }
    }

    /// The key of a request, whatever its method.
    pub(crate) fn of(&self, request: &request::Parts) -> Result<Key, Unkeyed> {
        let _ = request;
        todo!()
    }

    /// The key of a URL alone, for invalidations: without the fields and cookies that the keys of requests may have.
    /// `headers` tell the host if the URI does not.
    pub(crate) fn of_uri(&self, uri: &Uri, headers: &HeaderMap) -> Result<Key, Unkeyed> {
        let _ = (uri, headers);
        todo!()
    }
}

impl Default for CacheKey {
    fn default() -> Self {
        Self::new()
    }
}

impl Key {
    /// Scheme, host, path and query.
    pub(crate) fn url(&self) -> &[u8] {
        &self.bytes[..self.url as usize]
    }
}
