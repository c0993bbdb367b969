//! Hop-by-hop fields: what is meant for the next machine only, and must not travel on (RFC 9110, section 7.6.1).

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    COOKIE, DATE, EXPECT, EXPIRES, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Takes hop-by-hop fields out of messages that are passed on.
///
/// That is `Connection` with everything it names, `Keep-Alive`, `Proxy-Connection`, `TE` (but `trailers` stays, which
/// gRPC needs), `Transfer-Encoding`, `Upgrade` and the `Proxy-Auth…` fields. For a request that truly asks for
/// another protocol, read [`upgrade_of`] first and set the two fields again.
///
/// A client may name any field in `Connection`, in the hope that a proxy drops what an earlier proxy wrote or what
/// the application relies on. Fields that mean something to the final recipient therefore stay even when named:
/// `Host`, framing and content fields, credentials, cookies, caching fields, `Forwarded`, `X-Forwarded-…` and
/// `X-Real-IP`. Add those that your own proxies set with [`keep`](Self::keep).
///
/// ```
/// use buttress::forward::HopByHop;
/// use http::{HeaderMap, HeaderName};
///
/// let hop = HopByHop::new().keep(HeaderName::from_static("x-user"));
/// let mut headers = HeaderMap::new();
/// headers.insert("connection", "close, x-trace, x-user, x-forwarded-for".parse()?);
/// for name in ["x-trace", "x-user", "x-forwarded-for"] {
///     headers.insert(name, "1".parse()?);
/// }
/// hop.strip(&mut headers);
///
/// let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
/// assert_eq!(left, ["x-user", "x-forwarded-for"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct HopByHop {
    keep: Vec<HeaderName>,
}

impl HopByHop {
    /// Keeps the fields listed above when `Connection` names them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps one more field when `Connection` names it.
    #[must_use]
    pub fn keep(mut self, name: HeaderName) -> Self {
        self.keep.push(name);
        self
    }

    /// Strips a request or a response.
    pub fn strip(&self, headers: &mut HeaderMap) {
        let named: Vec<HeaderName> = connection_options(headers)
            .filter_map(|option| HeaderName::from_bytes(option).ok())
            .filter(|name| !self.keeps(name))
            .collect();
        let trailers = tokens(headers, &TE).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
        for name in &named {
            headers.remove(name);
        }
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }

    fn keeps(&self, name: &HeaderName) -> bool {
        END_TO_END.contains(name) || name.as_str().starts_with("x-forwarded-") || self.keep.contains(name)
    }
}

static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    // Credentials for this proxy, and its own demand for them, are no business of the other side (section 11.7).
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
];

/// "A sender MUST NOT send a connection option corresponding to a field that is intended for all recipients of the
/// content." These are such fields.
static END_TO_END: [HeaderName; 18] = [
    HOST,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_RANGE,
    TRAILER,
    EXPECT,
    RANGE,
    AUTHORIZATION,
    COOKIE,
    SET_COOKIE,
    CACHE_CONTROL,
    DATE,
    EXPIRES,
    VARY,
    VIA,
    FORWARDED,
    HeaderName::from_static("x-real-ip"),
];

/// The protocol that the sender asks to switch to, or switches to, if it truly does so: both `Upgrade` and a
/// `Connection` that names it are there.
///
/// Only HTTP/1.1 knows this (section 7.8); look at the version first.
///
/// ```
/// use buttress::forward::upgrade_of;
/// use http::HeaderMap;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("upgrade", "websocket".parse()?);
/// assert_eq!(upgrade_of(&headers), None);
/// headers.insert("connection", "keep-alive, Upgrade".parse()?);
/// assert_eq!(upgrade_of(&headers), Some("websocket".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    if !connection_options(headers).any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return None;
    }
    let mut lines = headers.get_all(UPGRADE).iter();
    let protocol = lines.next().filter(|value| !value.as_bytes().trim_ascii().is_empty())?;
    // Several lines are one list, but nobody sends that, and which one the other side reads is anyone's guess.
    lines.next().is_none().then(|| protocol.clone())
}

/// Whether the framing of a message is stated twice: `Transfer-Encoding` beside `Content-Length`, or lengths that
/// differ. What one machine reads as the body the next may read as another request (RFC 9112, section 11.2).
///
/// ```
/// use buttress::forward::ambiguous_framing;
/// use http::HeaderMap;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("content-length", "5".parse()?);
/// assert!(!ambiguous_framing(&headers));
/// headers.insert("transfer-encoding", "chunked".parse()?);
/// assert!(ambiguous_framing(&headers));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn ambiguous_framing(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return false };
    headers.contains_key(TRANSFER_ENCODING)
        || first.is_empty()
        || !first.as_bytes().iter().all(u8::is_ascii_digit)
        || lengths.any(|other| other != first)
}

/// Whether the body of a response is compressed for the connection. hyper only takes `chunked` off: passed on, the body would
/// still be compressed, and nothing would say so. These are all the codings there are (RFC 9112, section 7); other names
/// are as good as none, and go like every hop-by-hop field.
#[cfg(any(feature = "cdn", feature = "proxy"))]
pub(crate) fn has_coded_body(headers: &HeaderMap) -> bool {
    let codings: [&[u8]; 5] = [b"compress", b"x-compress", b"deflate", b"gzip", b"x-gzip"];
    tokens(headers, &TRANSFER_ENCODING).any(|token| {
        let name = token.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        codings.iter().any(|coding| name.eq_ignore_ascii_case(coding))
    })
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    tokens(headers, &CONNECTION)
}

fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> + use<'h> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| line.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair =
            |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    fn stripped(pairs: &[(&'static str, &str)]) -> Vec<String> {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        HopByHop::new().strip(&mut map);
        map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn rfc9110_section_7_6_1_fields_go_and_the_rest_stays() {
        let left = stripped(&[
            ("connection", "keep-alive, x-one"),
            ("connection", "X-Two"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy-authenticate", "Basic"),
            ("proxy-authentication-info", "x"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("trailer", "x-sum"),
        ]);
        assert_eq!(left, ["x-three: 3", "trailer: x-sum"]);
    }

    #[test]
    fn te_trailers_stays_alone() {
        assert_eq!(stripped(&[("te", "gzip;q=0.5, Trailers"), ("connection", "te")]), ["te: trailers"]);
        assert_eq!(stripped(&[("te", "deflate"), ("te", "trailers")]), ["te: trailers"]);
        assert!(stripped(&[("te", "trailersx")]).is_empty());
    }

    #[test]
    fn connection_cannot_take_away_what_the_next_server_relies_on() {
        for name in [
            "host",
            "content-length",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-anything",
            "x-real-ip",
            "authorization",
            "cookie",
            "cache-control",
            "set-cookie",
        ] {
            assert_eq!(stripped(&[("connection", name), (name, "1")]), [format!("{name}: 1")]);
            assert_eq!(
                stripped(&[("connection", &name.to_uppercase()), (name, "1")]),
                [format!("{name}: 1")]
            );
        }
    }

    #[test]
    fn an_upgrade_needs_both_fields() {
        assert_eq!(upgrade_of(&headers(&[("upgrade", "websocket")])), None);
        assert_eq!(upgrade_of(&headers(&[("connection", "upgrade")])), None);
        assert_eq!(upgrade_of(&headers(&[("connection", "upgrade"), ("upgrade", " ")])), None);
        assert_eq!(upgrade_of(&headers(&[("connection", "xupgrade"), ("upgrade", "foo")])), None);
        assert_eq!(
            upgrade_of(&headers(&[("connection", "x,UPGRADE"), ("upgrade", "foo/2")])).unwrap(),
            "foo/2"
        );
        let mut twice = headers(&[("connection", "upgrade"), ("upgrade", "a")]);
        twice.append(UPGRADE, "b".parse().unwrap());
        assert_eq!(upgrade_of(&twice), None);
    }

    #[test]
    fn framing_stated_twice_is_ambiguous() {
        let framed = |lines: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in lines {
                map.append(*name, value.parse().unwrap());
            }
            ambiguous_framing(&map)
        };
        assert!(!framed(&[]) && !framed(&[("transfer-encoding", "chunked")]));
        assert!(!framed(&[("content-length", "5"), ("content-length", "5")]));
        assert!(framed(&[("content-length", "5"), ("content-length", "6")]));
        assert!(framed(&[("content-length", "5"), ("transfer-encoding", "identity")]));
        for bad in ["", "+5", "5, 5", "5 ", "0x5", "-1"] {
            assert!(framed(&[("content-length", bad)]), "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn no_connection_value_panics_or_takes_protected_fields(value in prop::collection::vec(any::<u8>(), 0..64)) {
            let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            let mut map = headers(&[("host", "a"), ("x-forwarded-for", "1.2.3.4"), ("x-other", "1")]);
            map.append(CONNECTION, value.clone());
            map.append(TE, value.clone());
            map.append(UPGRADE, value);
            let _ = upgrade_of(&map);
            HopByHop::new().strip(&mut map);
            prop_assert!(map.contains_key(HOST) && map.contains_key("x-forwarded-for"));
            prop_assert!(!map.contains_key(CONNECTION) && !map.contains_key(UPGRADE));
        }
    }
}
