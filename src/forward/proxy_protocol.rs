//! The PROXY protocol, versions 1 and 2: the first bytes of a connection say whose it is.
//!
//! A proxy that passes TCP connections on hides its clients' addresses from the servers behind. With this protocol it
//! writes a [`Header`] in front of what the client sends, and the server reads that before anything else. A server
//! must not guess whether there is a header: whoever connects could then claim any address. A [`Receiver`] asks for one
//! from trusted proxies, and believes nobody else.
//!
//! Source: W. Tarreau, "The PROXY protocol, versions 1 & 2", 2020 (`proxy-protocol.txt` in HAProxy).
//!
//! ```
//! use buttress::forward::proxy_protocol::{Header, Parsed, Version};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let header = Header::tcp("192.0.2.1:56324".parse()?, "198.51.100.7:443".parse()?);
//! assert_eq!(header.encode(Version::V1), b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n");
//!
//! let bytes = header.encode(Version::V2);
//! assert_eq!(Header::parse(&bytes[..20])?, Parsed::More(8));
//! assert_eq!(Header::parse(&bytes)?, Parsed::Done { header, length: 28 });
//! # Ok(())
//! # }
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

mod checksum;
mod receiver;
#[cfg(test)]
mod tests;
mod tlv;
mod v1;
mod v2;

pub use receiver::{ReceiveError, Received, Receiver};

/// The shortest valid header, `PROXY UNKNOWN` and a line end: so many bytes may be read before anything is known.
const SHORTEST: usize = 15;

/// How a header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// One line of text. It has no room for anything but addresses.
    V1,
    /// Binary, shorter, and can say more.
    V2,
}

/// The two ends of the connection that a header speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoints {
    /// The proxy has opened the connection for itself, for a health check for example (`LOCAL` in version 2).
    Local,
    /// The proxy passes a connection on and does not say whose, or one that is not TCP over IP.
    Unknown,
    /// A TCP connection. IPv4-mapped IPv6 addresses have become IPv4.
    Tcp {
        /// The client.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
    },
}

/// What a proxy says of the connection that it passes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    endpoints: Endpoints,
    /// Type-length-value vectors, as they were sent, without checksum and padding. Well formed.
    tlvs: Vec<u8>,
}

/// What the first bytes of a connection hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A header and its length: what follows is the client's.
    Done {
        /// The header.
        header: Header,
        /// How many bytes it takes.
        length: usize,
    },
    /// The beginning of a header, and how many more bytes there are in it at the least: as many may be read without
    /// taking from what follows.
    More(usize),
}

impl Header {
    /// The type of the TLV with the application protocol that was negotiated.
    pub const ALPN: u8 = 0x01;
    /// The type of the TLV with the host name that the client asked for.
    pub const AUTHORITY: u8 = 0x02;
    /// The type of the TLV with a name for the connection, of at most 128 bytes.
    pub const UNIQUE_ID: u8 = 0x05;

    const CRC32C: u8 = 0x03;
    const NOOP: u8 = 0x04;

    /// For a TCP connection from `source` to `destination`.
    pub fn tcp(source: SocketAddr, destination: SocketAddr) -> Self {
        let (source, destination) = (canonical(source), canonical(destination));
        Self { endpoints: Endpoints::Tcp { source, destination }, tlvs: Vec::new() }
    }

    /// For a connection that the proxy opens for itself.
    pub fn local() -> Self {
        Self { endpoints: Endpoints::Local, tlvs: Vec::new() }
    }

    /// For a connection of which nothing is known.
    pub fn unknown() -> Self {
        Self { endpoints: Endpoints::Unknown, tlvs: Vec::new() }
    }

    /// Adds a TLV, which only version 2 carries, and only with addresses.
    ///
    /// # Errors
    /// [`HeaderError::TooLong`] when it does not fit, [`HeaderError::Tlv`] for an id of more than 128 bytes and for the
    /// types of checksums and padding.
    pub fn with_tlv(mut self, kind: u8, value: &[u8]) -> Result<Self, HeaderError> {
        tlv::push(&mut self.tlvs, kind, value)?;
        Ok(self)
    }

    /// The two ends of the connection.
    pub fn endpoints(&self) -> Endpoints {
        self.endpoints
    }

    /// The client's address. `None` when the ends of the connection that brought the header are the true ones, or the
    /// only ones known.
    pub fn source(&self) -> Option<SocketAddr> {
        match self.endpoints {
            Endpoints::Tcp { source, .. } => Some(source),
            _ => None,
        }
    }

    /// The TLVs in their order, with their types, except checksums and padding.
    pub fn tlvs(&self) -> impl Iterator<Item = (u8, &[u8])> {
        tlv::iter(&self.tlvs)
    }

    /// The value of the first TLV of a type.
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        self.tlvs().find(|(known, _)| *known == kind).map(|(_, value)| value)
    }

    /// The host name that the client asked for. The client chose it.
    pub fn authority(&self) -> Option<&str> {
        self.tlv(Self::AUTHORITY).and_then(|name| std::str::from_utf8(name).ok())
    }

    /// Reads the header at the beginning of `bytes`, of either version. O(length).
    ///
    /// A checksum is verified if there is one. Of a `LOCAL` header, and of one without addresses, all else is skipped.
    ///
    /// # Errors
    /// When no header begins like this: the connection must then be closed. That may be seen only at the end of the header.
    pub fn parse(bytes: &[u8]) -> Result<Parsed, HeaderError> {
        if bytes.is_empty() {
            return Ok(Parsed::More(SHORTEST));
        }
        let starts_like = |signature: &[u8]| bytes.iter().zip(signature).all(|(a, b)| a == b);
        if starts_like(v2::SIGNATURE) {
            v2::parse(bytes)
        } else if starts_like(v1::SIGNATURE) {
            v1::parse(bytes)
        } else {
            Err(HeaderError::NoHeader)
        }
    }

    /// The bytes of the header, to be sent in one write before anything else.
    ///
    /// An IPv4 address beside an IPv6 one is written as IPv4-mapped. Version 1 has one word, `UNKNOWN`, for all that is not
    /// TCP.
    pub fn encode(&self, version: Version) -> Vec<u8> {
        match version {
            Version::V1 => v1::encode(self),
            Version::V2 => v2::encode(self),
        }
    }
}

/// Why bytes are no header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Something else altogether: the client's own bytes, for example.
    #[error("there is no PROXY protocol header: is the proxy in front told to send one?")]
    NoHeader,
    /// The line of version 1 is not exactly as it must be.
    #[error("the PROXY protocol line is malformed or longer than 107 bytes")]
    Line,
    /// The binary header has a version, a command or an address family that does not exist.
    #[error("the PROXY protocol header has the unknown {what} {value:#x}")]
    Unsupported {
        /// Which part.
        what: &'static str,
        /// Its value.
        value: u8,
    },
    /// Shorter than the addresses that it should hold.
    #[error("the PROXY protocol header is too short for its addresses")]
    TooShort,
    /// Longer than is reasonable.
    #[error("the PROXY protocol header is longer than 4096 bytes")]
    TooLong,
    /// A TLV ends after the header, or does not hold what its type says.
    #[error("the PROXY protocol header has a malformed TLV")]
    Tlv,
    /// The checksum does not match.
    #[error("the PROXY protocol header does not match its checksum")]
    Checksum,
}

/// The address that an IPv4-mapped one stands for, without what means something to one host only.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn mapped(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}
