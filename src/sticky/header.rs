//! Cookies in header fields: found, taken out, read as they are set.

use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};

use super::Rejected;

/// How much of a request's cookies is looked through, in bytes. Browsers send less, and most servers take less.
const MAX_BYTES: usize = 16 * 1024;

/// The value of the cookie of this name, if there is one.
///
/// Allocates nothing. Names are compared exactly, as browsers do.
pub(super) fn find<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h [u8]>, Rejected> {
    let mut left = MAX_BYTES;
    let mut found = None;
    for line in headers.get_all(COOKIE) {
        left = left.checked_sub(line.len()).ok_or(Rejected::Oversized)?;
        for value in pairs(line).filter_map(|pair| value_of(pair, name)) {
            if found.replace(value).is_some() {
                return Err(Rejected::Duplicated);
            }
        }
    }
    Ok(found)
}

/// Takes every cookie of this name out of a request; the others stay as they were.
pub(super) fn strip(headers: &mut HeaderMap, name: &str) {
    let is_ours = |pair: &&[u8]| value_of(pair, name).is_some();
    if !headers.get_all(COOKIE).iter().any(|line| pairs(line).any(|pair| is_ours(&pair))) {
        return;
    }
    let lines: Vec<_> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for line in lines {
        let mut kept = Vec::with_capacity(line.len());
        for pair in pairs(&line).filter(|pair| !is_ours(pair)) {
            if !kept.is_empty() {
                kept.push(b';');
            }
            kept.extend_from_slice(pair);
        }
        let Ok(mut rest) = HeaderValue::from_bytes(kept.trim_ascii()) else { continue };
        if !rest.is_empty() {
            rest.set_sensitive(line.is_sensitive());
            headers.append(COOKIE, rest);
        }
    }
}

/// What a response does to a cookie.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change<'h> {
    Set(&'h [u8]),
    Deleted,
}

/// What a response does to the cookie of this name, if anything. Of several fields the last counts, as for a browser.
pub(super) fn change<'h>(headers: &'h HeaderMap, name: &str) -> Option<Change<'h>> {
    let read = |line: &'h HeaderValue| {
        let mut parts = pairs(line);
        let value = value_of(parts.next()?, name)?;
        let ends = parts.any(|attribute| {
            split(attribute).is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case(b"max-age") && (value.starts_with(b"-") || value == b"0")
            })
        });
        Some(if ends || value.is_empty() { Change::Deleted } else { Change::Set(value) })
    };
    headers.get_all(SET_COOKIE).iter().rev().find_map(read)
}

fn pairs(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes().split(|byte| *byte == b';')
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (found, value) = split(pair)?;
    (found == name.as_bytes()).then_some(value)
}

fn split(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    Some((pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (COOKIE, line.parse().unwrap())).collect()
    }

    fn found(headers: &HeaderMap) -> Result<Option<&str>, Rejected> {
        find(headers, "s").map(|value| value.map(|value| std::str::from_utf8(value).unwrap()))
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        for lines in
            [&["s=v"][..], &["a=1; s=v; b=2"], &["a=1", "s=v"], &["a=1;s=v"], &[" s = v ;"], &["S=w; s=v"]]
        {
            assert_eq!(found(&request(lines)), Ok(Some("v")), "{lines:?}");
        }
        for lines in [&[][..], &[""], &["a=1"], &["s"], &["ss=v"], &["a=s=v"], &["a=\"s\"; =v; ;"]] {
            assert_eq!(found(&request(lines)), Ok(None), "{lines:?}");
        }
    }

    #[test]
    fn a_name_that_is_there_twice_is_not_believed() {
        for lines in [&["s=v; s=v"][..], &["s=v", "s=w"], &["s=; a=1; s=v"]] {
            assert_eq!(found(&request(lines)), Err(Rejected::Duplicated), "{lines:?}");
        }
    }

    #[test]
    fn no_more_than_16_kib_are_looked_through() {
        let long = |bytes: usize| format!("a={}", "x".repeat(bytes - 2));
        let full = long(MAX_BYTES - 3);
        assert_eq!(found(&request(&[&full, "s=v"])), Ok(Some("v")));
        let over = long(MAX_BYTES - 2);
        assert_eq!(found(&request(&[&over, "s=v"])), Err(Rejected::Oversized));
        assert_eq!(found(&request(&["s=v", &over])), Err(Rejected::Oversized));
        let mut headers = request(&["s=v", &over]);
        strip(&mut headers, "s");
        assert_eq!(headers, request(&[&over]), "it is taken out all the same");
    }

    #[test]
    fn the_other_cookies_stay_as_they_were() {
        let stripped = |lines: &[&str]| {
            let mut headers = request(lines);
            strip(&mut headers, "s");
            let left: Vec<_> =
                headers.get_all(COOKIE).iter().map(|l| l.to_str().unwrap().to_owned()).collect();
            left
        };
        assert_eq!(stripped(&["a=1; s=v; b=\"2\""]), ["a=1; b=\"2\""]);
        assert_eq!(stripped(&["s=v; a=1", "b=2;  c"]), ["a=1", "b=2;  c"]);
        assert_eq!(stripped(&["a=1;s=v", "s=w"]), ["a=1"]);
        assert!(stripped(&["s=v"]).is_empty());
        assert_eq!(stripped(&["a=1;;  odd "]), ["a=1;;  odd "]);
    }

    #[test]
    fn what_a_response_sets_is_read_as_a_browser_would() {
        let change = |lines: &[&'static str]| {
            let headers: HeaderMap =
                lines.iter().map(|line| (SET_COOKIE, HeaderValue::from_static(line))).collect();
            match change(&headers, "s") {
                Some(Change::Set(value)) => Some(String::from_utf8(value.to_vec()).unwrap()),
                Some(Change::Deleted) => Some("deleted".into()),
                None => None,
            }
        };
        assert_eq!(change(&["s=v"]).unwrap(), "v");
        assert_eq!(change(&["s=v; Path=/; Max-Age=60", "a=1"]).unwrap(), "v");
        assert_eq!(change(&["s=v", "s=w; HttpOnly"]).unwrap(), "w");
        for gone in ["s=; Path=/", "s=v; max-age=0", "s=v; Path=/; Max-Age = -1"] {
            assert_eq!(change(&["s=v", gone]).unwrap(), "deleted", "{gone}");
        }
        for other in [&[][..], &["a=s"], &["a=1; s=v"], &["s"]] {
            assert_eq!(change(other), None);
        }
    }

    proptest! {
        #[test]
        fn odd_lines_are_survived(lines in prop::collection::vec(prop::collection::vec("[s=; \"a]|.", 0..20), 0..4)) {
            let lines = lines.iter().map(|parts| parts.concat());
            let mut headers: HeaderMap = lines
                .filter_map(|line| Some((COOKIE, HeaderValue::from_bytes(line.as_bytes()).ok()?)))
                .collect();
            let before: usize = headers.get_all(COOKIE).iter().map(HeaderValue::len).sum();
            strip(&mut headers, "s");
            prop_assert_eq!(find(&headers, "s"), Ok(None));
            prop_assert!(headers.get_all(COOKIE).iter().map(HeaderValue::len).sum::<usize>() <= before);
        }
    }
}
