//! Keeping a response out of shared caches.

use http::{HeaderMap, HeaderName, HeaderValue, header::CACHE_CONTROL};

/// Marks a response that sets a sticky cookie. A response extension, for caches in the same process: they must not keep it
/// for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Personal;

/// Tells every shared cache not to keep a response; false if there is no room for the header.
///
/// What the origin said for private caches stays, and so does what is stricter. `public` and `s-maxage` go, as caches
/// differ on what they mean beside `private`; so do the fields that tell some shared caches more than `Cache-Control`
/// does (RFC 9213, and what vendors use).
pub(super) fn keep_private(headers: &mut HeaderMap) -> bool {
    let targeted: Vec<_> = headers.keys().filter(|name| is_targeted(name)).cloned().collect();
    for name in targeted {
        headers.remove(name);
    }
    let lines = headers.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes);
    let value = private(lines).unwrap_or(HeaderValue::from_static("private, no-store"));
    headers.try_insert(CACHE_CONTROL, value).is_ok()
}

fn is_targeted(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.ends_with("-cache-control")
        || matches!(name, "surrogate-control" | "edge-control" | "x-accel-expires")
}

/// What these lines say, made private; `None` if it cannot be told.
fn private<'h>(lines: impl Iterator<Item = &'h [u8]>) -> Option<HeaderValue> {
    let mut value = b"private".to_vec();
    for line in lines {
        let mut rest = line;
        while !rest.is_empty() {
            let directive = next_directive(&mut rest)?;
            let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
            // `private="field"` would be weaker than the one that it stands beside.
            let goes = [&b""[..], b"public", b"s-maxage", b"private"];
            if !goes.iter().any(|goes| name.eq_ignore_ascii_case(goes)) {
                value.extend_from_slice(b", ");
                value.extend_from_slice(directive);
            }
        }
    }
    HeaderValue::try_from(value).ok()
}

/// The next element of a list, which may have commas in quotes; `None` if a quote is left open.
fn next_directive<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let end = rest.iter().position(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' => return !is_quoted,
            _ => {}
        }
        false
    });
    if end.is_none() && is_quoted {
        return None;
    }
    let directive = &rest[..end.unwrap_or(rest.len())];
    *rest = end.map_or(&[], |end| &rest[end + 1..]);
    Some(directive.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[&'static str]) -> String {
        let mut headers: HeaderMap =
            lines.iter().map(|line| (CACHE_CONTROL, HeaderValue::from_static(line))).collect();
        assert!(keep_private(&mut headers));
        let mut lines = headers.get_all(CACHE_CONTROL).iter();
        let line = lines.next().unwrap().to_str().unwrap().to_owned();
        assert!(lines.next().is_none());
        line
    }

    #[test]
    fn shared_caches_may_not_keep_it_whatever_the_origin_said() {
        assert_eq!(said(&[]), "private");
        assert_eq!(said(&[""]), "private");
        assert_eq!(said(&["public, s-maxage=600, max-age=60"]), "private, max-age=60");
        assert_eq!(said(&["Public", "S-MaxAge = 600,,"]), "private");
        assert_eq!(said(&["public=\"odd, s-maxage=9\", s-maxage=\"5\""]), "private");
    }

    #[test]
    fn what_is_stricter_stays() {
        assert_eq!(said(&["no-store"]), "private, no-store");
        assert_eq!(said(&["private"]), "private");
        assert_eq!(
            said(&["no-cache=\"a, b\", must-revalidate"]),
            "private, no-cache=\"a, b\", must-revalidate"
        );
        assert_eq!(said(&["private=\"x-a, x-b\", max-age=5"]), "private, max-age=5");
        assert_eq!(said(&["a=\"\\\", public\", b"]), "private, a=\"\\\", public\", b");
    }

    #[test]
    fn what_cannot_be_read_is_kept_by_nobody() {
        assert_eq!(said(&["max-age=5, a=\"open, public"]), "private, no-store");
        assert_eq!(said(&["a=\"\\"]), "private, no-store");
    }

    #[test]
    fn fields_for_single_caches_do_not_override_it() {
        let mut headers = HeaderMap::new();
        let gone = [
            "cdn-cache-control",
            "cloudflare-cdn-cache-control",
            "surrogate-control",
            "edge-control",
            "x-accel-expires",
        ];
        for name in gone.into_iter().chain(["expires", "etag"]) {
            headers.insert(name, HeaderValue::from_static("max-age=600"));
        }
        assert!(keep_private(&mut headers));
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["cache-control", "etag", "expires"]);
    }
}
