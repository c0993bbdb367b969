//! What a rule says of the host, and which host a request is for.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::header::HOST;
use http::{HeaderMap, Uri};

use super::Fault;
use super::trie::TextMap;
use crate::forward::without_user;

/// The longest name in DNS (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;

/// A host, and the port that stood behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host<'a> {
    /// In lower case, without a dot at the end.
    name: Cow<'a, str>,
    port: Option<u16>,
}

/// A request whose host cannot be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadHost;

impl<'a> Host<'a> {
    /// The host that a request is for. That of the target overrides the header (RFC 9112, section 3.2.2).
    pub(super) fn of(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Option<Self>, BadHost> {
        if let Some(authority) = uri.authority() {
            return Self::parse(without_user(authority.as_str())).map(Some);
        }
        let mut lines = headers.get_all(HOST).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        if lines.next().is_some() {
            return Err(BadHost);
        }
        if line.is_empty() {
            return Ok(None);
        }
        Self::parse(line.to_str().map_err(|_| BadHost)?).map(Some)
    }

    pub(super) fn parse(text: &'a str) -> Result<Self, BadHost> {
        let literal_ends = if text.starts_with('[') { text.find(']').ok_or(BadHost)? + 1 } else { 0 };
        let (name, port) = match text[literal_ends..].find(':') {
            Some(colon) => (&text[..literal_ends + colon], &text[literal_ends + colon + 1..]),
            None => (text, ""),
        };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = match port {
            "" => None,
            port if digits => Some(port.parse().map_err(|_| BadHost)?),
            _ => return Err(BadHost),
        };
        Ok(Self { name: read_name(name).ok_or(BadHost)?, port })
    }
}

fn read_name(name: &str) -> Option<Cow<'_, str>> {
    if let Some(literal) = name.strip_prefix('[') {
        let addr: Ipv6Addr = literal.strip_suffix(']')?.parse().ok()?;
        return Some(Cow::Owned(format!("[{addr}]")));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut empty = true;
    let mut upper = false;
    for byte in name.bytes() {
        match byte {
            b'.' if empty => return None,
            b'.' => empty = true,
            b'A'..=b'Z' => (empty, upper) = (false, true),
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => empty = false,
            _ => return None,
        }
    }
    if empty || name.len() > MAX_NAME {
        return None;
    }
    Some(if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) })
}

/// What a rule says of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPattern {
    /// Whether labels may, and must, stand in front.
    wildcard: bool,
    host: Host<'static>,
}

impl HostPattern {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let (wildcard, host) = match text.strip_prefix("*.") {
            Some(suffix) => (true, suffix),
            None => (false, text),
        };
        let Ok(Host { name, port }) = Host::parse(host) else { return Err(Fault::Host(text.to_owned())) };
        if wildcard && name.starts_with('[') {
            return Err(Fault::Host(text.to_owned()));
        }
        Ok(Self { wildcard, host: Host { name: Cow::Owned(name.into_owned()), port } })
    }
}

/// What is known for each host.
#[derive(Debug)]
pub(super) struct Hosts<V> {
    any: Option<V>,
    root: Label<V>,
}

/// A label of a name, from the right, and all that may stand in front of it.
#[derive(Debug)]
struct Label<V> {
    labels: TextMap<Label<V>>,
    exact: Ports<V>,
    wildcard: Ports<V>,
}

/// For one port each, or for any.
type Ports<V> = Vec<(Option<u16>, V)>;

impl<V> Default for Label<V> {
    fn default() -> Self {
        Self { labels: TextMap::default(), exact: Vec::new(), wildcard: Vec::new() }
    }
}

impl<V> Default for Hosts<V> {
    fn default() -> Self {
        Self { any: None, root: Label::default() }
    }
}

impl<V: Default> Hosts<V> {
    /// What is known for the hosts of this pattern, or for any host.
    pub(super) fn entry(&mut self, pattern: Option<&HostPattern>) -> &mut V {
        let Some(HostPattern { wildcard, host }) = pattern else { return self.any.get_or_insert_default() };
        let mut node = &mut self.root;
        for label in labels(&host.name) {
            node = node.labels.entry(label.into()).or_default();
        }
        let ports = if *wildcard { &mut node.wildcard } else { &mut node.exact };
        let known = ports.iter().position(|(port, _)| *port == host.port);
        let index = known.unwrap_or_else(|| {
            ports.push((host.port, V::default()));
            ports.len() - 1
        });
        &mut ports[index].1
    }
}

impl<V> Hosts<V> {
    /// What is known for the most specific pattern that matches.
    pub(super) fn find(&self, host: Option<&Host<'_>>) -> Option<&V> {
        host.and_then(|host| self.find_named(host)).or(self.any.as_ref())
    }

    fn find_named(&self, host: &Host<'_>) -> Option<&V> {
        let mut node = &self.root;
        let mut best = None;
        for label in labels(&host.name) {
            // A wildcard stands for at least this label.
            best = at_port(&node.wildcard, host.port).or(best);
            match node.labels.get(label) {
                Some(next) => node = next,
                None => return best,
            }
        }
        at_port(&node.exact, host.port).or(best)
    }

    pub(super) fn values_mut(&mut self) -> Vec<&mut V> {
        let mut values: Vec<_> = self.any.iter_mut().collect();
        self.root.collect(&mut values);
        values
    }
}

impl<V> Label<V> {
    fn collect<'a>(&'a mut self, values: &mut Vec<&'a mut V>) {
        values.extend(self.exact.iter_mut().chain(&mut self.wildcard).map(|(_, value)| value));
        self.labels.values_mut().for_each(|label| label.collect(values));
    }
}

/// The labels of a name from the right. An address is a single one.
fn labels(name: &str) -> impl Iterator<Item = &str> {
    let address = name.starts_with('[');
    name.rsplit(move |c| c == '.' && !address)
}

fn at_port<V>(ports: &Ports<V>, port: Option<u16>) -> Option<&V> {
    let of = |wanted: Option<u16>| ports.iter().find(|(port, _)| *port == wanted).map(|(_, value)| value);
    port.and_then(|port| of(Some(port))).or_else(|| of(None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parsed(text: &str) -> Option<(String, Option<u16>)> {
        Host::parse(text).ok().map(|host| (host.name.into_owned(), host.port))
    }

    #[test]
    fn names_are_read_as_dns_does() {
        for (text, name, port) in [
            ("example.com", "example.com", None),
            ("Shop.EXAMPLE.com", "shop.example.com", None),
            ("example.com.", "example.com", None),
            ("example.com.:80", "example.com", Some(80)),
            ("example.com:", "example.com", None),
            ("my_node-1", "my_node-1", None),
            ("10.0.0.1:8080", "10.0.0.1", Some(8080)),
            ("[::1]", "[::1]", None),
            ("[2001:DB8:0::1]:443", "[2001:db8::1]", Some(443)),
            ("[::ffff:10.0.0.1]", "[::ffff:10.0.0.1]", None),
        ] {
            assert_eq!(parsed(text), Some((name.to_owned(), port)), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "a.".repeat(127) + "b";
        for text in [
            "",
            ".",
            "..",
            ".a",
            "a..",
            "a..b",
            "a b",
            "a/b",
            "a@b",
            "%61",
            "é",
            "*",
            "*.a",
            "a:b",
            "a:-1",
            "a:+1",
            "a:65536",
            "a:80:80",
            "::1",
            "[::1",
            "::1]",
            "[::1]x",
            "[a]",
            "[]",
            "[fe80::1%25eth0]",
            "a[::1]",
            "x,y",
            "[::1]]",
            "]",
            "]:80",
            &long,
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
        assert!(parsed(&long[..254]).is_some());
    }

    fn of<B>(request: &Request<B>) -> Result<Option<String>, BadHost> {
        Host::of(request.uri(), request.headers()).map(|host| host.map(|host| host.name.into_owned()))
    }

    #[test]
    fn the_target_overrides_the_header() {
        let request = Request::get("http://user@a.example/").header("host", "b.example").body(()).unwrap();
        assert_eq!(of(&request), Ok(Some("a.example".into())));
        let request = Request::get("/").header("host", "b.example").body(()).unwrap();
        assert_eq!(of(&request), Ok(Some("b.example".into())));
        assert_eq!(of(&Request::get("/").body(()).unwrap()), Ok(None));
        assert_eq!(of(&Request::get("/").header("host", "").body(()).unwrap()), Ok(None));
        let twice = Request::get("/").header("host", "a").header("host", "a").body(()).unwrap();
        assert_eq!(of(&twice), Err(BadHost));
        let odd = Request::get("/").header("host", "a\u{e9}").body(()).unwrap();
        assert_eq!(of(&odd), Err(BadHost));
    }

    #[test]
    fn the_most_specific_host_is_found() {
        let patterns = [
            "example.com",
            "*.example.com",
            "*.shop.example.com",
            "a.shop.example.com",
            "*.example.com:8443",
            "example.com:8443",
            "[::1]",
            "*.1",
            "*.com",
        ];
        let mut hosts: Hosts<&str> = Hosts::default();
        for pattern in patterns {
            *hosts.entry(Some(&HostPattern::parse(pattern).unwrap())) = pattern;
        }
        *hosts.entry(None) = "any";
        for (host, expected) in [
            ("example.com", "example.com"),
            ("EXAMPLE.com.:80", "example.com"),
            ("example.com:8443", "example.com:8443"),
            ("www.example.com", "*.example.com"),
            ("a.b.example.com", "*.example.com"),
            ("a.b.example.com:8443", "*.example.com:8443"),
            ("shop.example.com", "*.example.com"),
            ("a.shop.example.com", "a.shop.example.com"),
            ("b.shop.example.com", "*.shop.example.com"),
            // The name counts for more than the port.
            ("b.shop.example.com:8443", "*.shop.example.com"),
            ("b.a.shop.example.com", "*.shop.example.com"),
            ("notexample.com", "*.com"),
            ("com", "any"),
            ("example.org", "any"),
            ("[0:0:0:0:0:0:0:1]:80", "[::1]"),
            ("[::2]", "any"),
            ("10.0.0.1", "*.1"),
        ] {
            assert_eq!(hosts.find(Some(&Host::parse(host).unwrap())), Some(&expected), "{host}");
        }
        assert_eq!(hosts.find(None), Some(&"any"));
    }

    #[test]
    fn malformed_host_patterns_are_refused() {
        for text in
            ["", "*", "*.", "**.a", "a.*", "a.*.b", "*a.b", "*.*.a", "*.[::1]", "a/b", "http://a", "a:x"]
        {
            assert_eq!(HostPattern::parse(text), Err(Fault::Host(text.to_owned())));
        }
    }
}
