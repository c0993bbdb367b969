//! What the cache did, told in `Cache-Status` (RFC 9211).

use std::io::{self, Write};

use http::{HeaderValue, StatusCode};

use super::Forward;
use crate::cdn::field::{delta::digits, is_tchar};

/// What the cache did with a request, as `Cache-Status` tells it (RFC 9211).
///
/// ```
/// use buttress::cdn::policy::{CacheStatus, Forward};
///
/// let hit = CacheStatus { hit: true, ttl: Some(57), ..CacheStatus::default() };
/// assert_eq!(hit.value("buttress"), "buttress; hit; ttl=57");
/// let miss = CacheStatus { fwd: Some(Forward::UriMiss), stored: true, ..CacheStatus::default() };
/// assert_eq!(miss.value("Node 7"), "\"Node 7\"; fwd=uri-miss; stored");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
#[allow(clippy::struct_excessive_bools, reason = "each is a parameter of its own")]
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
    /// More, for people: a token.
    pub detail: Option<&'static str>,
}

impl CacheStatus {
    /// The member for a cache of this name: a token, or else quoted. Characters that cannot stand in a
    /// structured field are left out.
    pub fn value(&self, name: &str) -> HeaderValue {
        // Nearly all fit, and take no memory but that of the value.
        let mut short = [0; 128];
        let mut rest = &mut short[..];
        let fits = self.write(name, &mut rest).is_ok();
        let left = rest.len();
        let value = if fits {
            HeaderValue::from_bytes(&short[..128 - left])
        } else {
            let mut long = Vec::new();
            // A vector takes everything.
            let _ = self.write(name, &mut long);
            HeaderValue::from_bytes(&long)
        };
        value.unwrap_or_else(|_| HeaderValue::from_static("cache"))
    }

    fn write(&self, name: &str, to: &mut impl Write) -> io::Result<()> {
        let is_token = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '*')
            && name.bytes().all(|b| is_tchar(b) || matches!(b, b':' | b'/'));
        if is_token {
            to.write_all(name.as_bytes())?;
        } else {
            quote(name, to)?;
        }
        if self.hit {
            to.write_all(b"; hit")?;
        }
        if let Some(fwd) = self.fwd {
            to.write_all(b"; fwd=")?;
            to.write_all(fwd.as_str().as_bytes())?;
        }
        if let Some(status) = self.fwd_status {
            to.write_all(b"; fwd-status=")?;
            to.write_all(status.as_str().as_bytes())?;
        }
        if let Some(ttl) = self.ttl {
            to.write_all(if ttl < 0 { &b"; ttl=-"[..] } else { b"; ttl=" })?;
            to.write_all(digits(ttl.unsigned_abs(), &mut [0; 20]))?;
        }
        if self.stored {
            to.write_all(b"; stored")?;
        }
        if self.collapsed {
            to.write_all(b"; collapsed")?;
        }
        if let Some(detail) = self.detail {
            to.write_all(b"; detail=")?;
            to.write_all(detail.as_bytes())?;
        }
        Ok(())
    }
}

fn quote(text: &str, to: &mut impl Write) -> io::Result<()> {
    to.write_all(b"\"")?;
    for b in text.bytes().filter(|b| matches!(b, b' '..=b'~')) {
        if matches!(b, b'"' | b'\\') {
            to.write_all(b"\\")?;
        }
        to.write_all(&[b])?;
    }
    to.write_all(b"\"")
}
