//! Dates (RFC 9110, section 5.6.7).
//!
//! The three forms that recipients must take, in any case, and nothing else: what is no date has to count as
//! one in the past (RFC 9111, section 5.3), so guessing would make responses fresh that their origin wants to
//! be stale.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::lines;

/// Seconds since the Unix epoch.
pub(crate) type Seconds = i64;

/// The last second that can be written: 9999-12-31 23:59:59.
const LAST: u64 = 253_402_300_799;

/// What a field with a date says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DateField {
    /// The field is not there.
    Absent,
    /// It is no date, or several that differ.
    Invalid,
    /// A date.
    Date(Seconds),
}

impl DateField {
    /// Reads a field. `now` settles which century a year of two digits is in.
    pub(crate) fn read(headers: &HeaderMap, name: &HeaderName, now: Seconds) -> Self {
        let mut lines = lines(headers, name);
        let Some(first) = lines.next() else { return Self::Absent };
        if lines.any(|other| other != first) {
            return Self::Invalid;
        }
        parse(first, now).map_or(Self::Invalid, Self::Date)
    }

    pub(crate) fn date(self) -> Option<Seconds> {
        match self {
            Self::Date(date) => Some(date),
            Self::Absent | Self::Invalid => None,
        }
    }
}

/// Whole seconds since the Unix epoch.
pub(crate) fn seconds(time: SystemTime) -> Seconds {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
    }
}

/// A time as it is written in a field. Times that cannot be written become the first or the last that can.
pub(crate) fn to_value(time: SystemTime) -> HeaderValue {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().min(LAST);
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(since));
    HeaderValue::try_from(date).unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// Reads a date.
pub(crate) fn parse(text: &[u8], now: Seconds) -> Option<Seconds> {
    let text = text.trim_ascii();
    let comma = text.iter().position(|b| *b == b',');
    match comma {
        Some(3) => imf_fixdate(text),
        Some(at) => rfc850_date(&text[..at], &text[at + 1..], now),
        None => asctime_date(text),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(text: &[u8]) -> Option<Seconds> {
    let text: &[u8; 29] = text.try_into().ok()?;
    is_day_name(&text[..3])?;
    expect(&text[3..5], b", ")?;
    expect(&text[7..8], b" ")?;
    expect(&text[11..12], b" ")?;
    expect(&text[16..17], b" ")?;
    expect(&text[25..], b" GMT")?;
    civil(number(&text[12..16])?, month(&text[8..11])?, number(&text[5..7])?, time(&text[17..25])?)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850_date(day: &[u8], rest: &[u8], now: Seconds) -> Option<Seconds> {
    const DAYS: [&[u8]; 7] =
        [b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday", b"Sunday"];
    DAYS.iter().find(|name| name.eq_ignore_ascii_case(day))?;
    let rest: &[u8; 23] = rest.try_into().ok()?;
    expect(&rest[..1], b" ")?;
    expect(&rest[3..4], b"-")?;
    expect(&rest[7..8], b"-")?;
    expect(&rest[10..11], b" ")?;
    expect(&rest[19..], b" GMT")?;
    let (day, month, time) = (number(&rest[1..3])?, month(&rest[4..7])?, time(&rest[11..19])?);
    // "Recipients MUST interpret a timestamp that appears to be more than 50 years in the future as
    // representing the most recent year in the past that had the same last two digits."
    let this_year = year_of(now);
    let mut year = this_year - this_year.rem_euclid(100) + number(&rest[8..10])?;
    while year > this_year + 50 {
        year -= 100;
    }
    while year <= this_year - 50 {
        year += 100;
    }
    civil(year, month, day, time)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime_date(text: &[u8]) -> Option<Seconds> {
    let text: &[u8; 24] = text.try_into().ok()?;
    is_day_name(&text[..3])?;
    expect(&text[3..4], b" ")?;
    expect(&text[7..8], b" ")?;
    expect(&text[10..11], b" ")?;
    expect(&text[19..20], b" ")?;
    let day = if text[8] == b' ' { number(&text[9..10])? } else { number(&text[8..10])? };
    civil(number(&text[20..])?, month(&text[4..7])?, day, time(&text[11..19])?)
}

fn expect(text: &[u8], expected: &[u8]) -> Option<()> {
    text.eq_ignore_ascii_case(expected).then_some(())
}

fn is_day_name(text: &[u8]) -> Option<()> {
    const DAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
    DAYS.iter().any(|day| text.eq_ignore_ascii_case(*day)).then_some(())
}

fn month(text: &[u8]) -> Option<i64> {
    const MONTHS: [&[u8; 3]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    (1..).zip(MONTHS).find(|(_, name)| text.eq_ignore_ascii_case(*name)).map(|(number, _)| number)
}

fn number(digits: &[u8]) -> Option<i64> {
    let digits_only = digits.iter().all(u8::is_ascii_digit);
    digits_only.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

/// `08:49:37`, in seconds. A leap second is the one after it.
fn time(text: &[u8]) -> Option<i64> {
    expect(&text[2..3], b":")?;
    expect(&text[5..6], b":")?;
    let (hour, minute, second) = (number(&text[..2])?, number(&text[3..5])?, number(&text[6..8])?);
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
}

/// A day of the Gregorian calendar, and seconds into it.
fn civil(year: i64, month: i64, day: i64, time: i64) -> Option<Seconds> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    (1..=length).contains(&day).then(|| days(year, month, day) * 86_400 + time)
}

/// Days since the Unix epoch. Years begin in March here, so that the leap day is their last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The year that a second is in, to within a day.
fn year_of(now: Seconds) -> i64 {
    1970 + (now.div_euclid(86_400) * 400).div_euclid(146_097)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const NOW: Seconds = 1_800_000_000; // 2027

    fn date(text: &str) -> Option<Seconds> {
        parse(text.as_bytes(), NOW)
    }

    #[test]
    fn rfc9110_section_5_6_7_all_three_forms_are_read() {
        let expected = Some(784_111_777);
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), expected);
        assert_eq!(date("Sunday, 06-Nov-94 08:49:37 GMT"), expected);
        assert_eq!(date("Sun Nov  6 08:49:37 1994"), expected);
        assert_eq!(date("Sun Nov 06 08:49:37 1994"), expected);
    }

    #[test]
    fn rfc9111_section_4_2_dates_are_read_in_any_case() {
        let expected = Some(784_111_777);
        assert_eq!(date("SUN, 06 NOV 1994 08:49:37 gMT"), expected);
        assert_eq!(date("sunday, 06-nov-94 08:49:37 gmt"), expected);
        assert_eq!(date("sUN nOV  6 08:49:37 1994"), expected);
    }

    #[test]
    fn rfc9110_section_5_6_7_a_year_of_two_digits_is_the_nearest() {
        assert_eq!(date("Thursday, 18-Aug-50 02:01:18 GMT"), date("Thu, 18 Aug 2050 02:01:18 GMT"));
        assert_eq!(date("Thursday, 18-Aug-77 02:01:18 GMT"), date("Thu, 18 Aug 2077 02:01:18 GMT"));
        assert_eq!(date("Thursday, 18-Aug-78 02:01:18 GMT"), date("Thu, 18 Aug 1978 02:01:18 GMT"));
        assert_eq!(date("Thursday, 18-Aug-00 02:01:18 GMT"), date("Thu, 18 Aug 2000 02:01:18 GMT"));
    }

    #[test]
    fn rfc9111_section_5_3_what_is_no_date_is_not_guessed() {
        for bad in [
            "",
            "0",
            "-1",
            "foo",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 2050 02:01:18 +0000",
            "Thu, 18 Aug 2050 02:01:18",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 8 Aug 2050 02:01:18 GMT",
            "Thu, 31 Feb 2050 02:01:18 GMT",
            "Thu, 29 Feb 2100 02:01:18 GMT",
            "Thu, 00 Aug 2050 02:01:18 GMT",
            "Thu, 18 Foo 2050 02:01:18 GMT",
            "Foo, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 24:00:00 GMT",
            "Thu, 18 Aug 2050 00:60:00 GMT",
            "Thu, 18 Aug 2050 00:00:61 GMT",
            "Thursday, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18-Aug-50 02:01:18 GMT",
            "2050-08-18T02:01:18Z",
            "Thu Aug  8 02:01:18 50",
            "Thu, +8 Aug 2050 02:01:18 GMT",
        ] {
            assert_eq!(date(bad), None, "{bad}");
        }
        assert_eq!(parse("Thu, 18 Aug 2050 02:01:18 GM\u{d0}".as_bytes(), NOW), None);
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(date("Wed, 31 Dec 1969 23:59:59 GMT"), Some(-1));
        assert_eq!(date("Sat, 01 Jan 0000 00:00:00 GMT"), Some(-62_167_219_200));
        assert_eq!(date("Fri, 31 Dec 9999 23:59:59 GMT"), Some(LAST.cast_signed()));
        assert_eq!(date("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
        for day in (-700_000..2_900_000).step_by(13) {
            let time = UNIX_EPOCH.checked_add(Duration::from_secs(86_400 * u64::try_from(day).unwrap_or(0)));
            let text = to_value(time.unwrap());
            assert_eq!(parse(text.as_bytes(), NOW), Some(86_400 * day.max(0)));
        }
    }

    #[test]
    fn times_that_cannot_be_written_saturate() {
        assert_eq!(to_value(UNIX_EPOCH - Duration::from_secs(9)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(to_value(UNIX_EPOCH + Duration::from_secs(1 << 60)), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(seconds(UNIX_EPOCH - Duration::from_secs(9)), -9);
    }

    #[test]
    fn rfc9111_section_4_2_1_several_dates_are_none_unless_they_agree() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("expires", HeaderValue::from_static(value));
            }
            DateField::read(&headers, &http::header::EXPIRES, NOW)
        };
        let (a, b) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(read(&[]), DateField::Absent);
        assert_eq!(read(&[a]), DateField::Date(784_111_777));
        assert_eq!(read(&[a, a]), DateField::Date(784_111_777));
        assert_eq!(read(&[a, b]), DateField::Invalid);
        assert_eq!(read(&[""]), DateField::Invalid);
    }
}
