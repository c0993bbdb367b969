//! What header fields say: parsers over the bytes of all lines of a field, for input that is hostile.
//!
//! Each of them is lenient where a field forbids something, and strict where it permits something:
//! `No-Store;` forbids, `max-age=3600;` gives no time.

pub(crate) mod cache_control;
pub(crate) mod content_range;
pub(crate) mod date;
pub(crate) mod delta;
pub(crate) mod entity_tag;
pub(crate) mod list;
pub(crate) mod range;
pub(crate) mod surrogate;
pub(crate) mod targeted;
pub(crate) mod vary;

use http::{HeaderMap, HeaderName};

/// The lines of a field.
pub(crate) fn lines<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'h [u8]> + use<'h> {
    headers.get_all(name).iter().map(http::HeaderValue::as_bytes)
}

/// Whether a byte may stand in a token (RFC 9110, section 5.6.2).
pub(crate) const fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}
