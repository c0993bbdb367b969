//! Values that files and command lines write as text.

use std::{fmt::Display, net::SocketAddr, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de::Error};

/// An address to listen on.
pub(crate) struct Addr(pub(crate) SocketAddr);

impl FromStr for Addr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |_| format!("{text:?} is not an address and a port: write it like 127.0.0.1:8080 or [::1]:8080");
        text.parse().map(Self).map_err(wrong)
    }
}

/// A whole number and its unit: `500ms`, `2s`, `5m`.
struct Span(Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is not a span of time above zero: write it like \"500ms\", \"2s\" or \"5m\"")
        };
        let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(unit);
        let number: u32 = number.parse().ok().filter(|&number| number > 0).ok_or_else(wrong)?;
        match unit {
            "ms" => Ok(Self(Duration::from_millis(number.into()))),
            "s" => Ok(Self(Duration::from_secs(number.into()))),
            "m" => Ok(Self(Duration::from_secs(u64::from(number) * 60))),
            _ => Err(wrong()),
        }
    }
}

/// Reads a text by the type's [`FromStr`].
pub(super) fn parsed<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

pub(super) fn parsed_list<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    // An error is placed at the list: only the text tells which of its elements is meant.
    let parse = |text: &String| text.parse().map_err(|error| D::Error::custom(format!("{text:?}: {error}")));
    texts.iter().map(parse).collect()
}

pub(super) fn addr<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    parsed(from).map(|Addr(addr)| addr)
}

pub(super) fn some_addr<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    addr(from).map(Some)
}

pub(super) fn span<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parsed(from).map(|Span(span)| span)
}

/// A number from 0 to 1.
pub(super) fn ratio<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let ratio = f64::deserialize(from)?;
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err(D::Error::custom("give a ratio from 0.0 to 1.0"))
    }
}

pub(super) fn some_span<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    span(from).map(Some)
}

pub(super) fn some_parsed<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    parsed(from).map(Some)
}

/// A setting that is off at zero.
pub(super) fn unless_zero<T: PartialEq + Default>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}
