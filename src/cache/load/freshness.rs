//! Whether a value is still good: pure, and told the time.

use std::time::{Duration, Instant};

use crate::rng::Rng;

/// When a value was loaded, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// When it was there.
    pub(super) loaded: Instant,
    pub(super) ttl: Duration,
    /// How long the load took.
    pub(super) took: Duration,
    /// What its early expiry is drawn from.
    pub(super) dice: u64,
}

/// How long values may be served, and when they are loaded anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Freshness {
    pub(super) ttl: Duration,
    /// The largest share of the TTL that is taken off at random.
    pub(super) jitter: f64,
    /// The share of the TTL after which a value is refreshed. 1 and more: not before it has expired.
    pub(super) refresh_ahead: f64,
    /// β of early expiry; 0 for none.
    pub(super) early: f64,
    pub(super) while_revalidate: Duration,
    pub(super) if_error: Duration,
}

/// What to do with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    Serve,
    /// Serve it, and load another in the background.
    Refresh {
        /// Whether it has expired.
        stale: bool,
    },
    /// Load another first. This one [may stand in](Freshness::may_stand_in) if that fails.
    Load,
}

/// A draw from the distribution of early expiry is never larger than this: −ln 2⁻⁵³, rounded up.
const LARGEST_DRAW: f64 = 37.0;

impl Freshness {
    pub(super) const FOREVER: Self = Self {
        ttl: Duration::MAX,
        jitter: 0.0,
        refresh_ahead: 1.0,
        early: 0.0,
        while_revalidate: Duration::ZERO,
        if_error: Duration::ZERO,
    };

    /// Marks a value that is there now, after a load that took so long.
    pub(super) fn stamp(&self, now: Instant, took: Duration, rng: &mut Rng) -> Stamp {
        let ttl = scaled(self.ttl, 1.0 - self.jitter * rng.unit());
        Stamp { loaded: now, ttl, took, dice: rng.next_u64() }
    }

    /// How long after its load a value is of any use.
    pub(super) fn keep(&self, stamp: &Stamp) -> Duration {
        stamp.ttl.saturating_add(self.grace())
    }

    /// How long after its expiry a value may be served at all.
    fn grace(&self) -> Duration {
        self.while_revalidate.max(self.if_error)
    }

    /// Whether a value that could not be loaded anew may be served.
    pub(super) fn may_stand_in(&self, stamp: &Stamp, now: Instant) -> bool {
        let age = now.saturating_duration_since(stamp.loaded);
        age < stamp.ttl || age - stamp.ttl < self.grace()
    }

    /// What to do with a value now. `resting` after a failed load, until the next one may be tried.
    pub(super) fn advise(&self, stamp: &Stamp, now: Instant, resting: bool) -> Advice {
        let age = now.saturating_duration_since(stamp.loaded);
        if age < stamp.ttl {
            let due = age >= scaled(stamp.ttl, self.refresh_ahead) || self.is_early(stamp, stamp.ttl - age);
            return if due && !resting { Advice::Refresh { stale: false } } else { Advice::Serve };
        }
        let late = age - stamp.ttl;
        match late {
            late if resting && late < self.grace() => Advice::Serve,
            late if late < self.while_revalidate => Advice::Refresh { stale: true },
            _ => Advice::Load,
        }
    }

    /// Vattani, Chierichetti, Lowenstein: "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015: a value is loaded anew
    /// when `now − delta · beta · ln(rand) ≥ expiry`.
    ///
    /// With dice for each request, a value would be loaded the earlier, the more often it is asked for. So they are thrown
    /// once in each delta · beta, for all requests alike.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 37, and not negative")]
    fn is_early(&self, stamp: &Stamp, left: Duration) -> bool {
        let unit = stamp.took.as_secs_f64() * self.early;
        let steps = left.as_secs_f64() / unit;
        // Not a number if both are zero.
        if !(steps < LARGEST_DRAW) {
            return false;
        }
        let seed = stamp.dice ^ (steps as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let rand = 1.0 - Rng::seeded(seed).unit();
        steps <= -rand.ln()
    }
}

/// This share of a time; for ever stays for ever.
fn scaled(time: Duration, share: f64) -> Duration {
    if time == Duration::MAX {
        return time;
    }
    Duration::try_from_secs_f64(time.as_secs_f64() * share).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests;
