//! What a stored response is found by: pure.

mod query;

use std::hash::{Hash, Hasher};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, Uri,
    header::{COOKIE, FORWARDED, HOST},
    request,
    uri::Scheme,
};
use xxhash_rust::xxh3::xxh3_64;

use self::query::Query;

/// Fields that nobody asked a client for, and that some origins heed all the same: what they say would shape what is stored for
/// others. So they belong to the key whenever they are there and say more than the URL does.
const TREACHEROUS: [&str; 14] = [
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-host",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// What of a request says which stored response it gets.
///
/// Scheme, host, path and query, unless told otherwise; never the path alone. The scheme and the host are compared without
/// case, and without the port that the scheme implies. The path is taken as it is: what is written in another way is another
/// resource, until the origin says otherwise.
///
/// What is not in the key must not change what the origin answers, or one client decides what others get. Fields that some
/// origins heed unasked (`X-Forwarded-Host`, `X-Original-URL`, `X-HTTP-Method-Override` and their like; `host` and `proto` of
/// `Forwarded`) are in the key whenever a request has them. Those by which a proxy in front only repeats the scheme and host of
/// the URL make no difference.
///
/// ```
/// use buttress::cdn::CacheKey;
/// use http::header::HeaderName;
///
/// let key = CacheKey::new()
///     .sort_query()
///     .ignore_query(["utm_*", "fbclid"])
///     .header(HeaderName::from_static("x-tenant"))
///     .cookie("currency");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct CacheKey {
    scheme: Scheme,
    query: Query,
    headers: Vec<HeaderName>,
    cookies: Vec<Box<[u8]>>,
    longest: usize,
}

/// Why a request has no key: it is not answered from the cache, nor is its answer stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unkeyed {
    /// The key would be longer than it may be.
    #[error("the key is too long")]
    TooLong,
    /// It names several hosts, or one that makes no sense.
    #[error("the host is ambiguous")]
    Host,
}

impl CacheKey {
    /// Scheme, host, path and query. A request that does not say its scheme has come by `http`.
    pub const fn new() -> Self {
        Self {
            scheme: Scheme::HTTP,
            query: Query::new(),
            headers: Vec::new(),
            cookies: Vec::new(),
            longest: 8 << 10,
        }
    }

    /// Sets the scheme of requests that do not say it: what a server gets over HTTP/1.1 has a path only.
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// Takes the parameters of the query in the order of their names. Those of one name stay in theirs.
    pub fn sort_query(mut self) -> Self {
        self.query.sort();
        self
    }

    /// Leaves these parameters of the query out. A name that ends in `*` stands for all that begin like this.
    ///
    /// The origin still gets them, so it must not heed them.
    pub fn ignore_query<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.query.ignore(names.into_iter().map(Into::into));
        self
    }

    /// Leaves all parameters of the query out but these. A name that ends in `*` stands for all that begin like this.
    ///
    /// The origin still gets the others, so it must not heed them. One that some origin might take for one of these (`ID`, `%69d`,
    /// `id[]` for `id`) stays in.
    pub fn only_query<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.query.only(names.into_iter().map(Into::into));
        self
    }

    /// Adds a field of the request, with all its lines. For what `Vary` says by itself this is not needed.
    pub fn header(mut self, name: HeaderName) -> Self {
        self.headers.push(name);
        self
    }

    /// Adds a cookie.
    pub fn cookie(mut self, name: impl Into<String>) -> Self {
        self.cookies.push(name.into().into_bytes().into());
        self
    }

    /// Sets how long a key may be, in bytes (default: 8 KiB). Requests with a longer one pass the cache by.
    pub const fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    /// The key of a request, whatever its method.
    pub(crate) fn of(&self, request: &request::Parts) -> Result<Key, Unkeyed> {
        let mut key = self.begin(&request.uri, &request.headers)?;
        self.add_fields(&mut key, &request.headers);
        self.finish(key)
    }

    /// The key of a URL alone, for invalidations: without the fields and cookies that the keys of requests may have.
    /// `headers` tell the host if the URI does not.
    pub(crate) fn of_uri(&self, uri: &Uri, headers: &HeaderMap) -> Result<Key, Unkeyed> {
        self.finish(self.begin(uri, headers)?)
    }

    /// The beginning of a URL as it is in keys. One that begins with a path is left as it is.
    pub(crate) fn prefix(prefix: &str) -> String {
        let Some((scheme, rest)) = prefix.split_once("://") else { return prefix.to_owned() };
        let (authority, path) = rest.find(['/', '?']).map_or((rest, "/"), |at| rest.split_at(at));
        let mut key = scheme.to_ascii_lowercase().into_bytes();
        key.extend_from_slice(b"://");
        push_authority(&mut key, authority.as_bytes(), scheme);
        if path.starts_with('?') {
            key.push(b'/');
        }
        key.extend_from_slice(path.as_bytes());
        String::from_utf8(key).unwrap_or_default()
    }

    fn begin(&self, uri: &Uri, headers: &HeaderMap) -> Result<Draft, Unkeyed> {
        let scheme = uri.scheme().unwrap_or(&self.scheme).as_str();
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().map(http::HeaderValue::as_bytes);
        let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
        let (path, query) = (uri.path(), uri.query());
        let name = authority.or(host).unwrap_or_default();
        // Exact in most cases, which saves an allocation.
        let slash = usize::from(!path.starts_with('/'));
        let host_length = without_port(name, scheme).len();
        let length =
            scheme.len() + 3 + host_length + slash + path.len() + query.map_or(0, |query| 1 + query.len());
        if length > self.longest {
            return Err(Unkeyed::TooLong);
        }
        let is_ambiguous = hosts.next().is_some()
            || !name.iter().all(|byte| is_of_host(*byte))
            // An origin may believe either.
            || host.is_some_and(|host| !is_same_host(host, name, scheme));
        if is_ambiguous {
            return Err(Unkeyed::Host);
        }
        let mut bytes = Vec::with_capacity(length);
        push_lower(&mut bytes, scheme.as_bytes());
        bytes.extend_from_slice(b"://");
        push_authority(&mut bytes, name, scheme);
        let start = bytes.len();
        if slash == 1 {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(path.as_bytes());
        if let Some(query) = query {
            self.query.write(query.as_bytes(), &mut bytes);
        }
        Ok(Draft { url: bytes.len(), path: start, bytes })
    }

    /// Fields and cookies, a line for each: no value has a line feed in it.
    fn add_fields(&self, draft: &mut Draft, headers: &HeaderMap) {
        for name in &self.headers {
            for value in headers.get_all(name) {
                push_line(&mut draft.bytes, name, value.as_bytes());
            }
        }
        let mut is_treacherous = false;
        for name in headers.keys() {
            is_treacherous |= *name == FORWARDED;
            let name = name.as_str();
            is_treacherous |= name.starts_with("x-") && TREACHEROUS.contains(&name);
        }
        if is_treacherous {
            for name in TREACHEROUS.map(HeaderName::from_static) {
                for value in headers.get_all(&name) {
                    if !draft.says(&name, value.as_bytes()) {
                        push_line(&mut draft.bytes, &name, value.as_bytes());
                    }
                }
            }
            push_forwarded(&mut draft.bytes, headers);
        }
        if self.cookies.is_empty() {
            return;
        }
        let lines = headers.get_all(COOKIE).iter();
        let cookies = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        for cookie in cookies.map(<[u8]>::trim_ascii) {
            let name = cookie.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
            if self.cookies.iter().any(|wanted| **wanted == *name) {
                draft.bytes.extend_from_slice(b"\ncookie ");
                draft.bytes.extend_from_slice(cookie);
            }
        }
    }

    fn finish(&self, draft: Draft) -> Result<Key, Unkeyed> {
        let Draft { bytes, url, path } = draft;
        let short = |at: usize| u32::try_from(at).map_err(|_| Unkeyed::TooLong);
        if bytes.len() > self.longest {
            return Err(Unkeyed::TooLong);
        }
        Ok(Key { url: short(url)?, path: short(path)?, bytes: bytes.into() })
    }
}

impl Default for CacheKey {
    fn default() -> Self {
        Self::new()
    }
}

struct Draft {
    bytes: Vec<u8>,
    path: usize,
    url: usize,
}

impl Draft {
    /// Whether a field says what the URL says anyway.
    fn says(&self, name: &HeaderName, value: &[u8]) -> bool {
        let origin = str::from_utf8(&self.bytes[..self.path]).unwrap_or_default();
        let (scheme, host) = origin.split_once("://").unwrap_or_default();
        match name.as_str() {
            "x-forwarded-proto" | "x-forwarded-scheme" => value.eq_ignore_ascii_case(scheme.as_bytes()),
            "x-forwarded-host" | "x-host" | "x-original-host" => is_same_host(value, host.as_bytes(), scheme),
            _ => false,
        }
    }
}

/// Whether a byte may be in a host with its port. A userinfo in front of it may not.
const fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%' | b'!' | b'$')
        || matches!(byte, b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

fn is_same_host(a: &[u8], b: &[u8], scheme: &str) -> bool {
    a == b || without_port(a, scheme).eq_ignore_ascii_case(without_port(b, scheme))
}

/// The authority without the port, if the scheme implies it.
fn without_port<'a>(authority: &'a [u8], scheme: &str) -> &'a [u8] {
    let implied: &[u8] = if scheme.eq_ignore_ascii_case("https") { b":443" } else { b":80" };
    authority.strip_suffix(implied).or(authority.strip_suffix(b":")).unwrap_or(authority)
}

fn push_authority(key: &mut Vec<u8>, authority: &[u8], scheme: &str) {
    push_lower(key, without_port(authority, scheme));
}

fn push_lower(key: &mut Vec<u8>, text: &[u8]) {
    let start = key.len();
    key.extend_from_slice(text);
    key[start..].make_ascii_lowercase();
}

fn push_line(key: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    key.push(b'\n');
    key.extend_from_slice(name.as_str().as_bytes());
    key.push(b':');
    key.extend_from_slice(value);
}

/// What `Forwarded` says of hosts and schemes. It is not parsed: a reader that takes quotes apart in another way than we do
/// must find nothing that is not in the key.
fn push_forwarded(key: &mut Vec<u8>, headers: &HeaderMap) {
    for line in headers.get_all(FORWARDED) {
        for pair in line.as_bytes().split(|byte| matches!(byte, b';' | b',')).map(<[u8]>::trim_ascii) {
            let begins = |name: &str| {
                pair.get(..name.len()).is_some_and(|it| it.eq_ignore_ascii_case(name.as_bytes()))
            };
            if begins("host") || begins("proto") {
                push_line(key, &FORWARDED, pair);
            }
        }
    }
}

/// The key of a request. Cheap to clone.
#[derive(Clone, Debug, Eq)]
pub(crate) struct Key {
    bytes: Bytes,
    /// Where the path begins, and where the URL ends.
    path: u32,
    url: u32,
}

impl Key {
    /// Scheme, host, path and query.
    pub(crate) fn url(&self) -> &[u8] {
        &self.bytes[..self.url as usize]
    }

    /// Path and query.
    pub(crate) fn path(&self) -> &[u8] {
        &self.bytes[self.path as usize..self.url as usize]
    }

    /// All of it. What differs here is another key.
    #[cfg(test)]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All of it, where the path begins, and where the URL ends.
    #[cfg(feature = "disk")]
    pub(crate) fn to_parts(&self) -> (&[u8], u32, u32) {
        (&self.bytes, self.path, self.url)
    }

    #[cfg(feature = "disk")]
    pub(crate) fn from_parts(bytes: Bytes, path: u32, url: u32) -> Option<Self> {
        (path <= url && url as usize <= bytes.len()).then_some(Self { bytes, path, url })
    }

    /// Whether there is more in it than a URL.
    pub(crate) fn is_wide(&self) -> bool {
        (self.url as usize) < self.bytes.len()
    }

    /// The key of its URL alone.
    pub(crate) fn narrow(&self) -> Self {
        Self { bytes: self.bytes.slice(..self.url as usize), ..*self }
    }

    /// The same in every process.
    pub(crate) fn hash(&self) -> u64 {
        xxh3_64(&self.bytes)
    }

    /// The memory that it takes, in bytes.
    pub(crate) fn weight(&self) -> u64 {
        (self.bytes.len() + size_of::<Self>()) as u64
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.bytes.hash(hasher);
    }
}

#[cfg(test)]
mod tests;
