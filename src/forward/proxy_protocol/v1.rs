//! Version 1: one line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Endpoints, Header, HeaderError, Parsed, SHORTEST, mapped};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// The "worst case (optional fields set to 0xff)" of section 2.1, in bytes.
const MAX: usize = 107;

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    let start = &bytes[..bytes.len().min(MAX)];
    if let Some(end) = start.windows(2).position(|pair| pair == b"\r\n") {
        let header = read(&start[..end]).ok_or(HeaderError::Line)?;
        return Ok(Parsed::Done { header, length: end + 2 });
    }
    match missing(bytes) {
        missing if bytes.len() + missing <= MAX => Ok(Parsed::More(missing)),
        _ => Err(HeaderError::Line),
    }
}

/// How many bytes the line has more, at the least.
fn missing(bytes: &[u8]) -> usize {
    let to_line_end = match bytes {
        [.., b'\r'] => 1,
        [b'P', b'R', b'O', b'X', b'Y', b' ', b'T', ..] => {
            // A field takes its space and a byte.
            let spaces = bytes.split(|b| *b == b' ').count() - 1;
            2 * 5_usize.saturating_sub(spaces) + usize::from(bytes.ends_with(b" ")) + 2
        }
        _ => 2,
    };
    to_line_end.max(SHORTEST.saturating_sub(bytes.len()))
}

fn read(line: &[u8]) -> Option<Header> {
    let rest = line.strip_prefix(SIGNATURE)?;
    if let Some(ignored) = rest.strip_prefix(b"UNKNOWN") {
        return (ignored.is_empty() || ignored.starts_with(b" ")).then(Header::unknown);
    }
    let mut fields = std::str::from_utf8(rest).ok()?.split(' ');
    let address: fn(&str) -> Option<IpAddr> = match fields.next()? {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let (source, destination) = (address(fields.next()?)?, address(fields.next()?)?);
    let (from, to) = (port(fields.next()?)?, port(fields.next()?)?);
    if fields.next().is_some() {
        return None;
    }
    Some(Header::tcp(SocketAddr::new(source, from), SocketAddr::new(destination, to)))
}

/// `u16::from_str` would take "+80" and "080".
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok())?
}

pub(super) fn encode(header: &Header) -> Vec<u8> {
    let Endpoints::Tcp { source, destination } = header.endpoints else { return b"PROXY UNKNOWN\r\n".into() };
    let (from, to) = (source.port(), destination.port());
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            format!("PROXY TCP4 {source} {destination} {from} {to}\r\n")
        }
        (source, destination) => {
            let (source, destination) = (groups(mapped(source)), groups(mapped(destination)));
            format!("PROXY TCP6 {source} {destination} {from} {to}\r\n")
        }
    }
    .into_bytes()
}

/// As hexadecimal groups alone: the protocol has no dotted form, in which std writes IPv4-mapped addresses.
fn groups(addr: Ipv6Addr) -> String {
    match addr.to_ipv4_mapped() {
        Some(v4) => format!("::ffff:{:x}:{:x}", v4.to_bits() >> 16, v4.to_bits() & 0xffff),
        None => addr.to_string(),
    }
}
