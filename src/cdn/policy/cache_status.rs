//! What the cache did, told in `Cache-Status` (RFC 9211).

use http::{HeaderValue, StatusCode};

use super::Forward;

/// What the cache did with a request, as `Cache-Status` tells it (RFC 9211).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct CacheStatus {
    /// Answered without going forward.
    pub hit: bool,
    /// Why it went forward.
    pub fwd: Option<Forward>,
    /// What the next hop answered.
    pub fwd_status: Option<StatusCode>,
    /// The remaining freshness in seconds; negative if stale.
    pub ttl: Option<i64>,
    /// The answer was stored.
    pub stored: bool,
    /// The request was collapsed with others.
    pub collapsed: bool,
    /// More, for people.
    pub detail: Option<&'static str>,
}

impl CacheStatus {
    /// The member for a cache of this name, which is a token or else quoted.
    pub fn value(&self, name: &str) -> HeaderValue {
        let _ = name;
        todo!()
    }
}
