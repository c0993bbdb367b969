//! What a value looks like outside of this process, and the proof that it is the right one.
//!
//! All integers are little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 2 | magic, `bv` |
//! | 1 | version of this layout |
//! | 8 | xxh3 of all that follows |
//! | 8 | xxh3 of the schema's name |
//! | 8 | when it was stored, in milliseconds since the Unix epoch |
//! | 8 | when it expires, all bits set if never |
//! | 4 | length of the key |
//! | | the key, then the value, both as postcard |

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::xxh3_64;

use super::TierError;

const MAGIC: [u8; 2] = *b"bv";
const VERSION: u8 = 1;
/// Where the checksummed part begins.
const SUMMED: usize = 2 + 1 + 8;
const HEADER: usize = SUMMED + 8 + 8 + 8 + 4;
const NEVER: u64 = u64::MAX;

/// How far in the future a value may have been stored, in milliseconds: clocks of machines differ a little. Beyond it, the
/// clock was set back, and how old the value is nobody knows.
pub(super) const SKEW: u64 = 60_000;

/// Turns values into bytes that name their key, their schema and their time, and back.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    schema: u64,
    /// In bytes, of a whole envelope.
    limit: usize,
}

/// Why bytes hold no usable value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// Too short, or of the wrong checksum.
    Damaged,
    /// Of another layout, or of another type of value.
    Foreign,
    /// The value of another key.
    OtherKey,
    Expired,
    TooLarge,
}

/// A value that came out, and for how long it is good; `None` if it does not expire.
pub(super) type Opened<V> = (V, Option<Duration>);

impl Envelope {
    pub(super) fn new(schema: &str, limit: usize) -> Self {
        Self { schema: xxh3_64(schema.as_bytes()), limit }
    }

    /// The bytes of a key.
    pub(super) fn key<K: Serialize>(key: &K) -> Result<Vec<u8>, TierError> {
        postcard::to_stdvec(key).map_err(TierError::encode)
    }

    /// `now` in milliseconds since the Unix epoch.
    pub(super) fn seal<V: Serialize>(
        &self,
        key: &[u8],
        value: &V,
        now: u64,
        ttl: Option<Duration>,
    ) -> Result<Vec<u8>, TierError> {
        let expires = ttl.map_or(NEVER, |ttl| now.saturating_add(millis(ttl)).min(NEVER - 1));
        let key_len = u32::try_from(key.len())
            .map_err(|_| TierError::TooLarge { len: key.len(), limit: self.limit })?;
        let mut bytes = Vec::with_capacity(HEADER + key.len() + 64);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&self.schema.to_le_bytes());
        bytes.extend_from_slice(&now.to_le_bytes());
        bytes.extend_from_slice(&expires.to_le_bytes());
        bytes.extend_from_slice(&key_len.to_le_bytes());
        bytes.extend_from_slice(key);
        let mut bytes = postcard::to_extend(value, bytes).map_err(TierError::encode)?;
        if bytes.len() > self.limit {
            return Err(TierError::TooLarge { len: bytes.len(), limit: self.limit });
        }
        let sum = xxh3_64(&bytes[SUMMED..]);
        bytes[SUMMED - 8..SUMMED].copy_from_slice(&sum.to_le_bytes());
        Ok(bytes)
    }

    /// The value, if these bytes hold one of this key and this schema that is whole and still good.
    pub(super) fn open<V: DeserializeOwned>(
        &self,
        key: &[u8],
        bytes: &[u8],
        now: u64,
    ) -> Result<Opened<V>, Rejection> {
        if bytes.len() > self.limit {
            return Err(Rejection::TooLarge);
        }
        let Some((MAGIC, rest)) = take(bytes) else { return Err(Rejection::Damaged) };
        let Some(([VERSION], rest)) = take(rest) else { return Err(Rejection::Foreign) };
        let (sum, rest) = take(rest).ok_or(Rejection::Damaged)?;
        if u64::from_le_bytes(sum) != xxh3_64(rest) {
            return Err(Rejection::Damaged);
        }
        let (schema, rest) = take(rest).ok_or(Rejection::Damaged)?;
        if u64::from_le_bytes(schema) != self.schema {
            return Err(Rejection::Foreign);
        }
        let (stored, rest) = take(rest).ok_or(Rejection::Damaged)?;
        let (expires, rest) = take(rest).ok_or(Rejection::Damaged)?;
        let (key_len, rest) = take(rest).ok_or(Rejection::Damaged)?;
        let key_len = usize::try_from(u32::from_le_bytes(key_len)).map_err(|_| Rejection::Damaged)?;
        let (its_key, value) = rest.split_at_checked(key_len).ok_or(Rejection::Damaged)?;
        if its_key != key {
            return Err(Rejection::OtherKey);
        }
        let ttl = remaining(u64::from_le_bytes(stored), u64::from_le_bytes(expires), now)?;
        match postcard::take_from_bytes(value) {
            Ok((value, [])) => Ok((value, ttl)),
            // The sum is right, so this is what was stored: the type has changed, and its schema's name has not.
            _ => Err(Rejection::Foreign),
        }
    }
}

/// How long a value is still good: never longer than it was at first, wherever the clock went since.
fn remaining(stored: u64, expires: u64, now: u64) -> Result<Option<Duration>, Rejection> {
    if expires == NEVER {
        return Ok(None);
    }
    if now >= expires || stored > now.saturating_add(SKEW) {
        return Err(Rejection::Expired);
    }
    Ok(Some(Duration::from_millis((expires - now).min(expires.saturating_sub(stored)))))
}

/// Rounded up: what has a moment left is not stored as expired.
pub(super) fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk().map(|(head, rest)| (*head, rest))
}

#[cfg(test)]
mod tests;
