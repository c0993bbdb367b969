//! Who the client is, when proxies stand in between.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::FORWARDED;

use super::cidr::TrustedProxies;
use super::forwarded::{self, Node};

/// The address of the client, as decided by [`client_addr`]. A request extension.
///
/// ```
/// use buttress::forward::ClientAddr;
/// use http::Request;
///
/// # fn handle(request: &Request<()>) -> Option<String> {
/// let client = request.extensions().get::<ClientAddr>()?;
/// Some(format!("hello {}", client.0))
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddr(pub IpAddr);

/// Which header tells where a request came from before it reached the peer.
///
/// Exactly one is honoured: a proxy that writes one of them passes the other on as the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AddrSource {
    /// `X-Forwarded-For`, which nearly every proxy writes.
    #[default]
    XForwardedFor,
    /// `Forwarded`, the standard of RFC 7239.
    Forwarded,
}

/// Decides the address of the client.
///
/// The peer is the client unless it is trusted. From a trusted peer, the header is read from its end, where the
/// nearest proxy wrote, and the first address that is not trusted is the client. Where an entry names no address
/// (`unknown`, a hidden name, anything malformed, nothing), the walk ends with the last address it was sure of: what
/// stands further left may have been sent by anyone. When all are trusted, the leftmost is the client.
///
/// ```
/// use buttress::forward::{AddrSource, TrustedProxies, client_addr};
/// use http::HeaderMap;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("x-forwarded-for", "10.9.9.9, 198.51.100.7, 10.0.0.2".parse()?);
/// let trusted = TrustedProxies::parse(["10.0.0.0/8"])?;
///
/// let client = client_addr("10.0.0.1".parse()?, &headers, &trusted, AddrSource::default());
/// assert_eq!(client.0.to_string(), "198.51.100.7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn client_addr(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &TrustedProxies,
    source: AddrSource,
) -> ClientAddr {
    ClientAddr(walk(peer, headers, trusted, source, |_| {}))
}

/// The walk itself; `believed` sees the entries that were found true, from the right to the left.
pub(super) fn walk<'h>(
    peer: IpAddr,
    headers: &'h HeaderMap,
    trusted: &TrustedProxies,
    source: AddrSource,
    mut believed: impl FnMut(&'h [u8]),
) -> IpAddr {
    let mut client = peer.to_canonical();
    if !trusted.contains(client) {
        return client;
    }
    for entry in entries(headers, source) {
        let Some(addr) = source.addr(entry) else { return client };
        client = addr;
        believed(entry);
        if !trusted.contains(client) {
            return client;
        }
    }
    client
}

/// How far the walk goes. Only entries vouched for by trusted proxies are ever counted, so no client reaches these
/// bounds by what it sends; 32 hops is far more than any real chain has.
const MAX_ENTRIES: usize = 32;
/// The usual limit on one header line, in bytes.
const MAX_BYTES: usize = 8 * 1024;

impl AddrSource {
    pub(super) fn header(self) -> http::HeaderName {
        match self {
            Self::XForwardedFor => super::headers::X_FORWARDED_FOR,
            Self::Forwarded => FORWARDED,
        }
    }

    fn addr(self, entry: &[u8]) -> Option<IpAddr> {
        match self {
            Self::XForwardedFor => xff_addr(entry),
            Self::Forwarded => forwarded::for_node(entry).as_ref().and_then(Node::addr),
        }
    }
}

/// All entries of all lines, the last one first, as far as the bounds go.
fn entries(headers: &HeaderMap, source: AddrSource) -> impl Iterator<Item = &[u8]> {
    let mut lines = headers.get_all(source.header()).iter().rev();
    let mut line: Option<&[u8]> = None;
    let mut bytes = MAX_BYTES;
    let next = move || {
        let list = match line.take() {
            Some(rest) => rest,
            None => lines.next()?.as_bytes(),
        };
        // Looking no further back than the bound keeps a long line from costing more than it.
        let window = &list[list.len().saturating_sub(bytes)..];
        let (rest, entry) = match source {
            AddrSource::XForwardedFor => match window.iter().rposition(|b| *b == b',') {
                Some(comma) => (Some(&window[..comma]), &window[comma + 1..]),
                None => (None, window),
            },
            AddrSource::Forwarded => forwarded::split_last(window),
        };
        if rest.is_none() && window.len() < list.len() {
            return None;
        }
        line = rest.map(|rest| &list[..list.len() - window.len() + rest.len()]);
        bytes = bytes.saturating_sub(entry.len() + 1);
        Some(entry.trim_ascii())
    };
    std::iter::from_fn(next).take(MAX_ENTRIES)
}

/// An address as proxies write it into `X-Forwarded-For`: bare, or with the port that some add.
fn xff_addr(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    match text.parse::<IpAddr>() {
        Ok(addr) => Some(addr.to_canonical()),
        Err(_) => Node::parse(entry)?.addr(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn trusted() -> TrustedProxies {
        TrustedProxies::parse(["10.0.0.0/8", "fd00::/8"]).unwrap()
    }

    fn decide(peer: &str, source: AddrSource, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(source.header(), line.parse().unwrap());
        }
        client_addr(peer.parse().unwrap(), &headers, &trusted(), source).0.to_string()
    }

    fn xff(peer: &str, lines: &[&str]) -> String {
        decide(peer, AddrSource::XForwardedFor, lines)
    }

    fn forwarded(peer: &str, lines: &[&str]) -> String {
        decide(peer, AddrSource::Forwarded, lines)
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        assert_eq!(xff("192.0.2.1", &["203.0.113.1"]), "192.0.2.1");
        assert_eq!(forwarded("192.0.2.1", &["for=203.0.113.1"]), "192.0.2.1");
        assert_eq!(xff("::ffff:192.0.2.1", &["203.0.113.1"]), "192.0.2.1");
    }

    #[test]
    fn the_rightmost_untrusted_entry_is_the_client() {
        assert_eq!(xff("10.0.0.1", &["1.1.1.1, 203.0.113.1, 10.0.0.2"]), "203.0.113.1");
        assert_eq!(xff("10.0.0.1", &["1.1.1.1", "203.0.113.1", "10.0.0.2,10.0.0.3"]), "203.0.113.1");
        assert_eq!(xff("::ffff:10.0.0.1", &["203.0.113.1, ::ffff:10.0.0.2"]), "203.0.113.1");
        let lines = [r#"for=1.1.1.1, for="[2001:db8::1]:4711";host="a,b""#, r#"by=_x;for="[fd00::1]""#];
        assert_eq!(forwarded("10.0.0.1", &lines), "2001:db8::1");
    }

    #[test]
    fn ports_and_brackets_are_understood_in_x_forwarded_for() {
        for entry in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80"] {
            assert_eq!(xff("10.0.0.1", &[entry]), "2001:db8::1");
        }
        assert_eq!(xff("10.0.0.1", &["203.0.113.1:4711"]), "203.0.113.1");
    }

    #[test]
    fn an_unreadable_entry_ends_the_walk_at_the_last_good_address() {
        for bad in ["unknown", "", "_hidden", "010.1.1.1", "1.2.3", "evil", "1.2.3.4 5", "\"1.2.3.4\""] {
            assert_eq!(xff("10.0.0.1", &[&format!("203.0.113.1, {bad}, 10.0.0.2")]), "10.0.0.2", "{bad}");
            assert_eq!(xff("10.0.0.1", &[&format!("203.0.113.1, {bad}")]), "10.0.0.1", "{bad}");
        }
        for bad in ["for=unknown", "for=_hidden", "proto=http", "for=1.2.3.4;for=1.2.3.4", "", "for=\""] {
            assert_eq!(
                forwarded("10.0.0.1", &[&format!("for=203.0.113.1, {bad}, for=10.0.0.2")]),
                "10.0.0.2",
                "{bad}"
            );
        }
    }

    #[test]
    fn when_all_are_trusted_the_leftmost_is_the_client() {
        assert_eq!(xff("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(xff("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn the_header_that_is_not_honoured_is_not_read() {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED, "for=203.0.113.1".parse().unwrap());
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(client_addr(peer, &headers, &trusted(), AddrSource::XForwardedFor), ClientAddr(peer));
    }

    #[test]
    fn the_walk_is_bounded_in_entries_and_bytes() {
        let many = vec!["10.0.0.2"; MAX_ENTRIES + 1].join(",");
        assert_eq!(xff("10.0.0.1", &[&format!("203.0.113.1,{many}")]), "10.0.0.2");
        let long = format!("203.0.113.1,{}10.0.0.2", " ".repeat(MAX_BYTES));
        assert_eq!(xff("10.0.0.1", &[&long]), "10.0.0.1");
        let long = format!("for=203.0.113.1,host=\"{}\";for=10.0.0.2", ",".repeat(MAX_BYTES));
        assert_eq!(forwarded("10.0.0.1", &[&long]), "10.0.0.1");
    }

    #[test]
    fn a_long_line_from_the_client_does_not_hide_what_was_appended() {
        let long = "x, ".repeat(MAX_BYTES);
        assert_eq!(xff("10.0.0.1", &[&format!("{long}203.0.113.1")]), "203.0.113.1");
        assert_eq!(forwarded("10.0.0.1", &[&format!("\"{long}, for=203.0.113.1")]), "203.0.113.1");
    }

    fn lines() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let plausible = prop::sample::select(vec![
            "10.0.0.9",
            "6.6.6.6",
            "for=6.6.6.6",
            "for=\"",
            ",",
            "unknown",
            "\\\"",
        ]);
        let line = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            prop::collection::vec(plausible, 0..6).prop_map(|parts| parts.join(", ").into_bytes()),
        ];
        prop::collection::vec(line, 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn what_an_attacker_prepends_never_changes_the_result(
            spoofed in lines(), client: u32, hops in prop::collection::vec(0u32..1 << 24, 0..4), same_line: bool,
        ) {
            let client = IpAddr::from(client.to_be_bytes());
            prop_assume!(!trusted().contains(client));
            let hops = hops.into_iter().map(|hop| IpAddr::from((10 << 24 | hop).to_be_bytes()));
            let chain: Vec<_> = std::iter::once(client).chain(hops).collect();
            for source in [AddrSource::XForwardedFor, AddrSource::Forwarded] {
                let chain = chain.iter().map(|addr| match source {
                    AddrSource::XForwardedFor => addr.to_string(),
                    AddrSource::Forwarded => forwarded::element([("for", addr.to_string())]),
                });
                let honest = chain.collect::<Vec<_>>().join(", ").into_bytes();
                let mut lines = spoofed.clone();
                match lines.pop() {
                    Some(last) if same_line => lines.push([last, b", ".to_vec(), honest].concat()),
                    Some(last) => lines.extend([last, honest]),
                    None => lines.push(honest),
                }
                let mut headers = HeaderMap::new();
                for line in lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok()) {
                    headers.append(source.header(), line);
                }
                // The line that holds the honest part may have been no header value at all; then nothing is decided.
                prop_assume!(lines.last().is_some_and(|line| HeaderValue::from_bytes(line).is_ok()));
                let decided = client_addr("10.0.0.1".parse().unwrap(), &headers, &trusted(), source);
                prop_assert_eq!(decided, ClientAddr(client));
            }
        }

        #[test]
        fn no_header_bytes_panic(spoofed in lines(), peer: u32) {
            let mut headers = HeaderMap::new();
            for line in spoofed.iter().filter_map(|line| HeaderValue::from_bytes(line).ok()) {
                headers.append(FORWARDED, line.clone());
                headers.append(super::super::headers::X_FORWARDED_FOR, line);
            }
            let all = TrustedProxies::parse(["0.0.0.0/0", "::/0"]).unwrap();
            for source in [AddrSource::XForwardedFor, AddrSource::Forwarded] {
                client_addr(IpAddr::from(peer.to_be_bytes()), &headers, &all, source);
            }
        }
    }
}
