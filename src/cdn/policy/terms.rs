//! The terms on which a response may be used.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header::SET_COOKIE};

use super::{Moment, Policy, SetCookie, Unstorable, freshness::Lifetime, status};
use crate::cdn::field::{
    cache_control::{Delta, ResponseDirectives},
    surrogate, targeted,
};

/// What forbids to use a response that is stale; the later, the more strictly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Restraint {
    /// Nothing.
    None,
    /// `s-maxage`, which stands for `proxy-revalidate` (RFC 9111, section 5.2.2.10), but leaves room for
    /// windows that the response opens itself: `s-maxage=60, stale-while-revalidate=600` would make no sense
    /// otherwise.
    Implied,
    /// `must-revalidate` or `proxy-revalidate`.
    Revalidate,
    /// `no-cache`: not even while it is fresh.
    NoCache,
}

/// The terms on which a response may be used, as its fields set them.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) lifetime: Lifetime,
    pub(super) is_public: bool,
    pub(super) restraint: Restraint,
    pub(super) stale_while_revalidate: Duration,
    /// `None` if there is no word about it, which is not the same as none at all.
    pub(super) stale_if_error: Option<Duration>,
    pub(super) is_immutable: bool,
    pub(super) lets_share: bool,
    /// Fields of the response that are not to be kept.
    pub(super) unkept: Vec<HeaderName>,
}

impl Policy {
    /// Reads the terms of a response; or why it must not be stored on any.
    pub(super) fn terms(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        received: Moment,
    ) -> Result<Terms, Unstorable> {
        let (directives, is_targeted) = self.directives(headers);
        // "When a cache that implements the must-understand directive receives a response that includes it,
        // the cache SHOULD ignore the no-store directive if it understands and implements the status code's
        // caching requirements" (section 5.2.2.3).
        let is_understood = status::is_understood(status);
        if directives.must_understand && !is_understood {
            return Err(Unstorable::Status);
        }
        if directives.no_store && !directives.must_understand {
            return Err(Unstorable::NoStore);
        }
        if directives.private.is_all() {
            return Err(Unstorable::Private);
        }
        let lifetime = self.lifetime(status, headers, &directives, is_targeted, received);
        let mut unkept = [directives.private.fields(), directives.no_cache.fields()].concat();
        if headers.contains_key(SET_COOKIE) && !unkept.contains(&SET_COOKIE) {
            match self.set_cookie {
                SetCookie::Explicit if lifetime.is_explicit() => {}
                SetCookie::Explicit | SetCookie::Refuse => return Err(Unstorable::SetCookie),
                SetCookie::Strip => unkept.push(SET_COOKIE),
            }
        }
        let restraint = restraint(&directives);
        let window = |delta: Delta, ours: Duration| match delta {
            Delta::Absent
                if restraint == Restraint::None && !ours.is_zero() && !status::is_negative(status) =>
            {
                Some(ours)
            }
            Delta::Absent | Delta::Invalid => None,
            Delta::Seconds(seconds) => Some(Duration::from_secs(seconds)),
        };
        let while_revalidate = window(directives.stale_while_revalidate, self.stale_while_revalidate);
        Ok(Terms {
            lifetime,
            is_public: directives.public,
            restraint,
            stale_while_revalidate: while_revalidate.unwrap_or_default(),
            stale_if_error: window(directives.stale_if_error, self.stale_if_error),
            is_immutable: directives.immutable,
            lets_share: directives.lets_share,
            unkept,
        })
    }

    /// The directives that count, and whether they are those of a targeted field.
    fn directives(&self, headers: &HeaderMap) -> (ResponseDirectives, bool) {
        let targeted = self.targets.iter().find_map(|name| targeted::read(headers, name));
        let targeted = targeted.or_else(|| surrogate::read(headers).filter(|_| self.is_surrogate));
        targeted.map_or_else(|| (ResponseDirectives::read(headers), false), |directives| (directives, true))
    }
}

fn restraint(directives: &ResponseDirectives) -> Restraint {
    if directives.no_cache.is_all() {
        Restraint::NoCache
    } else if directives.must_revalidate || directives.proxy_revalidate {
        Restraint::Revalidate
    } else if directives.s_maxage != Delta::Absent {
        Restraint::Implied
    } else {
        Restraint::None
    }
}
