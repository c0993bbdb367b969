//! `Range` (RFC 9110, section 14.2).

use std::ops::Range;

use http::{HeaderMap, header::RANGE};

use super::lines;

/// The one range of bytes that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteRange {
    /// From the first to the last of these, counted from zero.
    FromTo(u64, u64),
    /// From this one on.
    From(u64),
    /// So many at the end.
    Suffix(u64),
}

impl ByteRange {
    /// Reads a request. What is malformed, in another unit, or more than one range may be ignored, and is.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut lines = lines(headers, &RANGE);
        let line = lines.next()?;
        if lines.next().is_some() {
            return None;
        }
        Self::parse(line)
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let (unit, set) = line.split_at_checked(6)?;
        if !unit.eq_ignore_ascii_case(b"bytes=") {
            return None;
        }
        let set = set.trim_ascii();
        let dash = set.iter().position(|b| *b == b'-')?;
        match (&set[..dash], &set[dash + 1..]) {
            (b"", length) => number(length).map(Self::Suffix),
            (first, b"") => number(first).map(Self::From),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::FromTo(first, last))
            }
        }
    }

    /// Which bytes of so many it is; `None` if none of them.
    pub(crate) fn of(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::FromTo(first, last) => first..last.saturating_add(1).min(length),
            Self::From(first) => first..length,
            Self::Suffix(suffix) => length.saturating_sub(suffix)..length,
        };
        (!range.is_empty()).then_some(range)
    }
}

/// Digits, saturating.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(text.iter().fold(0, digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_section_14_1_2_ranges_of_bytes() {
        let parse = |text: &str| ByteRange::parse(text.as_bytes());
        assert_eq!(parse("bytes=0-499"), Some(ByteRange::FromTo(0, 499)));
        assert_eq!(parse("Bytes=500-"), Some(ByteRange::From(500)));
        assert_eq!(parse("bytes=-500"), Some(ByteRange::Suffix(500)));
        assert_eq!(parse("bytes=0-99999999999999999999999"), Some(ByteRange::FromTo(0, u64::MAX)));
        for bad in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=0-1,4-5",
            "items=0-1",
            "bytes=1",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        for bad in ["bytes=--1", "bytes=+1-2", "bytes=1 - 2", "bytes=0x1-2", "bytes 0-1", "bytes=1-2-3"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn rfc9110_section_14_1_2_a_range_is_cut_to_what_is_there() {
        assert_eq!(ByteRange::FromTo(0, 499).of(10_000), Some(0..500));
        assert_eq!(ByteRange::FromTo(9_500, 99_999).of(10_000), Some(9_500..10_000));
        assert_eq!(ByteRange::From(9_500).of(10_000), Some(9_500..10_000));
        assert_eq!(ByteRange::Suffix(500).of(10_000), Some(9_500..10_000));
        assert_eq!(ByteRange::Suffix(20_000).of(10_000), Some(0..10_000));
        for (range, length) in [
            (ByteRange::FromTo(10, 20), 10),
            (ByteRange::From(10), 10),
            (ByteRange::Suffix(0), 10),
            (ByteRange::Suffix(5), 0),
            (ByteRange::FromTo(u64::MAX, u64::MAX), 10),
        ] {
            assert_eq!(range.of(length), None, "{range:?}");
        }
    }
}
