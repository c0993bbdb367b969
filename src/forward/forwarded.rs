//! The `Forwarded` header (RFC 7239): reading one element, writing one element.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Who took part in forwarding a request (RFC 7239, section 6): an address, or a name that hides it.
///
/// ```
/// use buttress::forward::Node;
///
/// let node: Node = "[2001:db8::1]:4711".parse()?;
/// assert_eq!(node.addr(), Some("2001:db8::1".parse()?));
/// assert_eq!("_gateway".parse::<Node>()?.addr(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    name: NodeName,
    port: Option<Port>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum NodeName {
    Ip(IpAddr),
    Unknown,
    Obfuscated(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Port {
    Number(u16),
    Obfuscated(String),
}

impl Node {
    /// A node known by its address.
    pub fn ip(addr: IpAddr) -> Self {
        Self { name: NodeName::Ip(addr.to_canonical()), port: None }
    }

    /// A node whose address is known, with the port it spoke from.
    pub fn ip_and_port(addr: IpAddr, port: u16) -> Self {
        Self { port: Some(Port::Number(port)), ..Self::ip(addr) }
    }

    /// The address, unless it is hidden. IPv4-mapped IPv6 addresses come out as IPv4.
    pub fn addr(&self) -> Option<IpAddr> {
        match self.name {
            NodeName::Ip(addr) => Some(addr),
            NodeName::Unknown | NodeName::Obfuscated(_) => None,
        }
    }

    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (name, port) = if let Some(rest) = text.strip_prefix('[') {
            let (addr, rest) = rest.split_once(']')?;
            let addr: Ipv6Addr = addr.parse().ok()?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
            (NodeName::Ip(IpAddr::V6(addr).to_canonical()), port)
        } else {
            let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
            (unbracketed(name)?, port)
        };
        let port = match port {
            Some(port) => Some(Port::parse(port)?),
            None => None,
        };
        Some(Self { name, port })
    }
}

fn unbracketed(name: &str) -> Option<NodeName> {
    if name.eq_ignore_ascii_case("unknown") {
        return Some(NodeName::Unknown);
    }
    if obfuscated(name) {
        return Some(NodeName::Obfuscated(name.to_owned()));
    }
    name.parse().ok().map(|v4: Ipv4Addr| NodeName::Ip(v4.into()))
}

impl Port {
    fn parse(text: &str) -> Option<Self> {
        if obfuscated(text) {
            return Some(Self::Obfuscated(text.to_owned()));
        }
        // "port = 1*5DIGIT": the integer parser alone would take "+80" and "000000080".
        let digits = text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| digits).map(Self::Number)
    }
}

fn obfuscated(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('_') else { return false };
    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

impl FromStr for Node {
    type Err = NodeError;

    fn from_str(text: &str) -> Result<Self, NodeError> {
        Self::parse(text.as_bytes()).ok_or_else(|| NodeError(text.to_owned()))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            NodeName::Ip(IpAddr::V4(addr)) => write!(f, "{addr}")?,
            NodeName::Ip(IpAddr::V6(addr)) => write!(f, "[{addr}]")?,
            NodeName::Unknown => f.write_str("unknown")?,
            NodeName::Obfuscated(name) => f.write_str(name)?,
        }
        match &self.port {
            Some(Port::Number(port)) => write!(f, ":{port}"),
            Some(Port::Obfuscated(port)) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// A text that names no node of a `Forwarded` header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no forwarding node: write an IPv4 address, an IPv6 address in brackets, or a name like _gateway"
)]
pub struct NodeError(String);

/// Splits the last element off a list whose elements may hold quoted strings: what stands before the comma, and the
/// element after it.
///
/// Reading from the right, a quoted string ends at the first quote that no odd run of backslashes escapes, since an
/// opening quote follows a `=`. So what somebody wrote further left, unbalanced quotes included, cannot change how
/// the elements that were appended later are split.
pub(super) fn split_last(list: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut quoted = false;
    let mut at = list.len();
    while at > 0 {
        at -= 1;
        match list[at] {
            b'"' if quoted => {
                let slashes = list[..at].iter().rev().take_while(|b| **b == b'\\').count();
                quoted = slashes % 2 == 1;
                at -= slashes;
            }
            b'"' => quoted = true,
            b',' if !quoted => return (Some(&list[..at]), &list[at + 1..]),
            _ => {}
        }
    }
    (None, list)
}

/// The `for` node of one element, if the element follows the grammar to its end and has one.
pub(super) fn for_node(element: &[u8]) -> Option<Node> {
    let mut rest = element.trim_ascii();
    let mut node = None;
    let mut seen: Vec<&[u8]> = Vec::new();
    loop {
        // The grammar lets a pair be missing: "for=192.0.2.1;;proto=http".
        if let Some(after) = rest.strip_prefix(b";") {
            rest = after.trim_ascii_start();
            continue;
        }
        if rest.is_empty() {
            return node;
        }
        let (name, after) = token(rest)?;
        let (value, after) = value(after.strip_prefix(b"=")?)?;
        // "Each parameter MUST NOT occur more than once per field-value." (section 4)
        if seen.len() >= MAX_PAIRS || seen.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            return None;
        }
        seen.push(name);
        if name.eq_ignore_ascii_case(b"for") {
            node = Some(Node::parse(&value)?);
        }
        rest = after.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b";") {
            return None;
        }
    }
}

/// RFC 7239 knows four parameters and extensions are hardly seen; the bound keeps the search for doubles linear.
const MAX_PAIRS: usize = 16;

fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|b| !is_token(*b)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn value(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        return token(text).map(|(value, rest)| (value.to_vec(), rest));
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().copied().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((value, &quoted[at + 1..])),
            b'\\' => value.push(bytes.next()?.1),
            _ => value.push(byte),
        }
    }
    None
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Writes one element: pairs with a value, quoted where the value is no token.
pub(super) fn element<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push(';');
        }
        out.push_str(name);
        out.push('=');
        if !value.is_empty() && value.bytes().all(is_token) {
            out.push_str(&value);
            continue;
        }
        out.push('"');
        for char in value.chars() {
            if matches!(char, '"' | '\\') {
                out.push('\\');
            }
            out.push(char);
        }
        out.push('"');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(text: &str) -> Option<String> {
        for_node(text.as_bytes()).map(|node| node.to_string())
    }

    fn elements(list: &[u8]) -> Vec<&[u8]> {
        let mut out = Vec::new();
        let mut left = Some(list);
        while let Some(text) = left {
            let (before, element) = split_last(text);
            out.push(element.trim_ascii());
            left = before;
        }
        out.reverse();
        out
    }

    #[test]
    fn rfc7239_section_4_examples_are_read() {
        assert_eq!(node(r#"for="_gazonk""#).as_deref(), Some("_gazonk"));
        assert_eq!(node(r#"For="[2001:db8:cafe::17]:4711""#).as_deref(), Some("[2001:db8:cafe::17]:4711"));
        assert_eq!(node("for=192.0.2.60;proto=http;by=203.0.113.43").as_deref(), Some("192.0.2.60"));
        assert_eq!(
            elements(b"for=192.0.2.43, for=198.51.100.17"),
            [b"for=192.0.2.43".as_slice(), b"for=198.51.100.17"]
        );
    }

    #[test]
    fn rfc7239_section_6_nodes_are_read() {
        for (text, shown) in [
            ("unknown", "unknown"),
            ("UNKNOWN:80", "unknown:80"),
            ("_hidden", "_hidden"),
            ("_SEVKISEK:_p.0-1", "_SEVKISEK:_p.0-1"),
            ("192.0.2.43:47011", "192.0.2.43:47011"),
            ("[::ffff:192.0.2.43]", "192.0.2.43"),
        ] {
            assert_eq!(text.parse::<Node>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "_",
            "_a b",
            "2001:db8::1",
            "[2001:db8::1",
            "[192.0.2.1]",
            "[::1]80",
            "192.0.2.1:",
            "192.0.2.1:+8",
            "192.0.2.1:65536",
            "192.0.2.1:000080",
            "192.0.02.1",
            "[fe80::1%1]",
            "example.com",
            "unknown:x",
        ] {
            assert!(bad.parse::<Node>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_element_that_breaks_the_grammar_is_not_believed() {
        for bad in [
            "",
            ";",
            "for",
            "for=",
            "=1.2.3.4",
            "for =1.2.3.4",
            "for= 1.2.3.4",
            "for=1.2.3.4 proto=http",
            "for=1.2.3.4;for=5.6.7.8",
            "for=1.2.3.4;FOR=1.2.3.4",
            r#"for="1.2.3.4"#,
            r#"for="1.2.3.4"x"#,
            r#"for="1.2.3.4\"#,
            "for=[::1]",
            "for=1.2.3.4:80",
            "proto=http",
            "for=1.2.3.4;host=a:1",
            "for=1.2.3.4;=",
        ] {
            assert_eq!(node(bad), None, "{bad}");
        }
        for good in [
            "for=1.2.3.4",
            " for=1.2.3.4\t",
            ";for=1.2.3.4;",
            "host=a;;for=1.2.3.4; proto=http",
            r#"for="1\.2.3.4""#,
            r#"host="a,b;for=9.9.9.9";for=1.2.3.4"#,
            "for=1.2.3.4;ext=1",
        ] {
            assert_eq!(node(good).as_deref(), Some("1.2.3.4"), "{good}");
        }
    }

    #[test]
    fn quotes_hide_commas_and_escaped_quotes() {
        assert_eq!(elements(br#"host="a,b",for=_x"#), [br#"host="a,b""#.as_slice(), b"for=_x"]);
        assert_eq!(elements(br#"host="a\",b",for=_x"#), [br#"host="a\",b""#.as_slice(), b"for=_x"]);
        assert_eq!(elements(br#"host="a\\",for=_x"#), [br#"host="a\\""#.as_slice(), b"for=_x"]);
    }

    #[test]
    fn elements_are_written_with_the_quotes_they_need() {
        let pairs = [
            ("for", "[::1]:80".to_owned()),
            ("host", "a.b".to_owned()),
            ("x", String::new()),
            ("y", "\"\\".to_owned()),
        ];
        assert_eq!(element(pairs), r#"for="[::1]:80";host=a.b;x="";y="\"\\""#);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn random_bytes_never_panic_and_never_lose_or_invent_bytes(
            list in prop::collection::vec(prop::sample::select(&b"for=\"\\,;_1.:[] \t\xffx"[..]), 0..48),
        ) {
            let mut rest = Some(list.as_slice());
            let mut left = list.len();
            while let Some(text) = rest {
                let (before, last) = split_last(text);
                prop_assert_eq!(before.map_or(0, |before| before.len() + 1) + last.len(), left);
                left = before.map_or(0, <[u8]>::len);
                let _ = for_node(last);
                rest = before;
            }
        }
    }

    proptest! {
        #[test]
        fn what_stands_left_never_changes_a_well_formed_element(left: Vec<u8>, value in "[ -~]{0,20}", bits: u128) {
            let ours = element([
                ("for", Node::ip(Ipv6Addr::from_bits(bits).into()).to_string()),
                ("host", value),
            ]);
            let list = [left.as_slice(), b", ", ours.as_bytes()].concat();
            let (rest, last) = split_last(&list);
            prop_assert_eq!(rest, Some(left.as_slice()));
            prop_assert_eq!(last.trim_ascii(), ours.as_bytes());
            let addr = IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical();
            prop_assert_eq!(for_node(last).unwrap().addr(), Some(addr));
        }
    }
}
