//! Whole seconds: `delta-seconds` and `Age` (RFC 9111, sections 1.2.2 and 5.1).

use http::{HeaderMap, HeaderValue, header::AGE};

use super::{lines, list::members};

/// The most seconds that are told apart: as many as a structured field can carry (RFC 9651, section 3.3.1),
/// some 30 million years. More counts as this many.
pub(crate) const MOST: u64 = 999_999_999_999_999;

/// A number of seconds: digits, and nothing else.
pub(crate) fn parse(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(text.iter().fold(0, digit).min(MOST))
}

/// A number of seconds, as it is written in a field.
pub(crate) fn to_value(seconds: u64) -> HeaderValue {
    // By way of the stack it is one allocation instead of two.
    let mut buffer = [0; 20];
    HeaderValue::from_bytes(digits(seconds, &mut buffer)).unwrap_or_else(|_| HeaderValue::from(seconds))
}

/// The digits of a number, of which the longest has 20. The general formatter costs three times as much, on each hit.
pub(crate) fn digits(mut number: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut start = buffer.len();
    loop {
        start -= 1;
        #[allow(clippy::cast_possible_truncation, reason = "it is below ten")]
        let digit = (number % 10) as u8;
        buffer[start] = b'0' + digit;
        number /= 10;
        if number == 0 {
            return &buffer[start..];
        }
    }
}

/// The `Age` of a response; 0 if it has none, or none that is valid.
///
/// "If a cache receives a response whose Age value has multiple members, it should use the first and discard the
/// others."
pub(crate) fn age(headers: &HeaderMap) -> u64 {
    lines(headers, &AGE).find_map(|line| members(line).next()).and_then(parse).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aged(values: &[&[u8]]) -> u64 {
        let value = |value: &&[u8]| (AGE, http::HeaderValue::from_bytes(value).unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in values.iter().map(value) {
            headers.append(name, value);
        }
        age(&headers)
    }

    #[test]
    fn rfc9111_section_1_2_2_seconds_are_digits_and_saturate() {
        assert_eq!(parse(b"0"), Some(0));
        assert_eq!(parse(b"003600"), Some(3600));
        assert_eq!(parse(b"2147483648"), Some(2_147_483_648));
        assert_eq!(parse(b"18446744073709551615"), Some(MOST));
        assert_eq!(parse(&[b'9'; 400]), Some(MOST));
        for bad in ["", "-1", "+1", "1.0", "1e3", " 1", "1 ", "0x10", "1;a=b", "a1", "1a", "'1'", "\"1\""] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn seconds_are_written_as_digits() {
        for seconds in [0, 7, 60, MOST, u64::MAX] {
            assert_eq!(to_value(seconds), seconds.to_string());
        }
    }

    #[test]
    fn rfc9111_section_5_1_the_first_member_of_age_counts() {
        assert_eq!(aged(&[]), 0);
        assert_eq!(aged(&[b"7200, 0"]), 7200);
        assert_eq!(aged(&[b"0, 7200"]), 0);
        assert_eq!(aged(&[b"7200", b"0"]), 7200);
        assert_eq!(aged(&[b"0", b"7200"]), 0);
        assert_eq!(aged(&[b"", b"7200"]), 7200);
    }

    #[test]
    fn rfc9111_section_5_1_an_age_that_is_no_number_is_ignored() {
        for bad in [&b"abc"[..], b"-7200", b"7200.0", b"7200;a=b", b"7200 1", b"\xff", b"1\xff", b"abc, 7200"]
        {
            assert_eq!(aged(&[bad]), 0, "{bad:?}");
        }
    }
}
