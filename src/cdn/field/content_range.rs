//! `Content-Range` (RFC 9110, section 14.4).

use std::ops::Range;

use http::{HeaderMap, header::CONTENT_RANGE};

use super::{lines, range::number};

/// Which bytes a response has, and the length of the whole, if that is known. `None` if it does not say, says
/// it twice, or contradicts itself.
pub(crate) fn read(headers: &HeaderMap) -> Option<(Range<u64>, Option<u64>)> {
    let mut lines = lines(headers, &CONTENT_RANGE);
    let line = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    parse(line)
}

fn parse(line: &[u8]) -> Option<(Range<u64>, Option<u64>)> {
    let (unit, rest) = line.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes ") {
        return None;
    }
    let slash = rest.iter().position(|b| *b == b'/')?;
    let (range, length) = (&rest[..slash], &rest[slash + 1..]);
    let dash = range.iter().position(|b| *b == b'-')?;
    let (first, last) = (number(&range[..dash])?, number(&range[dash + 1..])?);
    let end = last.checked_add(1)?;
    let length = if length == b"*" { None } else { Some(number(length)?) };
    let is_valid = first <= last && length.is_none_or(|length| end <= length);
    is_valid.then_some((first..end, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_section_14_4_content_ranges() {
        let parse = |text: &str| parse(text.as_bytes());
        assert_eq!(parse("bytes 42-1233/1234"), Some((42..1234, Some(1234))));
        assert_eq!(parse("BYTES 42-1233/*"), Some((42..1234, None)));
        for bad in [
            "",
            "bytes",
            "bytes */1234",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes 0-1",
            "bytes=0-1/2",
            "bytes 0-1/",
            "bytes 0-1/2/3",
            "bytes -1/2",
            "items 0-1/2",
            "bytes 0-18446744073709551615/*",
            "bytes 0 - 1/2",
            "bytes a-b/c",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
