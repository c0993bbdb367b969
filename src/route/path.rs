//! How the path of a request is read.

use std::borrow::Cow;

/// How paths are read before they are matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Decoded, and refused where servers do not agree on what they mean.
    Canonical,
    /// Byte by byte.
    Verbatim,
}

impl Reading {
    pub(super) fn read(self, path: &str) -> Result<Cow<'_, str>, BadPath> {
        match self {
            Self::Canonical => canonical(path),
            Self::Verbatim => Ok(Cow::Borrowed(path)),
        }
    }
}

/// What makes a path mean different things to different servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum BadPath {
    /// Two slashes in a row.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A segment `.` or `..`.
    #[error("the path has a dot segment")]
    DotSegment,
    /// A semicolon.
    #[error("the path has a semicolon, which begins parameters")]
    Semicolon,
    /// An escaped slash, or a backslash.
    #[error("the path has an escaped slash or a backslash")]
    Slash,
    /// A control character.
    #[error("the path has a control character")]
    Control,
    /// A percent sign without two hexadecimal digits, or escaped bytes that are not UTF-8.
    #[error("the path has a percent-escape that stands for no character")]
    Escape,
    /// More than a target may be long, with what the rule puts in place of its prefix.
    #[error("the path is too long to be rewritten")]
    TooLong,
}

/// Decodes the percent-escapes of a path, and refuses it if servers do not agree on it. Allocates only if there are
/// escapes.
#[inline]
fn canonical(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if is_plain(path.as_bytes()) { Ok(Cow::Borrowed(path)) } else { examine(path) }
}

/// Whether nothing in a path calls for a closer look. Two loops without branches, which take several bytes at a time.
#[inline]
#[allow(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]
fn is_plain(path: &[u8]) -> bool {
    let bytes = path.iter().fold(true, |plain, &byte| {
        plain & (byte > 0x1f) & (byte != 0x7f) & (byte != b'%') & (byte != b';') & (byte != b'\\')
    });
    let pairs = path.iter().zip(path.get(1..).unwrap_or_default());
    let segments = pairs
        .fold(true, |plain, (&before, &byte)| plain & ((before != b'/') | ((byte != b'/') & (byte != b'.'))));
    bytes & segments
}

fn examine(path: &str) -> Result<Cow<'_, str>, BadPath> {
    let path = if path.contains('%') { Cow::Owned(decode(path)?) } else { Cow::Borrowed(path) };
    let mut rest = path.strip_prefix('/');
    while let Some((segment, after)) = rest.map(split) {
        match segment {
            "" if after.is_some() => return Err(BadPath::EmptySegment),
            "." | ".." => return Err(BadPath::DotSegment),
            _ => {}
        }
        rest = after;
    }
    for byte in path.bytes() {
        match byte {
            b';' => return Err(BadPath::Semicolon),
            b'\\' => return Err(BadPath::Slash),
            0..=0x1f | 0x7f => return Err(BadPath::Control),
            _ => {}
        }
    }
    Ok(path)
}

fn decode(path: &str) -> Result<String, BadPath> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
            let (Some(high), Some(low)) = (digit(), digit()) else { return Err(BadPath::Escape) };
            match u8::try_from(high << 4 | low) {
                Ok(b'/') => return Err(BadPath::Slash),
                Ok(byte) => byte,
                Err(_) => return Err(BadPath::Escape),
            }
        } else {
            byte
        };
        decoded.push(byte);
    }
    String::from_utf8(decoded).map_err(|_| BadPath::Escape)
}

/// The first segment of what follows a slash, and what follows the next slash if there is one.
#[inline]
pub(super) fn split(rest: &str) -> (&str, Option<&str>) {
    match rest.split_once('/') {
        Some((segment, after)) => (segment, Some(after)),
        None => (rest, None),
    }
}

/// What follows the first `segments` segments of a path and the slash after them, if there is one.
pub(super) fn after(path: &str, segments: usize) -> Option<&str> {
    (0..segments).try_fold(path.strip_prefix('/')?, |rest, _| split(rest).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_borrowed() {
        for path in ["/", "/a", "/a/", "/a/b.c/...", "/a~b/$&'()*+,=:@!", "/é", "", "*", "/..a/.b"] {
            assert!(matches!(canonical(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
    }

    #[test]
    fn escapes_are_decoded_once() {
        for (path, decoded) in [
            ("/%61dmin", "/admin"),
            ("/%41%7e", "/A~"),
            ("/caf%c3%A9/%E2%82%AC", "/café/€"),
            ("/100%25", "/100%"),
            ("/%252e%252e/x", "/%2e%2e/x"),
            ("/a%20b%3Fc%23d", "/a b?c#d"),
            ("/%7Bid%7D", "/{id}"),
        ] {
            assert_eq!(canonical(path).as_deref(), Ok(decoded));
        }
    }

    #[test]
    fn what_servers_do_not_agree_on_is_refused() {
        use BadPath::{Control, DotSegment, EmptySegment, Escape, Semicolon, Slash};
        for (path, why) in [
            ("//admin", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a//", EmptySegment),
            ("//", EmptySegment),
            ("/./admin", DotSegment),
            ("/x/../admin", DotSegment),
            ("/x/..", DotSegment),
            ("/.", DotSegment),
            ("/x/%2e%2E/admin", DotSegment),
            ("/x/.%2e", DotSegment),
            ("/..;/admin", Semicolon),
            ("/admin;x=1", Semicolon),
            ("/;/admin", Semicolon),
            ("/admin%3bx", Semicolon),
            ("/x%2Fadmin", Slash),
            ("/x%2f..%2fadmin", Slash),
            ("/x%5cadmin", Slash),
            ("/x\\admin", Slash),
            ("/admin%00.png", Control),
            ("/a%0d%0ab", Control),
            ("/a%7f", Control),
            ("/%", Escape),
            ("/%a", Escape),
            ("/%zz", Escape),
            ("/%+1", Escape),
            ("/%%61", Escape),
            ("/%é1", Escape),
            ("/%ff", Escape),
            // Overlong forms of a dot and of a slash.
            ("/%c0%ae%c0%ae/x", Escape),
            ("/x%c0%af", Escape),
            ("/%ed%a0%80", Escape),
        ] {
            assert_eq!(canonical(path), Err(why), "{path}");
        }
    }

    #[test]
    fn what_follows_some_segments() {
        assert_eq!(after("/a/b/c", 0), Some("a/b/c"));
        assert_eq!(after("/a/b/c", 2), Some("c"));
        assert_eq!(after("/a/b/", 2), Some(""));
        assert_eq!(after("/a/b", 2), None);
        assert_eq!(after("/a/b", 9), None);
        assert_eq!(after("*", 0), None);
    }
}
