//! The cookie: what it says, how it is signed, and when it is believed.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
    time::{Duration, SystemTime},
};

use hmac::Mac;
use http::HeaderValue;

use super::{
    base64,
    build::CookieBuilder,
    keys::{CookieKeys, Key, Purpose},
};
use crate::cluster::NodeId;

/// The first byte of every cookie.
const VERSION: u8 = 1;

/// What is signed: version, key, pool, node, issued at, seconds from then to the last renewal.
const BODY: usize = 1 + 4 + 4 + 8 + 8 + 4;

/// 128 bits of HMAC-SHA-256.
const MAC: usize = 16;

/// A multiple of three: its base64 has no bits to spare, so that each cookie has one spelling.
const COOKIE: usize = BODY + MAC;

/// How far the clocks of two proxies may be apart, in seconds.
const SKEW: u64 = 60;

/// What browsers cut longer lives down to, in seconds: 400 days.
const LONGEST_AGE: u64 = 400 * 24 * 60 * 60;

/// A node, as a cookie names it: a keyed hash of the pool and the node's id.
///
/// Who does not have the key learns nothing of the id from it, but may see that two clients are on the same node.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeTag([u8; 8]);

impl fmt::Debug for NodeTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeTag({:016x})", u64::from_be_bytes(self.0))
    }
}

/// What a cookie that was believed says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    node: NodeTag,
    /// In seconds after the Unix epoch.
    issued_at: u64,
    is_due: bool,
}

impl Pin {
    /// The node that the client belongs to.
    pub fn node(&self) -> NodeTag {
        self.node
    }

    /// Whether the cookie should be [renewed](StickyCookie::renew): half of the time that it may be idle has passed.
    pub fn is_due(&self) -> bool {
        self.is_due
    }
}

/// Why a cookie was not believed. Its request is treated as if it had brought none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// It is no cookie of this kind, or of a later version of it.
    #[error("malformed")]
    Malformed,
    /// It names a key that is not among ours.
    #[error("signed with an unknown key")]
    UnknownKey,
    /// Its signature is not ours.
    #[error("forged")]
    Forged,
    /// It was issued for another pool.
    #[error("issued for another pool")]
    ForeignPool,
    /// It was issued or renewed more than a minute in the future.
    #[error("dated in the future")]
    FutureDated,
    /// It was not used for too long.
    #[error("idle for too long")]
    Idle,
    /// It was issued too long ago.
    #[error("too old")]
    Aged,
    /// The request has several cookies of the name.
    #[error("there several times")]
    Duplicated,
    /// The request has more cookies than are looked through: 16 KiB.
    #[error("among too many cookies")]
    Oversized,
}

impl Rejected {
    pub(super) const COUNT: usize = Self::Oversized as usize + 1;
}

/// Which requests from other sites bring the cookie along (RFC 6265bis, section 5.6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SameSite {
    /// None.
    Strict,
    /// Those for a page that a link leads to.
    #[default]
    Lax,
    /// All. For what is embedded in other sites.
    None,
}

/// A signed cookie that says which node a client belongs to.
///
/// It names the node by a keyed hash, says when it was issued and last renewed, and for which pool, all signed with
/// HMAC-SHA-256 cut to 128 bits. This is the pure part: it is told the time, and looks at no request.
///
/// The cookie is 60 letters of base64url. Verifying it costs two blocks of SHA-256.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use buttress::sticky::{CookieKeys, Rejected, StickyCookie};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cookie = StickyCookie::new("shop", CookieKeys::new([[7; 32]])?)?;
/// assert_eq!(cookie.name(), "__Host-shop");
///
/// let now = SystemTime::now();
/// let value = cookie.issue(&"web-1".into(), now);
/// let pin = cookie.verify(value.as_bytes(), now)?;
/// assert!(cookie.tags(&"web-1".into()).any(|tag| tag == pin.node()));
///
/// let next_week = now + Duration::from_secs(7 * 24 * 60 * 60);
/// assert_eq!(cookie.verify(value.as_bytes(), next_week), Err(Rejected::Aged));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct StickyCookie(Arc<Settings>);

pub(super) struct Settings {
    pub(super) name: String,
    pub(super) pool: String,
    /// The first signs.
    pub(super) keys: Vec<PoolKey>,
    /// What follows the value in `Set-Cookie`.
    pub(super) attributes: String,
    /// Whether browsers keep it when they are closed.
    pub(super) is_persistent: bool,
    /// Whether the nodes get to see it.
    pub(super) is_passed_on: bool,
    /// In seconds, as what follows.
    pub(super) max_idle: u64,
    pub(super) max_life: u64,
}

pub(super) struct PoolKey {
    key: Key,
    tag: [u8; 4],
}

impl PoolKey {
    /// One for each of `keys`, in their order.
    pub(super) fn all(keys: &CookieKeys, pool: &str) -> Vec<Self> {
        let tag = |key: &Key| key.short(Purpose::Pool, &[pool.as_bytes()]);
        keys.iter().map(|key| Self { key: key.clone(), tag: tag(key) }).collect()
    }
}

impl StickyCookie {
    /// A cookie for the nodes of `pool`, with the settings that suit most: see [`builder`](Self::builder).
    ///
    /// # Errors
    /// If the pool's name cannot be part of a cookie's name.
    pub fn new(pool: impl Into<String>, keys: CookieKeys) -> Result<Self, super::CookieError> {
        Self::builder(pool, keys).build()
    }

    /// Starts a cookie for the nodes of `pool`.
    ///
    /// What was issued for one pool means nothing to another, whatever keys they use. Clients see the pool's name, as
    /// the cookie is named after it unless [told otherwise](CookieBuilder::name).
    pub fn builder(pool: impl Into<String>, keys: CookieKeys) -> CookieBuilder {
        CookieBuilder::new(pool.into(), keys)
    }

    pub(super) fn with(settings: Settings) -> Self {
        Self(Arc::new(settings))
    }

    /// The cookie's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn is_passed_on(&self) -> bool {
        self.0.is_passed_on
    }

    /// The tags of a node, one for each key, the signing one's first.
    pub fn tags(&self, node: &NodeId) -> impl Iterator<Item = NodeTag> {
        self.0.keys.iter().map(|key| self.0.tag(key, node))
    }

    /// The value of a new cookie, issued at `now`.
    pub fn issue(&self, node: &NodeId, now: SystemTime) -> String {
        let now = seconds(now);
        self.0.sign(node, now, now)
    }

    /// The value of a cookie that takes the place of the one that said `pin`: its life began when that was issued.
    pub fn renew(&self, node: &NodeId, pin: &Pin, now: SystemTime) -> String {
        self.0.sign(node, pin.issued_at, seconds(now))
    }

    /// Says where a cookie's value sends its client, if it is believed.
    ///
    /// Takes constant time to compare signatures, and allocates nothing.
    ///
    /// # Errors
    /// If it is not believed.
    pub fn verify(&self, value: &[u8], now: SystemTime) -> Result<Pin, Rejected> {
        self.0.verify(value, seconds(now))
    }

    /// A `Set-Cookie` field for a new cookie, or for one that replaces the one that said `pin`.
    pub(super) fn set(&self, node: &NodeId, pin: Option<&Pin>, now: SystemTime) -> Option<HeaderValue> {
        let Settings { name, attributes, is_persistent, max_idle, max_life, .. } = &*self.0;
        let value = pin.map_or_else(|| self.issue(node, now), |pin| self.renew(node, pin, now));
        let mut line = format!("{name}={value}{attributes}");
        if *is_persistent {
            let age = pin.map_or(0, |pin| seconds(now).saturating_sub(pin.issued_at));
            let left = max_life.saturating_sub(age).min(*max_idle).min(LONGEST_AGE);
            let _ = write!(line, "; Max-Age={left}");
        }
        HeaderValue::try_from(line).ok()
    }
}

impl Settings {
    fn sign(&self, node: &NodeId, issued_at: u64, seen_at: u64) -> String {
        // There always is one.
        let Some(key) = self.keys.first() else { return String::new() };
        let since = u32::try_from(seen_at.saturating_sub(issued_at)).unwrap_or(u32::MAX);
        let mut cookie = Vec::with_capacity(COOKIE);
        for part in [
            &[VERSION][..],
            &key.key.id,
            &key.tag,
            &self.tag(key, node).0,
            &issued_at.to_be_bytes(),
            &since.to_be_bytes(),
        ] {
            cookie.extend_from_slice(part);
        }
        let mac: [u8; MAC] = key.key.short(Purpose::Cookie, &[&cookie]);
        cookie.extend_from_slice(&mac);
        base64::encode(&cookie)
    }

    fn verify(&self, value: &[u8], now: u64) -> Result<Pin, Rejected> {
        let cookie: [u8; COOKIE] = base64::decode(value).ok_or(Rejected::Malformed)?;
        let (body, mac) = cookie.split_at(BODY);
        let said = Body::read(body).ok_or(Rejected::Malformed)?;
        let key = self.keys.iter().find(|key| key.key.id == said.key).ok_or(Rejected::UnknownKey)?;
        let expected = key.key.hash(Purpose::Cookie, &[body]);
        expected.verify_truncated_left(mac).map_err(|_| Rejected::Forged)?;

        // From here on, it says what one of us wrote.
        if said.pool != key.tag {
            return Err(Rejected::ForeignPool);
        }
        let seen_at = said.issued_at.saturating_add(u64::from(said.since));
        if seen_at > now.saturating_add(SKEW) {
            return Err(Rejected::FutureDated);
        }
        if now.saturating_sub(said.issued_at) > self.max_life {
            return Err(Rejected::Aged);
        }
        let idle = now.saturating_sub(seen_at);
        if idle > self.max_idle {
            return Err(Rejected::Idle);
        }
        Ok(Pin { node: said.node, issued_at: said.issued_at, is_due: idle > self.max_idle / 2 })
    }

    fn tag(&self, key: &PoolKey, node: &NodeId) -> NodeTag {
        let length = (self.pool.len() as u64).to_be_bytes();
        let parts = [&length, self.pool.as_bytes(), node.as_str().as_bytes()];
        NodeTag(key.key.short(Purpose::Node, &parts))
    }
}

impl fmt::Debug for StickyCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StickyCookie")
            .field("name", &self.0.name)
            .field("pool", &self.0.pool)
            .field("keys", &self.0.keys.len())
            .field("max_idle", &Duration::from_secs(self.0.max_idle))
            .field("max_life", &Duration::from_secs(self.0.max_life))
            .finish_non_exhaustive()
    }
}

/// What is signed, as it was read.
struct Body {
    key: [u8; 4],
    pool: [u8; 4],
    node: NodeTag,
    issued_at: u64,
    since: u32,
}

impl Body {
    fn read(mut rest: &[u8]) -> Option<Self> {
        let rest = &mut rest;
        let [VERSION] = take(rest)? else { return None };
        Some(Self {
            key: take(rest)?,
            pool: take(rest)?,
            node: NodeTag(take(rest)?),
            issued_at: u64::from_be_bytes(take(rest)?),
            since: u32::from_be_bytes(take(rest)?),
        })
    }
}

/// The next bytes of `rest`.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (next, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*next)
}

/// Seconds after the Unix epoch; 0 before it.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
