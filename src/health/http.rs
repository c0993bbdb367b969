//! Whether a node answers HTTP requests as it should.

use std::{ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::USER_AGENT,
    uri::{Authority, PathAndQuery},
};
use http_body_util::{BodyExt, Empty};

use super::{Answer, CheckResult, HealthCheck, Unhealthy};
use crate::{
    cluster::Endpoint,
    forward::{Upstream, UpstreamBody},
};

/// How much of a body is read unless configured.
const BODY_LIMIT: usize = 64 * 1024;

/// Finds a node healthy that answers a request with the expected status and, where wanted, text.
///
/// For clusters of [`Upstream`]s, and of services that give theirs by `AsRef<Upstream>`. HTTP version and base path are
/// the upstream's.
///
/// | setting | default | because |
/// |---|---|---|
/// | `method` | `GET` | what every server knows |
/// | `host` | the server's own | |
/// | `expect_status` | 200 to 299 | |
/// | `body_limit` | 64 KiB | a node must not fill the memory of those that check it |
/// | `reuse_connections` | off | a check of its own connection proves that the server takes new ones |
///
/// ```
/// use buttress::{cluster::{Cluster, Node}, forward::Upstream, health::{HttpCheck, Monitor}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = Cluster::new([(Node::new("web-1"), Upstream::new("http://10.0.0.7:8080")?)])?;
/// let check = HttpCheck::new("/health")?
///     .host("shop.example".parse()?)
///     .expect_body("ready")
///     .draining_status(404..=404);
/// let monitor = Monitor::start(&cluster, check)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpCheck {
    path: PathAndQuery,
    method: Method,
    host: Option<Authority>,
    headers: HeaderMap,
    expected: Vec<RangeInclusive<u16>>,
    draining: Vec<RangeInclusive<u16>>,
    draining_header: Option<(HeaderName, HeaderValue)>,
    text: Option<Bytes>,
    limit: usize,
    reuse: bool,
}

/// A text that is not the path of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the path of a request: write it like /health")]
pub struct InvalidPath(String);

impl HttpCheck {
    /// Asks for this path, which may have a query.
    ///
    /// # Errors
    /// If `path` is no path, or does not begin with a slash.
    pub fn new(path: &str) -> Result<Self, InvalidPath> {
        let invalid = || InvalidPath(path.to_owned());
        if !path.starts_with('/') {
            return Err(invalid());
        }
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("buttress-health"));
        Ok(Self {
            path: path.parse().map_err(|_| invalid())?,
            method: Method::GET,
            host: None,
            headers,
            expected: Vec::new(),
            draining: Vec::new(),
            draining_header: None,
            text: None,
            limit: BODY_LIMIT,
            reuse: false,
        })
    }

    /// Sets the method.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Sets the host that is asked for.
    pub fn host(mut self, host: Authority) -> Self {
        self.host = Some(host);
        self
    }

    /// Sends this header, in place of one by the same name.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Expects a status of this range, or of one given before, instead of 200 to 299.
    pub fn expect_status(mut self, range: RangeInclusive<u16>) -> Self {
        self.expected.push(range);
        self
    }

    /// Expects this text in the body, within the first [`body_limit`](Self::body_limit) bytes.
    pub fn expect_body(mut self, text: impl Into<Bytes>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Sets how much of a body is read.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Takes a status of this range as the word of a node that drains, whether it is expected or not.
    pub fn draining_status(mut self, range: RangeInclusive<u16>) -> Self {
        self.draining.push(range);
        self
    }

    /// Takes this header as the word of a node that drains, beside an expected status.
    pub fn draining_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.draining_header = Some((name, value));
        self
    }

    /// Whether to check over the connections that carry the traffic, instead of a new one each time.
    pub fn reuse_connections(mut self, on: bool) -> Self {
        self.reuse = on;
        self
    }

    async fn ask(&self, upstream: &Upstream) -> CheckResult {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.path.clone());
        *request.headers_mut() = self.headers.clone();
        let response = upstream.probe(self.host.as_ref(), !self.reuse).ask(request).await?;
        let (head, body) = response.into_parts();
        let drains = self.drains(head.status, &head.headers);
        if !drains && !self.expects(head.status) {
            return Err(Unhealthy::new(format_args!("status {}", head.status)));
        }
        let text = self.text.as_deref().filter(|_| !drains).unwrap_or_default();
        // A connection can be used again after the end of the body.
        if !contains(body, text, self.limit, self.reuse).await? {
            return Err(Unhealthy::new("the body lacks the expected text"));
        }
        Ok(if drains { Answer::Draining } else { Answer::Healthy })
    }

    fn expects(&self, status: StatusCode) -> bool {
        if self.expected.is_empty() { status.is_success() } else { is_in(&self.expected, status) }
    }

    fn drains(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let says_so = |(name, value): &(HeaderName, HeaderValue)| {
            headers.get_all(name).iter().any(|said| said == value)
        };
        is_in(&self.draining, status)
            || self.expects(status) && self.draining_header.as_ref().is_some_and(says_so)
    }
}

#[async_trait]
impl<S: AsRef<Upstream> + Send + Sync + 'static> HealthCheck<S> for HttpCheck {
    async fn check(&self, endpoint: Arc<Endpoint<S>>) -> CheckResult {
        self.ask((*endpoint.service).as_ref()).await
    }
}

/// Whether a body has this text in its first `limit` bytes. Reads on after that only if told so.
async fn contains(
    mut body: UpstreamBody,
    text: &[u8],
    limit: usize,
    to_the_end: bool,
) -> Result<bool, hyper::Error> {
    let mut bytes = Vec::new();
    let mut found = text.is_empty();
    while bytes.len() < limit && (to_the_end || !found) {
        let Some(frame) = body.frame().await.transpose()? else { break };
        let Ok(data) = frame.into_data() else { continue };
        // The text may have begun in the frame before.
        let from = bytes.len().saturating_sub(text.len());
        bytes.extend_from_slice(&data[..data.len().min(limit - bytes.len())]);
        found = found || bytes[from..].windows(text.len()).any(|window| window == text);
    }
    Ok(found)
}

fn is_in(ranges: &[RangeInclusive<u16>], status: StatusCode) -> bool {
    ranges.iter().any(|range| range.contains(&status.as_u16()))
}
