//! What a proxy tells the next server about the client.

use std::net::{IpAddr, SocketAddr};

use http::header::{Entry, FORWARDED, HOST};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::cidr::TrustedProxies;
use super::client_addr::{AddrSource, ClientAddr, walk};
use super::forwarded::{self, Node};

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Rewrites the forwarding headers of a request: who the client is, which host it asked for and how.
///
/// Nothing a client says about itself gets through. From a peer that is not [trusted](Self::trust), all forwarding
/// headers are dropped and written anew. From a trusted peer, the honoured address header is continued from the
/// client on, and what somebody put in front of that is cut off; the address headers that are not honoured
/// are dropped, because the trusted proxy may not have looked at them. `X-Forwarded-Host`, `-Proto`, `-Port` and
/// `-Prefix` of a trusted peer stay, so such a proxy must set or drop them itself.
///
/// Written are `X-Forwarded-For`, `-Host` and `-Proto`, and `Forwarded` (RFC 7239) when asked for. The client's
/// address also becomes a request extension, [`ClientAddr`].
///
/// ```
/// use buttress::forward::{ClientAddr, ForwardHeaders};
/// use http::{Request, uri::Scheme};
///
/// let settings = ForwardHeaders::new().forwarded(true);
/// let request = Request::get("/").header("host", "example.com:8080").header("x-forwarded-for", "10.6.6.6").body(())?;
/// let (mut parts, ()) = request.into_parts();
/// settings.apply(&mut parts, "[2001:db8::1]:4711".parse()?, &Scheme::HTTPS);
///
/// assert_eq!(parts.headers["x-forwarded-for"], "2001:db8::1");
/// assert_eq!(parts.headers["x-forwarded-proto"], "https");
/// assert_eq!(parts.headers["forwarded"], r#"for="[2001:db8::1]";host="example.com:8080";proto=https"#);
/// assert_eq!(parts.extensions.get(), Some(&ClientAddr("2001:db8::1".parse()?)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four headers or parts of one, each written or not")]
pub struct ForwardHeaders {
    trusted: TrustedProxies,
    source: AddrSource,
    untrusted: Vec<HeaderName>,
    x_forwarded: bool,
    forwarded: bool,
    real_ip: bool,
    ports: bool,
    by: Option<Node>,
}

impl ForwardHeaders {
    /// Trusts nobody and writes the `X-Forwarded-…` headers.
    pub fn new() -> Self {
        Self {
            trusted: TrustedProxies::none(),
            source: AddrSource::default(),
            untrusted: Vec::new(),
            x_forwarded: true,
            forwarded: false,
            real_ip: false,
            ports: false,
            by: None,
        }
    }

    /// Believes these proxies. Nobody by default.
    #[must_use]
    pub fn trust(mut self, trusted: TrustedProxies) -> Self {
        self.trusted = trusted;
        self
    }

    /// Reads the client's address from this header of trusted peers. `X-Forwarded-For` by default.
    #[must_use]
    pub fn source(mut self, source: AddrSource) -> Self {
        self.source = source;
        self
    }

    /// Drops one more header from untrusted peers, such as `CF-Connecting-IP` or one that your own proxies set.
    #[must_use]
    pub fn drop_untrusted(mut self, name: HeaderName) -> Self {
        self.untrusted.push(name);
        self
    }

    /// Whether to write `X-Forwarded-For`, `-Host` and `-Proto`. On by default.
    #[must_use]
    pub fn x_forwarded(mut self, on: bool) -> Self {
        self.x_forwarded = on;
        self
    }

    /// Whether to write `Forwarded` (RFC 7239). Off by default.
    #[must_use]
    pub fn forwarded(mut self, on: bool) -> Self {
        self.forwarded = on;
        self
    }

    /// Whether to write the client's address to `X-Real-IP`. Off by default.
    #[must_use]
    pub fn real_ip(mut self, on: bool) -> Self {
        self.real_ip = on;
        self
    }

    /// Whether `Forwarded` also tells the peer's port. Off by default.
    #[must_use]
    pub fn ports(mut self, on: bool) -> Self {
        self.ports = on;
        self
    }

    /// Names this proxy in `Forwarded`: `by=…`. A name such as `_gateway` keeps addresses to yourself.
    #[must_use]
    pub fn by(mut self, node: Node) -> Self {
        self.by = Some(node);
        self
    }

    /// Rewrites the headers of a request that `peer` sent over `scheme`, and tells who the client is.
    pub fn apply(&self, request: &mut Parts, peer: SocketAddr, scheme: &Scheme) -> ClientAddr {
        let peer_addr = peer.ip().to_canonical();
        let mut chain = Vec::new();
        let client = walk(peer_addr, &request.headers, &self.trusted, self.source, |entry| chain.push(entry));
        chain.reverse();
        let chain = chain.join(b", ".as_slice());

        let trusted = self.trusted.contains(peer_addr);
        self.drop_spoofable(&mut request.headers, trusted);
        let host = host_of(request);
        if self.x_forwarded {
            self.write_x_forwarded(&mut request.headers, &chain, client, peer_addr, host.as_ref(), scheme);
        }
        if self.forwarded {
            self.write_forwarded(&mut request.headers, chain, client, peer, host.as_ref(), scheme);
        }
        if self.real_ip {
            set(&mut request.headers, X_REAL_IP, client.to_string().into_bytes());
        }
        let client = ClientAddr(client);
        request.extensions.insert(client);
        client
    }

    fn drop_spoofable(&self, headers: &mut HeaderMap, trusted: bool) {
        let drops = |name: &str| match name {
            // The walk has read what may be believed of these; they are written anew.
            "forwarded" | "x-forwarded-for" | "x-real-ip" => true,
            "x-forwarded-host" | "x-forwarded-proto" | "x-forwarded-port" | "x-forwarded-prefix" => {
                !trusted || self.source == AddrSource::Forwarded
            }
            _ => !trusted && self.untrusted.iter().any(|other| other == name),
        };
        // CGI and its descendants read `X_Forwarded_For` as if it were `X-Forwarded-For`; no honest proxy writes it.
        let looks_alike = |name: &str| {
            let name = name.replace('_', "-");
            is_forwarding(&name) || self.untrusted.iter().any(|other| other.as_str() == name)
        };
        let gone: Vec<HeaderName> = headers
            .keys()
            .filter(|name| {
                drops(name.as_str()) || (name.as_str().contains('_') && looks_alike(name.as_str()))
            })
            .cloned()
            .collect();
        for name in gone {
            headers.remove(name);
        }
    }

    fn write_x_forwarded(
        &self,
        headers: &mut HeaderMap,
        chain: &[u8],
        client: IpAddr,
        peer: IpAddr,
        host: Option<&HeaderValue>,
        scheme: &Scheme,
    ) {
        let chain = match self.source {
            AddrSource::XForwardedFor => append(chain, &peer.to_string()),
            // The other header told the chain; here only its outcome is of use.
            AddrSource::Forwarded => client.to_string().into_bytes(),
        };
        set(headers, X_FORWARDED_FOR, chain);
        if let Some(host) = host {
            set_missing(headers, X_FORWARDED_HOST, host.clone());
        }
        if let Ok(proto) = HeaderValue::from_str(scheme.as_str()) {
            set_missing(headers, X_FORWARDED_PROTO, proto);
        }
    }

    fn write_forwarded(
        &self,
        headers: &mut HeaderMap,
        chain: Vec<u8>,
        client: IpAddr,
        peer: SocketAddr,
        host: Option<&HeaderValue>,
        scheme: &Scheme,
    ) {
        let (chain, from) = match self.source {
            AddrSource::Forwarded if self.ports => (chain, Node::ip_and_port(peer.ip(), peer.port())),
            AddrSource::Forwarded => (chain, Node::ip(peer.ip())),
            AddrSource::XForwardedFor if self.ports && client == peer.ip().to_canonical() => {
                (Vec::new(), Node::ip_and_port(client, peer.port()))
            }
            AddrSource::XForwardedFor => (Vec::new(), Node::ip(client)),
        };
        let host = host.and_then(|host| host.to_str().ok()).map(|host| ("host", host.to_owned()));
        let proto = Some(("proto", scheme.as_str().to_owned()));
        let by = self.by.as_ref().map(|node| ("by", node.to_string()));
        let pairs = [Some(("for", from.to_string())), host, proto, by];
        set(headers, FORWARDED, append(&chain, &forwarded::element(pairs.into_iter().flatten())));
    }
}

impl Default for ForwardHeaders {
    fn default() -> Self {
        Self::new()
    }
}

fn is_forwarding(name: &str) -> bool {
    matches!(name, "forwarded" | "x-real-ip") || name.starts_with("x-forwarded-")
}

/// The host asked for: that of an absolute request target, which overrides `Host` (RFC 9112, section 3.2.2). None
/// when it holds anything but the characters of a plain host and port, so that nothing downstream can misread it.
fn host_of(request: &Parts) -> Option<HeaderValue> {
    let host = match request.uri.authority() {
        Some(authority) => HeaderValue::from_str(without_user(authority.as_str())).ok()?,
        None => request.headers.get(HOST)?.clone(),
    };
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(b);
    (!host.is_empty() && host.as_bytes().iter().all(plain)).then_some(host)
}

/// Host and port of an authority, without the user's name and password that may stand before an `@`.
pub(crate) fn without_user(authority: &str) -> &str {
    authority.rsplit('@').next().unwrap_or_default()
}

fn append(chain: &[u8], entry: &str) -> Vec<u8> {
    if chain.is_empty() {
        return entry.as_bytes().to_vec();
    }
    [chain, b", ", entry.as_bytes()].concat()
}

/// Sets a header, or sets none if the bytes were no header value: better none than the client's.
fn set(headers: &mut HeaderMap, name: HeaderName, value: Vec<u8>) {
    match HeaderValue::try_from(value) {
        Ok(value) => drop(headers.insert(name, value)),
        Err(_) => drop(headers.remove(name)),
    }
}

fn set_missing(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    if let Entry::Vacant(place) = headers.entry(name) {
        place.insert(value);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "10.0.0.1:4711";

    fn request(uri: &str, headers: &[(&'static str, &str)]) -> Parts {
        let mut parts = Request::get(uri).body(()).unwrap().into_parts().0;
        for (name, value) in headers {
            parts.headers.append(*name, value.parse().unwrap());
        }
        parts
    }

    fn applied(settings: &ForwardHeaders, peer: &str, headers: &[(&'static str, &str)]) -> Parts {
        let mut parts = request("/", headers);
        settings.apply(&mut parts, peer.parse().unwrap(), &Scheme::HTTP);
        parts
    }

    fn trusting() -> ForwardHeaders {
        ForwardHeaders::new().trust(TrustedProxies::parse(["10.0.0.0/8"]).unwrap())
    }

    #[test]
    fn untrusted_peers_cannot_bring_forwarding_headers() {
        let spoofed = [
            ("host", "a.example"),
            ("forwarded", "for=6.6.6.6"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "6.6.6.7"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-prefix", "/evil"),
            ("x-real-ip", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded_for", "6.6.6.6"),
            ("true-client-ip", "6.6.6.6"),
            ("x_other", "stays"),
        ];
        let settings = ForwardHeaders::new().drop_untrusted(HeaderName::from_static("true-client-ip"));
        let parts = applied(&settings, PEER, &spoofed);
        let left: Vec<_> =
            parts.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let wanted = [
            ("host", "a.example"),
            ("x_other", "stays"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-host", "a.example"),
            ("x-forwarded-proto", "http"),
        ];
        assert_eq!(left.len(), wanted.len(), "{left:?}");
        assert!(wanted.iter().all(|pair| left.contains(pair)), "{left:?}");
        assert_eq!(parts.extensions.get(), Some(&ClientAddr("10.0.0.1".parse().unwrap())));
    }

    #[test]
    fn a_trusted_chain_is_continued_from_the_client_on() {
        let settings = trusting().real_ip(true).forwarded(true);
        let parts = applied(
            &settings,
            PEER,
            &[
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-for", "203.0.113.1, 10.0.0.2"),
                ("x-forwarded-proto", "https"),
                ("forwarded", "for=6.6.6.6"),
                ("x-real-ip", "6.6.6.6"),
                ("host", "a"),
            ],
        );
        assert_eq!(parts.headers["x-forwarded-for"], "203.0.113.1, 10.0.0.2, 10.0.0.1");
        assert_eq!(parts.headers["x-forwarded-proto"], "https");
        assert_eq!(parts.headers["x-real-ip"], "203.0.113.1");
        assert_eq!(parts.headers["forwarded"], "for=203.0.113.1;host=a;proto=http");
        assert_eq!(parts.headers.get_all("x-forwarded-for").iter().count(), 1);
    }

    #[test]
    fn a_trusted_forwarded_chain_keeps_what_the_proxies_wrote() {
        let settings = trusting().source(AddrSource::Forwarded).forwarded(true).by("_gw".parse().unwrap());
        let parts = applied(
            &settings,
            PEER,
            &[
                ("forwarded", "for=\"x, for=6.6.6.6, for=203.0.113.1;proto=https;host=\"b:1\", for=10.0.0.2"),
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-proto", "evil"),
                ("host", "a"),
            ],
        );
        assert_eq!(
            parts.headers["forwarded"],
            "for=203.0.113.1;proto=https;host=\"b:1\", for=10.0.0.2, for=10.0.0.1;host=a;proto=http;by=_gw"
        );
        assert_eq!(parts.headers["x-forwarded-for"], "203.0.113.1");
        assert_eq!(parts.headers["x-forwarded-proto"], "http");
    }

    #[test]
    fn addresses_and_ports_are_quoted_where_they_must_be() {
        let settings = ForwardHeaders::new().forwarded(true).ports(true).x_forwarded(false);
        let six = applied(&settings, "[2001:db8::1]:4711", &[]);
        assert_eq!(six.headers["forwarded"], r#"for="[2001:db8::1]:4711";proto=http"#);
        let four = applied(&settings, PEER, &[]);
        assert_eq!(four.headers["forwarded"], r#"for="10.0.0.1:4711";proto=http"#);
        let mapped = applied(&settings.ports(false), "[::ffff:10.0.0.1]:1", &[]);
        assert_eq!(mapped.headers["forwarded"], "for=10.0.0.1;proto=http");
    }

    #[test]
    fn an_absolute_target_overrides_the_host_header() {
        let mut parts = request("http://user:pw@real.example:81/x", &[("host", "evil")]);
        ForwardHeaders::new().apply(&mut parts, PEER.parse().unwrap(), &Scheme::HTTP);
        assert_eq!(parts.headers["x-forwarded-host"], "real.example:81");
    }

    #[test]
    fn a_host_of_odd_bytes_is_not_passed_on() {
        for host in ["a,b", "a;by=c", "a\"b", "a b", "", "ä"] {
            let parts = applied(&ForwardHeaders::new().forwarded(true), PEER, &[("host", host)]);
            assert!(!parts.headers.contains_key("x-forwarded-host"), "{host}");
            assert_eq!(parts.headers["forwarded"], "for=10.0.0.1;proto=http");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn no_header_bytes_panic_and_ours_is_always_last(
            host in prop::collection::vec(any::<u8>(), 0..32), chain in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut parts = request("/", &[]);
            for (name, value) in [(HOST, host), (X_FORWARDED_FOR, chain.clone()), (FORWARDED, chain)] {
                if let Ok(value) = HeaderValue::try_from(value) {
                    parts.headers.append(name, value);
                }
            }
            for source in [AddrSource::XForwardedFor, AddrSource::Forwarded] {
                let settings = trusting().source(source).forwarded(true).real_ip(true);
                let mut parts = parts.clone();
                settings.apply(&mut parts, PEER.parse().unwrap(), &Scheme::HTTPS);
                let last = parts.headers[source.header()].as_bytes();
                let (_, last) = forwarded::split_last(last);
                let ours = match source {
                    AddrSource::XForwardedFor => b"10.0.0.1".as_slice(),
                    AddrSource::Forwarded => b"for=10.0.0.1",
                };
                prop_assert!(last.trim_ascii().starts_with(ours));
            }
        }

        #[test]
        fn what_an_attacker_prepends_never_reaches_the_next_server(spoofed in "[ -~]{0,40}") {
            let honest = applied(&trusting(), PEER, &[("x-forwarded-for", "203.0.113.1, 10.0.0.2")]);
            let line = format!("{spoofed}, 203.0.113.1, 10.0.0.2");
            let attacked = applied(&trusting(), PEER, &[("x-forwarded-for", &line)]);
            prop_assert_eq!(attacked.headers, honest.headers);
        }
    }
}
