//! Networks, and which of them are believed.
//!
//! Parsing is strict, because a typing error here hands the client's identity to a stranger: no leading zeros, no
//! host bits after the prefix, no names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, such as `10.0.0.0/8` or `2001:db8::/32`. A bare address is a range of one.
///
/// IPv4-mapped IPv6 ranges (`::ffff:10.0.0.0/104`) become the IPv4 range that they mean, as mapped addresses do. An
/// IPv6 range holds no IPv4 address, not even `::/0`.
///
/// ```
/// use buttress::forward::Cidr;
///
/// let net: Cidr = "10.0.0.0/8".parse()?;
/// assert!(net.contains("10.1.2.3".parse()?));
/// assert!(net.contains("::ffff:10.1.2.3".parse()?));
/// assert!("10.0.0.1/8".parse::<Cidr>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    base: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The range of all addresses that share the first `prefix` bits of `base`.
    ///
    /// # Errors
    /// When the prefix is longer than the address, or `base` has bits set after it.
    pub fn new(base: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        let longest = if base.is_ipv4() { 32 } else { 128 };
        if prefix > longest {
            return Err(CidrError::PrefixTooLong { prefix: u16::from(prefix), longest });
        }
        let start = match base {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask4(prefix))),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask6(prefix))),
        };
        if start != base {
            return Err(CidrError::HostBits { base, prefix, start });
        }
        match base.to_canonical() {
            mapped @ IpAddr::V4(_) if base.is_ipv6() && prefix >= 96 => {
                Ok(Self { base: mapped, prefix: prefix - 96 })
            }
            _ => Ok(Self { base, prefix }),
        }
    }

    /// Whether `addr` lies in the range.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.base, addr.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(addr)) => addr.to_bits() & mask4(self.prefix) == base.to_bits(),
            (IpAddr::V6(base), IpAddr::V6(addr)) => addr.to_bits() & mask6(self.prefix) == base.to_bits(),
            _ => false,
        }
    }
}

impl From<IpAddr> for Cidr {
    fn from(addr: IpAddr) -> Self {
        let base = addr.to_canonical();
        Self { base, prefix: if base.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => (addr, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = addr.parse().map_err(|_| CidrError::Address(addr.to_owned()))?;
        let Some(prefix) = prefix else { return Ok(base.into()) };

        // `u8::from_str` would take "+8" and "008".
        let plain = prefix.bytes().all(|b| b.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
        let bits: u16 = match prefix.parse() {
            Ok(bits) if plain => bits,
            _ => return Err(CidrError::Prefix(prefix.to_owned())),
        };
        let longest = if base.is_ipv4() { 32 } else { 128 };
        let bits8 = u8::try_from(bits).map_err(|_| CidrError::PrefixTooLong { prefix: bits, longest })?;
        Self::new(base, bits8)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// Why a text is not a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CidrError {
    /// The part before the slash is no address.
    #[error(
        "{0:?} is not an IP address: write it like 192.0.2.1 or 2001:db8::1, without leading zeros or names"
    )]
    Address(String),
    /// The part after the slash is no plain number.
    #[error("{0:?} is not a prefix length: write it like the 8 in 10.0.0.0/8")]
    Prefix(String),
    /// More bits than the address has.
    #[error("a prefix of {prefix} bits is longer than the address: at most {longest}")]
    PrefixTooLong {
        /// The length asked for.
        prefix: u16,
        /// The length of the address.
        longest: u8,
    },
    /// The address is not the first of its range, so one of the two was mistyped.
    #[error(
        "{base}/{prefix} has bits set after the prefix: write {start}/{prefix}, or {base} for the one address"
    )]
    HostBits {
        /// The address as written.
        base: IpAddr,
        /// The prefix as written.
        prefix: u8,
        /// The first address of the range.
        start: IpAddr,
    },
}

/// The proxies whose word on the client's address is believed.
///
/// Put here the addresses of your own load balancers and of your CDN, nothing else: whoever is in this set may claim
/// to be any client.
///
/// ```
/// use buttress::forward::TrustedProxies;
///
/// let trusted = TrustedProxies::loopback().and("203.0.113.0/24".parse()?);
/// assert!(trusted.contains("127.0.0.1".parse()?));
/// assert!(trusted.contains("203.0.113.9".parse()?));
/// assert!(!trusted.contains("198.51.100.1".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    nets: Vec<Cidr>,
}

impl TrustedProxies {
    /// Trusts nobody: the client is whoever opened the connection. The default.
    pub fn none() -> Self {
        Self::default()
    }

    /// Trusts this machine: `127.0.0.0/8` and `::1`.
    pub fn loopback() -> Self {
        Self { nets: vec![v4([127, 0, 0, 0], 8), v6(1, 128)] }
    }

    /// Trusts this machine and the private networks: RFC 1918, RFC 6598, link-local and unique local addresses.
    ///
    /// Only right where no client can sit in such a network itself.
    pub fn private() -> Self {
        let mut trusted = Self::loopback();
        trusted.nets.extend([
            v4([10, 0, 0, 0], 8),
            v4([172, 16, 0, 0], 12),
            v4([192, 168, 0, 0], 16),
            v4([169, 254, 0, 0], 16),
            v4([100, 64, 0, 0], 10),
            v6(0xfc00 << 112, 7),
            v6(0xfe80 << 112, 10),
        ]);
        trusted
    }

    /// Reads a list of ranges, as from a configuration file.
    ///
    /// # Errors
    /// At the first text that is no range.
    pub fn parse<T: AsRef<str>>(ranges: impl IntoIterator<Item = T>) -> Result<Self, CidrError> {
        ranges.into_iter().map(|range| range.as_ref().trim().parse()).collect()
    }

    /// Trusts one more range.
    #[must_use]
    pub fn and(mut self, range: Cidr) -> Self {
        self.nets.push(range);
        self
    }

    /// Whether `addr` is a trusted proxy.
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.nets.iter().any(|net| net.contains(addr))
    }
}

impl FromIterator<Cidr> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = Cidr>>(ranges: I) -> Self {
        Self { nets: ranges.into_iter().collect() }
    }
}

fn v4(octets: [u8; 4], prefix: u8) -> Cidr {
    Cidr { base: IpAddr::V4(Ipv4Addr::from(octets)), prefix }
}

fn v6(bits: u128, prefix: u8) -> Cidr {
    Cidr { base: IpAddr::V6(Ipv6Addr::from_bits(bits)), prefix }
}

// A shift by the whole width is an overflow, hence `checked_shl`: `/0` masks everything away.
fn mask4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Result<Cidr, CidrError> {
        text.parse()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_bare_address_is_a_range_of_one() {
        let net = cidr("192.0.2.1").unwrap();
        assert!(net.contains(ip("192.0.2.1")));
        assert!(!net.contains(ip("192.0.2.0")));
        assert_eq!(net.to_string(), "192.0.2.1/32");
    }

    #[test]
    fn a_prefix_of_zero_holds_every_address_of_its_family() {
        let all4 = cidr("0.0.0.0/0").unwrap();
        assert!(all4.contains(ip("255.255.255.255")) && all4.contains(ip("::ffff:1.2.3.4")));
        assert!(!all4.contains(ip("::1")));
        let all6 = cidr("::/0").unwrap();
        assert!(all6.contains(ip("ffff::")));
        assert!(!all6.contains(ip("1.2.3.4")) && !all6.contains(ip("::ffff:1.2.3.4")));
    }

    #[test]
    fn mapped_ranges_are_the_ipv4_ranges_they_mean() {
        assert_eq!(cidr("::ffff:10.0.0.0/104"), cidr("10.0.0.0/8"));
        assert_eq!(cidr("::ffff:10.0.0.1"), cidr("10.0.0.1/32"));
    }

    #[test]
    fn typing_errors_are_named() {
        for bad in
            ["", "/8", "010.0.0.0/8", "10.0.0/8", "host/8", "fe80::1%eth0", " 10.0.0.0/8", "1.2.3.4:80"]
        {
            assert!(matches!(cidr(bad), Err(CidrError::Address(_))), "{bad}");
        }
        for bad in
            ["10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0.0/-1", "10.0.0.0/8 ", "10.0.0.0/255.0.0.0"]
        {
            assert!(matches!(cidr(bad), Err(CidrError::Prefix(_))), "{bad}");
        }
        for bad in ["10.0.0.0/33", "::/129", "::/256"] {
            assert!(matches!(cidr(bad), Err(CidrError::PrefixTooLong { .. })), "{bad}");
        }
        let error = cidr("10.0.0.1/8").unwrap_err();
        assert!(error.to_string().contains("write 10.0.0.0/8"), "{error}");
    }

    #[test]
    fn presets_hold_what_they_say() {
        assert!(!TrustedProxies::none().contains(ip("127.0.0.1")));
        let loopback = TrustedProxies::loopback();
        assert!(loopback.contains(ip("127.9.9.9")) && loopback.contains(ip("::1")));
        assert!(loopback.contains(ip("::ffff:127.0.0.1")) && !loopback.contains(ip("10.0.0.1")));
        let private = TrustedProxies::private();
        for inside in [
            "10.1.1.1",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "100.127.0.1",
            "fd00::1",
            "fe80::1",
            "::1",
        ] {
            assert!(private.contains(ip(inside)), "{inside}");
        }
        for outside in ["11.0.0.1", "172.32.0.1", "100.128.0.1", "2001:db8::1", "fec0::1"] {
            assert!(!private.contains(ip(outside)), "{outside}");
        }
    }

    #[test]
    fn a_list_is_read_or_refused_as_a_whole() {
        assert!(TrustedProxies::parse(["10.0.0.0/8", " ::1 "]).unwrap().contains(ip("::1")));
        assert!(TrustedProxies::parse(["10.0.0.0/8", "nonsense"]).is_err());
    }

    proptest! {
        #[test]
        fn a_range_holds_exactly_the_addresses_that_share_its_prefix(base: u128, addr: u128, prefix in 0u8..=128) {
            let start = Ipv6Addr::from_bits(base & mask6(prefix));
            prop_assume!(IpAddr::V6(start).to_canonical().is_ipv6());
            let addr = Ipv6Addr::from_bits(addr);
            prop_assume!(IpAddr::V6(addr).to_canonical().is_ipv6());
            let same = (0..prefix).all(|bit| (start.to_bits() ^ addr.to_bits()) >> (127 - bit) & 1 == 0);
            prop_assert_eq!(Cidr::new(start.into(), prefix).unwrap().contains(addr.into()), same);
        }

        #[test]
        fn no_text_panics_and_what_parses_prints_and_parses_again(text in "[0-9a-f:./+ ]{0,24}") {
            if let Ok(net) = text.parse::<Cidr>() {
                prop_assert_eq!(net.to_string().parse::<Cidr>(), Ok(net));
            }
        }
    }
}
