//! How long entries live: the settings, and the timers that free what is over.
//!
//! Two things are kept apart. *Nobody gets a value whose time is over*: a lookup compares the deadline of its entry with the
//! clock. *Its memory comes back*: a [timer wheel](wheel) for each shard names the entries to be taken out, a few with each
//! write, and the rest by maintenance.

mod aging;
mod alarm;
mod timers;
mod wheel;

use std::time::Duration;

pub(crate) use self::{
    aging::Aging,
    alarm::Alarm,
    timers::{Life, Timers},
    wheel::NEVER,
};
use crate::rng::Rng;

/// How long the entries of a cache live.
///
/// A value is never returned once its time is over, however late its memory is freed. Times are kept to the nanosecond,
/// and those of several centuries never end. Without any setting entries live until they are evicted.
///
/// ```
/// use std::time::Duration;
/// use buttress::cache::{Expiry, MemoryCache};
///
/// # fn main() -> Result<(), buttress::cache::InvalidJitter> {
/// // An hour at most, five minutes without a use; and not all of what was loaded together ends together.
/// let expiry = Expiry::new().ttl(Duration::from_secs(3600)).idle(Duration::from_secs(300)).jitter(0.1)?;
/// let cache: MemoryCache<u64, String> = MemoryCache::builder(10_000).expiry(expiry).build();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Expiry {
    ttl: Option<Duration>,
    idle: Option<Duration>,
    /// In parts of 2³².
    jitter: u64,
}

/// A jitter that is not a number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("a jitter of {0} makes no sense: give the share of the time to live that may be cut, from 0 to 1")]
pub struct InvalidJitter(f64);

impl Expiry {
    /// Entries live until they are evicted.
    pub const fn new() -> Self {
        Self { ttl: None, idle: None, jitter: 0 }
    }

    /// Sets how long a value lives from when it is put in, unless it is put in with a time to live of its own. With no
    /// time at all it is not kept.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets how long a value lives without being used. Its time to live ends it all the same.
    ///
    /// Uses within a millisecond, or within 1/64 of this time if that is shorter, may count as one at the time of the first: so a value
    /// that many threads ask for is not written to by each of them.
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// Sets which share of its time to live an entry may lose, so that entries put in together are not missed together.
    ///
    /// How much it loses follows from the hash of its key, evenly from nothing to this share: never twice the same in
    /// two caches, always the same in one.
    ///
    /// # Errors
    /// If `share` is not between 0 and 1.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the share is between 0 and 1"
    )]
    pub fn jitter(mut self, share: f64) -> Result<Self, InvalidJitter> {
        if !(0.0..=1.0).contains(&share) {
            return Err(InvalidJitter(share));
        }
        self.jitter = (share * (1_u64 << 32) as f64) as u64;
        Ok(self)
    }

    /// Whether every entry has a deadline.
    pub(crate) const fn for_all(&self) -> bool {
        self.ttl.is_some() || self.idle.is_some()
    }

    /// The time between a use and the deadline that follows from it.
    pub(crate) fn idle_nanos(&self) -> Option<u64> {
        self.idle.map(nanos)
    }

    /// How long an entry lives that is put in now, with this time to live in place of the cache's. `None`: it is
    /// not to be kept.
    pub(crate) fn life(&self, now: u64, hash: u64, ttl: Option<Duration>) -> Option<Life> {
        let ttl = ttl.or(self.ttl).map_or(NEVER, nanos);
        let idle = self.idle.map_or(NEVER, nanos);
        if ttl == 0 || idle == 0 {
            return None;
        }
        let end = if ttl == NEVER { NEVER } else { now.saturating_add(self.cut(ttl, hash)) };
        let limit = if idle == NEVER { NEVER } else { end };
        Some(Life { deadline: end.min(now.saturating_add(idle)), limit })
    }

    /// What the jitter leaves of a time to live: at least a nanosecond.
    fn cut(&self, ttl: u64, hash: u64) -> u64 {
        if self.jitter == 0 {
            return ttl;
        }
        let most = (u128::from(ttl) * u128::from(self.jitter)) >> 32;
        let cut = (most * u128::from(Rng::seeded(hash).next_u64())) >> 64;
        ttl.saturating_sub(u64::try_from(cut).unwrap_or(ttl)).max(1)
    }
}

/// Times too long to count never end.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests;
