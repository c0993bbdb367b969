//! Caches behind the cache: disk, and what many processes share.
//!
//! A [`Tier`] keeps values where memory does not reach: slower, larger, there after a restart or for other machines.
//! [`Tiered`] stacks them under a memory cache, with the loader at the bottom: what is found below is copied upwards,
//! what is written or removed changes in every tier.
//!
//! | tier | feature | what it is for |
//! |---|---|---|
//! | `DiskTier` | `disk` | a cache that is warm after a restart, larger than memory |
//! | `RedisTier` | `redis` | what one node has loaded, all have; an invalidation on one reaches the others |
//!
//! A tier that fails is a tier that misses. Whatever is wrong with it is counted, and the request goes on.

use std::{error::Error, fmt::Debug, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::broadcast;

#[cfg(any(feature = "disk", feature = "redis"))]
mod breaker;
#[cfg(feature = "disk")]
mod disk;
#[cfg(any(feature = "disk", feature = "redis"))]
mod envelope;
#[cfg(feature = "redis")]
mod redis;
mod tiered;

#[cfg(feature = "disk")]
pub use self::disk::{DiskError, DiskStats, DiskTier, DiskTierBuilder, Recovery};
#[cfg(feature = "redis")]
pub use self::redis::{InvalidRedis, RedisStats, RedisTier, RedisTierBuilder};
pub use self::tiered::{Incomplete, TierStats, Tiered, TieredBuilder};

/// Keeps values by key, somewhere slower and larger than memory.
///
/// What it returns is what was stored under this key, or nothing: a tier that cannot be sure has a miss. Values may be
/// gone at any time.
///
/// There are two ways to write. [`put`](Self::put) brings a new truth and holds against whatever is under way.
/// [`fill`](Self::fill) keeps a copy of what was read elsewhere after a miss here, and must change nothing if the key
/// was put or removed since: the [`Ticket`] of that miss says since when.
#[async_trait]
pub trait Tier<K: Sync, V: Send + Sync>: Send + Sync + Debug {
    /// What to call it in statistics.
    fn name(&self) -> &'static str;

    /// Whether other processes use the same entries. What is local to this process is cleared when it may have missed
    /// what others changed.
    fn is_shared(&self) -> bool;

    /// Looks a key up.
    ///
    /// # Errors
    /// If the tier does not answer, or not in time. Damaged data is a miss, not an error.
    async fn get(&self, key: &K) -> Result<Lookup<V>, TierError>;

    /// Looks many keys up, at once where the tier can. The answers are in the order of the keys.
    ///
    /// # Errors
    /// As for [`get`](Self::get); all of them fail together.
    async fn get_many(&self, keys: &[K]) -> Result<Vec<Lookup<V>>, TierError> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(self.get(key).await?);
        }
        Ok(found)
    }

    /// Keeps a value for at most `ttl` unless the key was changed since the miss that gave the ticket. Returns whether
    /// it was taken; maybe it is not yet visible then.
    ///
    /// # Errors
    /// If it was not.
    async fn fill(
        &self,
        key: &K,
        value: &V,
        ttl: Option<Duration>,
        ticket: Ticket,
    ) -> Result<bool, TierError>;

    /// Keeps a value for at most `ttl`, in place of what was there. Visible when it returns, to others as well.
    ///
    /// # Errors
    /// If it may not have happened: the tier may still have the value from before.
    async fn put(&self, key: &K, value: &V, ttl: Option<Duration>) -> Result<(), TierError>;

    /// Forgets a key. Done when it returns, for others as well.
    ///
    /// # Errors
    /// If it may not have happened: the tier may still have the value.
    async fn remove(&self, key: &K) -> Result<(), TierError>;

    /// Forgets all keys, those of other processes too.
    ///
    /// # Errors
    /// If it may not have happened, or the tier cannot do that.
    async fn clear(&self) -> Result<(), TierError> {
        Err(TierError::Unsupported("clear"))
    }

    /// What other processes change from now on, if there are others and they tell.
    fn notices(&self) -> Option<broadcast::Receiver<Notice<K>>> {
        None
    }
}

/// What a tier knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<V> {
    /// It has a value.
    Hit {
        /// The value.
        value: V,
        /// For how long it may still be used. `None`: it does not expire.
        ttl: Option<Duration>,
    },
    /// It has none that can be used. The ticket is for filling it.
    Miss(Ticket),
}

/// Remembers when a miss was, in whatever way its tier understands. Opaque to all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticket(pub Bytes);

/// What another process did to the entries of a shared tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice<K> {
    /// It changed or removed the value of this key.
    Changed(K),
    /// It cleared the tier.
    Cleared,
    /// Notices may have been lost until now: any key may have changed.
    Resumed,
}

/// Why a tier did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TierError {
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// It failed a moment ago and is left alone for a while.
    #[error("it failed a moment ago and is not asked for now")]
    Paused,
    /// It has too much to do.
    #[error("too much is waiting to be written")]
    Busy,
    /// The key or value is larger than the tier takes.
    #[error("{len} bytes are more than the limit of {limit}")]
    TooLarge {
        /// Its size in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The key or value cannot be turned into bytes.
    #[error("it cannot be serialised")]
    Encode(#[source] Box<dyn Error + Send + Sync>),
    /// The tier cannot do this at all.
    #[error("this tier has no `{0}`")]
    Unsupported(&'static str),
    /// It was closed.
    #[error("it is closed")]
    Closed,
    /// What the tier builds on failed.
    #[error("it failed: {0}")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

impl TierError {
    #[cfg(any(feature = "disk", feature = "redis"))]
    fn encode(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Encode(error.into())
    }

    /// What a tier of your own wraps its errors in.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}
