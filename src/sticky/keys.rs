//! The secrets that sign cookies.

use std::{fmt, sync::Arc};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The shortest secret that is taken, in bytes: as long as what HMAC-SHA-256 puts out (RFC 2104, section 3).
const MIN_SECRET: usize = 32;

/// The most keys at a time. A rotation needs two.
const MAX_KEYS: usize = 8;

/// The secrets that sign and verify sticky cookies: the first signs, all verify.
///
/// Every proxy in front of the same nodes needs the same keys. Make one with `openssl rand -base64 32` and keep it where
/// other secrets are kept; `Debug` shows none of it.
///
/// # Rotation
/// No client loses its node when each step has reached every proxy before the next:
///
/// 1. `[old, new]`: everybody understands the new key,
/// 2. `[new, old]`: everybody signs with it,
/// 3. `[new]`, when cookies have had the time to be renewed or to expire: [`max_idle`](super::CookieBuilder::max_idle), or
///    [`max_life`](super::CookieBuilder::max_life) if that is shorter.
///
/// ```
/// use buttress::sticky::CookieKeys;
///
/// # fn main() -> Result<(), buttress::sticky::KeyError> {
/// let (new, old) = ([1; 32], [2; 32]);
/// let keys = CookieKeys::new([new, old])?;
/// assert!(CookieKeys::new(["a password"]).is_err(), "too short");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CookieKeys(Arc<[Key]>);

/// Why secrets cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is none.
    #[error("there is no key: give at least one")]
    NoKey,
    /// One can be guessed.
    #[error("key {index} has {length} bytes: give it at least {MIN_SECRET} random ones")]
    TooShort {
        /// Which one, counted from 0.
        index: usize,
        /// How long it is, in bytes.
        length: usize,
    },
    /// One is there twice.
    #[error("key {index} is the same as one before it: give each secret once")]
    Repeated {
        /// Which one, counted from 0.
        index: usize,
    },
    /// There are more than any rotation needs.
    #[error("there are more than {MAX_KEYS} keys: drop those whose cookies have expired")]
    TooMany,
}

impl CookieKeys {
    /// Keys of these secrets, each of at least 32 bytes: the first signs, all verify.
    ///
    /// # Errors
    /// If there is none, or more than 8; if one is too short, or there twice.
    pub fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, KeyError> {
        let mut keys: Vec<Key> = Vec::new();
        for (index, secret) in secrets.into_iter().enumerate() {
            if index == MAX_KEYS {
                return Err(KeyError::TooMany);
            }
            let secret = secret.as_ref();
            let too_short = KeyError::TooShort { index, length: secret.len() };
            if secret.len() < MIN_SECRET {
                return Err(too_short);
            }
            let key = Key::new(secret).ok_or(too_short)?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(KeyError::Repeated { index });
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(KeyError::NoKey) } else { Ok(Self(keys.into())) }
    }

    /// The keys, of which there is at least one. The first signs.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }
}

impl fmt::Debug for CookieKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieKeys").field("keys", &self.0.len()).finish_non_exhaustive()
    }
}

/// What a hash is for. It is hashed in front of what is hashed, so that a hash for one purpose is none for another.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Purpose {
    KeyId = 1,
    Pool = 2,
    Node = 3,
    Cookie = 4,
}

/// One secret, ready to hash with.
#[derive(Clone)]
pub(super) struct Key {
    /// Names the secret in cookies. It follows from the secret, so that it is the same wherever that stands in the list.
    pub(super) id: [u8; 4],
    mac: Hmac<Sha256>,
}

impl Key {
    fn new(secret: &[u8]) -> Option<Self> {
        let mut key = Self { id: [0; 4], mac: Hmac::new_from_slice(secret).ok()? };
        key.id = key.short(Purpose::KeyId, &[]);
        Some(key)
    }

    /// Hashes `parts`, one after the other: only the last may vary in length.
    pub(super) fn hash(&self, purpose: Purpose, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(&[purpose as u8]);
        for part in parts {
            mac.update(part);
        }
        mac
    }

    /// The first bytes of a hash.
    pub(super) fn short<const N: usize>(&self, purpose: Purpose, parts: &[&[u8]]) -> [u8; N] {
        let hash = self.hash(purpose, parts).finalize().into_bytes();
        std::array::from_fn(|at| hash[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_secrets_are_refused_by_name() {
        let new = |secrets: &[&[u8]]| CookieKeys::new(secrets).map(|_| ()).unwrap_err();
        assert_eq!(new(&[]), KeyError::NoKey);
        assert_eq!(new(&[&[1; 32], &[2; 31]]), KeyError::TooShort { index: 1, length: 31 });
        assert_eq!(new(&[&[1; 32], &[2; 32], &[1; 32]]), KeyError::Repeated { index: 2 });
        assert_eq!(CookieKeys::new((0..9).map(|n| [n; 32])).unwrap_err(), KeyError::TooMany);
        assert!(CookieKeys::new((0..8).map(|n| [n; 32])).is_ok());
    }

    #[test]
    fn debug_shows_no_secret() {
        let keys = CookieKeys::new([b"0123456789abcdef0123456789abcdef"]).unwrap();
        assert_eq!(format!("{keys:?}"), "CookieKeys { keys: 1, .. }");
    }
}
