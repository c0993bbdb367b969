//! Version 2: binary.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Endpoints, Header, HeaderError, Parsed, mapped, tlv};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header that is taken, in bytes. They are meant to fit into a segment of 536, but what a proxy says of
/// certificates takes room; the length field allows 64 KiB.
pub(super) const MAX: usize = 4096;

/// The signature, version and command, family and protocol, and the length of what follows.
pub(super) const FIXED: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    let command = bytes.get(12).copied();
    match command {
        Some(byte) if byte & 0xf0 != 0x20 => {
            return Err(HeaderError::Unsupported { what: "version", value: byte >> 4 });
        }
        Some(byte) if byte != LOCAL && byte != PROXY => {
            return Err(HeaderError::Unsupported { what: "command", value: byte & 0xf });
        }
        _ => {}
    }
    let Some(&[.., family, high, low]) = bytes.first_chunk::<FIXED>() else {
        return Ok(Parsed::More(FIXED - bytes.len()));
    };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX {
        return Err(HeaderError::TooLong);
    }
    let Some(whole) = bytes.get(..length) else { return Ok(Parsed::More(length - bytes.len())) };
    let header = if command == Some(LOCAL) { Header::local() } else { read(family, whole)? };
    Ok(Parsed::Done { header, length })
}

fn read(family: u8, whole: &[u8]) -> Result<Header, HeaderError> {
    let unsupported = |what, value| Err(HeaderError::Unsupported { what, value });
    let addresses = match (family >> 4, family & 0xf) {
        (net @ 4.., _) => return unsupported("address family", net),
        (_, transport @ 3..) => return unsupported("transport protocol", transport),
        // What follows need not be addresses or TLVs at all.
        (0, _) | (_, 0) => return Ok(Header::unknown()),
        (1, _) => 12,
        (2, _) => 36,
        // Two names of Unix sockets.
        (_, _) => 216,
    };
    let (addresses, _) = whole[FIXED..].split_at_checked(addresses).ok_or(HeaderError::TooShort)?;
    let tlvs = tlv::read(whole, FIXED + addresses.len())?;
    let endpoints = match family {
        TCP4 => ends::<4, Ipv4Addr>(addresses),
        TCP6 => ends::<16, Ipv6Addr>(addresses),
        _ => Some(Endpoints::Unknown),
    };
    Ok(Header { endpoints: endpoints.ok_or(HeaderError::TooShort)?, tlvs })
}

/// Two addresses of `N` bytes, and two ports.
fn ends<const N: usize, A: From<[u8; N]> + Into<IpAddr>>(bytes: &[u8]) -> Option<Endpoints> {
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (from, rest) = rest.split_first_chunk::<2>()?;
    let to = rest.first_chunk::<2>()?;
    let end = |ip: &[u8; N], port: &[u8; 2]| SocketAddr::new(A::from(*ip).into(), u16::from_be_bytes(*port));
    Some(Header::tcp(end(source, from), end(destination, to)).endpoints)
}

pub(super) fn encode(header: &Header) -> Vec<u8> {
    let mut rest = Vec::new();
    let (command, family) = match header.endpoints {
        Endpoints::Local => (LOCAL, UNSPECIFIED),
        Endpoints::Unknown => (PROXY, UNSPECIFIED),
        Endpoints::Tcp { source, destination } => {
            let family = match (source.ip(), destination.ip()) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    rest.extend(source.octets());
                    rest.extend(destination.octets());
                    TCP4
                }
                (source, destination) => {
                    rest.extend(mapped(source).octets());
                    rest.extend(mapped(destination).octets());
                    TCP6
                }
            };
            rest.extend(source.port().to_be_bytes());
            rest.extend(destination.port().to_be_bytes());
            rest.extend(&header.tlvs);
            (PROXY, family)
        }
    };
    let length = u16::try_from(rest.len()).expect("addresses and TLVs are within MAX");
    [SIGNATURE, &[command, family], &length.to_be_bytes(), &rest].concat()
}
