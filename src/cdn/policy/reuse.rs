//! Whether a stored response may answer a request (RFC 9111, section 4).

use std::time::{Duration, Instant};

use http::{StatusCode, request};

use super::{Policy, Stored, stored::in_seconds, terms::Restraint};
use crate::cdn::field::cache_control::{Delta, RequestDirectives};

/// Whether a stored response may answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It may: it is fresh.
    Fresh {
        /// Its age in seconds.
        age: u64,
    },
    /// It may, although it is stale: the origin or the client allows it.
    Stale {
        /// Its age in seconds.
        age: u64,
        /// Whether it should be validated in the background (RFC 5861, section 3).
        revalidate: bool,
    },
    /// Only after the origin has been asked.
    Validate(Why),
}

/// Why a stored response cannot be used as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// It is stale, or says `no-cache`.
    Stale,
    /// The request asks for it.
    Request,
}

/// How the origin failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It cannot be reached, did not answer in time, or closed the connection.
    Unreachable,
    /// It answered with this status.
    Status(StatusCode),
}

impl Policy {
    /// Whether a stored response that [selects](Stored::selects) the request may answer it now.
    ///
    /// Takes no memory if the request has neither `Cache-Control` nor `Pragma`.
    pub fn reuse(&self, stored: &Stored, request: &request::Parts, now: impl Into<Instant>) -> Reuse {
        self.decide(stored, request, now.into(), true)
    }

    /// The same for a response that was softly purged: it counts as stale, even if it would be fresh.
    pub fn reuse_purged(&self, stored: &Stored, request: &request::Parts, now: impl Into<Instant>) -> Reuse {
        self.decide(stored, request, now.into(), false)
    }

    fn decide(&self, stored: &Stored, request: &request::Parts, now: Instant, may_be_fresh: bool) -> Reuse {
        let asks = self.request_directives(request);
        // "The no-cache request directive indicates that the client prefers a stored response not be used to
        // satisfy the request without successful validation on the origin server" (section 5.2.1.4).
        if asks.no_cache {
            return Reuse::Validate(Why::Request);
        }
        if stored.restraint == Restraint::NoCache {
            return Reuse::Validate(Why::Stale);
        }
        let current_age = stored.current_age(now);
        let age = in_seconds(current_age);
        let is_fresh = may_be_fresh && stored.lifetime > current_age;
        let is_unwanted = is_too_old(asks.max_age, current_age, is_fresh && stored.is_immutable)
            || is_too_stale_soon(asks.min_fresh, stored.lifetime.saturating_sub(current_age));
        if is_fresh {
            return if is_unwanted { Reuse::Validate(Why::Request) } else { Reuse::Fresh { age } };
        }
        let staleness = current_age.saturating_sub(stored.lifetime);
        if stored.restraint >= Restraint::Revalidate || is_unwanted {
            return Reuse::Validate(Why::Stale);
        }
        // "Unless the max-stale request directive is also present, the client is not willing to receive a
        // stale response" (section 5.2.1.1), and so with min-fresh.
        let wants_fresh = asks.max_age != Delta::Absent || asks.min_fresh != Delta::Absent;
        let max_stale = asks.max_stale.seconds().map(Duration::from_secs);
        let is_in_window =
            !stored.stale_while_revalidate.is_zero() && staleness <= stored.stale_while_revalidate;
        if is_in_window && !(wants_fresh && max_stale.is_none()) {
            return Reuse::Stale { age, revalidate: true };
        }
        if stored.restraint == Restraint::None && max_stale.is_some_and(|most| staleness <= most) {
            return Reuse::Stale { age, revalidate: false };
        }
        Reuse::Validate(Why::Stale)
    }

    /// The age of a stored response that may be used because the origin failed; `None` if the failure must be
    /// passed on.
    pub fn on_failure(
        &self,
        stored: &Stored,
        request: &request::Parts,
        now: impl Into<Instant>,
        failure: Failure,
    ) -> Option<u64> {
        let now = now.into();
        let asks = self.request_directives(request);
        // One failure is no better than another, and the newer one is true.
        if stored.restraint >= Restraint::Revalidate || asks.no_cache || stored.status.is_server_error() {
            return None;
        }
        let status = match failure {
            Failure::Unreachable => None,
            Failure::Status(status) => Some(status.as_u16()),
        };
        // "An error is any situation that would result in a 500, 502, 503, or 504 HTTP response status code
        // being returned" (RFC 5861, section 4).
        let is_error = matches!(status, None | Some(500 | 502 | 503 | 504));
        // What a gateway in front of the origin says when it cannot reach it, and "act as if the server
        // failed to respond" (RFC 9111, section 4.3.3). `s-maxage` forbids that, unless the response opens a
        // window itself.
        let is_unreachable = matches!(status, None | Some(502..=504)) && stored.restraint == Restraint::None;
        let asked = asks.stale_if_error.seconds().filter(|_| stored.restraint == Restraint::None);
        let window = stored.stale_if_error.max(asked.map(Duration::from_secs));
        let staleness = stored.staleness(now);
        // "When the cached response is more stale than the indicated amount, the cached response SHOULD NOT be
        // used" (RFC 5861, section 4): the window goes before what holds without one.
        let most = match window {
            Some(window) if is_error => window,
            _ if is_unreachable => self.stale_if_unreachable,
            _ => return None,
        };
        (staleness <= most && !most.is_zero()).then(|| stored.age(now))
    }

    pub(super) fn request_directives(&self, request: &request::Parts) -> RequestDirectives {
        if self.obeys_clients {
            RequestDirectives::read(&request.headers)
        } else {
            RequestDirectives::default()
        }
    }
}

/// Whether the client wants a younger one. `max-age=0` is what browsers send to reload, which an immutable
/// response need not heed while it is fresh (RFC 8246, section 2).
fn is_too_old(max_age: Delta, current_age: Duration, is_immutable: bool) -> bool {
    match max_age {
        Delta::Absent => false,
        Delta::Invalid => true,
        Delta::Seconds(0) => !is_immutable,
        Delta::Seconds(seconds) => current_age > Duration::from_secs(seconds),
    }
}

fn is_too_stale_soon(min_fresh: Delta, remaining: Duration) -> bool {
    match min_fresh {
        Delta::Absent => false,
        Delta::Invalid => true,
        Delta::Seconds(seconds) => remaining < Duration::from_secs(seconds),
    }
}
