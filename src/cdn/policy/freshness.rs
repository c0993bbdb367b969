//! How long a response is fresh, and how old it is (RFC 9111, section 4.2).

use std::time::Duration;

use http::{
    HeaderMap, StatusCode,
    header::{DATE, EXPIRES, LAST_MODIFIED, SET_COOKIE},
};

use super::{Moment, Policy, status};
use crate::cdn::field::{
    cache_control::{Delta, ResponseDirectives},
    date::{DateField, Seconds, seconds},
    delta,
};

/// How long a response is fresh from when it was generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// The response says so. What it says may make no sense: then it is stale (section 4.2.1).
    Explicit(Duration),
    /// A guess of ours (section 4.2.2).
    Heuristic(Duration),
    /// Nothing says.
    Unknown,
}

impl Lifetime {
    pub(super) fn duration(self) -> Duration {
        match self {
            Self::Explicit(lifetime) | Self::Heuristic(lifetime) => lifetime,
            Self::Unknown => Duration::ZERO,
        }
    }

    pub(super) fn is_explicit(self) -> bool {
        matches!(self, Self::Explicit(_))
    }
}

impl Policy {
    /// The freshness lifetime. With a targeted field, `Expires` does not count (RFC 9213, section 2.2).
    pub(super) fn lifetime(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        directives: &ResponseDirectives,
        is_targeted: bool,
        received: Moment,
    ) -> Lifetime {
        let now = seconds(received.wall);
        // An invalid Date counts as the time of receipt (RFC 9110, section 6.6.1).
        let date = DateField::read(headers, &DATE, now).date().unwrap_or(now);
        let lifetime = explicit(headers, directives, is_targeted, date, now)
            .map(Lifetime::Explicit)
            .or_else(|| {
                self.heuristic(status, headers, directives.public, date, now).map(Lifetime::Heuristic)
            })
            .unwrap_or(Lifetime::Unknown);
        match (lifetime, self.max_ttl) {
            (Lifetime::Explicit(lifetime), Some(most)) => Lifetime::Explicit(lifetime.min(most)),
            (Lifetime::Heuristic(lifetime), Some(most)) => Lifetime::Heuristic(lifetime.min(most)),
            _ => lifetime,
        }
    }

    fn heuristic(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        is_public: bool,
        date: Seconds,
        now: Seconds,
    ) -> Option<Duration> {
        if headers.contains_key(SET_COOKIE) {
            return None;
        }
        if let Some(ttl) = self.negative_ttl.filter(|_| status::is_negative(status)) {
            return Some(ttl);
        }
        if !is_public && !status::is_heuristically_cacheable(status) {
            return None;
        }
        let modified =
            DateField::read(headers, &LAST_MODIFIED, now).date().filter(|_| self.heuristic_percent > 0);
        let since = modified.map(|modified| u64::try_from(date.saturating_sub(modified)).unwrap_or(0));
        let guess = since.map(|since| {
            let share = u128::from(since) * u128::from(self.heuristic_percent) / 100;
            Duration::from_secs(u64::try_from(share).unwrap_or(u64::MAX)).min(self.heuristic_limit)
        });
        guess.or(self.fallback_ttl)
    }
}

fn explicit(
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    is_targeted: bool,
    date: Seconds,
    now: Seconds,
) -> Option<Duration> {
    let delta = if directives.s_maxage == Delta::Absent { directives.max_age } else { directives.s_maxage };
    match delta {
        Delta::Seconds(seconds) => return Some(Duration::from_secs(seconds)),
        Delta::Invalid => return Some(Duration::ZERO),
        Delta::Absent => {}
    }
    if is_targeted {
        return None;
    }
    match DateField::read(headers, &EXPIRES, now) {
        DateField::Absent => None,
        // "A cache recipient MUST interpret invalid date formats, especially the value 0, as representing a
        // time in the past."
        DateField::Invalid => Some(Duration::ZERO),
        DateField::Date(expires) => {
            let lifetime = u64::try_from(expires.saturating_sub(date)).unwrap_or(0);
            Some(Duration::from_secs(lifetime.min(delta::MOST)))
        }
    }
}

/// How old a response was when it came (section 4.2.3).
pub(super) fn initial_age(headers: &HeaderMap, sent: Moment, received: Moment) -> Duration {
    let now = seconds(received.wall);
    let date = DateField::read(headers, &DATE, now).date().unwrap_or(now);
    let apparent_age = Duration::from_secs(u64::try_from(now.saturating_sub(date)).unwrap_or(0));
    let response_delay = received.since(sent.instant);
    let corrected_age = Duration::from_secs(delta::age(headers)).saturating_add(response_delay);
    apparent_age.max(corrected_age)
}
