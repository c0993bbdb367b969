//! One server behind the proxy, and the connections to it.

use std::fmt;
use std::future::{poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, Entry, HOST, TE, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use tower::BoxError;
use tower_service::Service;

use self::connection::SharedConnection;
use self::connector::Connector;
use self::patience::Patience;
use self::pool::Pool;
use self::progress::{Progress, Tracked};
use super::{HopByHop, upgrade_of, without_user};

mod body;
mod connection;
mod connector;
mod error;
mod patience;
mod pool;
mod progress;
mod stream;
mod target;
#[cfg(feature = "tls")]
mod tls;

pub use body::UpstreamBody;
pub use error::{UpstreamError, UpstreamErrorKind};
use target::Target;
pub use target::UpstreamUrlError;

type SendBody = UnsyncBoxBody<Bytes, BoxError>;

/// Sends requests to one server, given by its base URL.
///
/// Scheme and authority of the request are replaced by those of the server, whose base path goes in front of the
/// path. `Host` stays what the client asked for, unless [`preserve_host`](UpstreamBuilder::preserve_host) is off.
/// Requests that came in over HTTP/2 or HTTP/1.0 leave in the version that the server speaks: HTTP/1.1 over a pool
/// of connections, or HTTP/2 over one shared connection.
///
/// With the feature `tls`, servers are reached over `https` too. Their certificates are checked for the host in the URL,
/// against the root certificates of the system, unless the [builder](UpstreamBuilder) is told otherwise.
///
/// The base path is put in front and nothing is normalised, so it is no wall: `/../x` is for the server to judge.
///
/// ```
/// use std::time::Duration;
/// use buttress::forward::Upstream;
///
/// let node = Upstream::new("http://10.0.0.7:8080")?;
/// let api = Upstream::builder().connect_timeout(Duration::from_millis(500)).build("http://10.0.0.8:8080/api")?;
/// assert_eq!(api.to_string(), "http://10.0.0.8:8080/api");
/// # drop(node);
/// # Ok::<(), buttress::forward::UpstreamUrlError>(())
/// ```
///
/// # Errors
/// [`UpstreamError`], whose kind tells a server that cannot be reached from one that does not answer, and both from
/// a client that stopped sending. TLS that does not come about is a server that cannot be reached; the error's sources
/// say why, with the `rustls::Error` at the end. With TLS 1.3 a server that wants another client certificate says so
/// only when the request is on its way, which is a broken connection.
///
/// # Cancellation
/// Dropping the future resets the HTTP/2 stream or closes the HTTP/1.1 connection, whichever carries the request.
#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
}

struct Shared {
    target: Target,
    preserve_host: bool,
    response_timeout: Option<Duration>,
    transport: Transport,
}

#[derive(Clone)]
enum Transport {
    Http1(Arc<Pool>),
    Http2(Arc<SharedConnection>),
}

impl Transport {
    /// What carries this request: an upgrade needs a connection of its own, where there can be one.
    fn carrying<B>(&self, request: &Request<B>) -> Self {
        match self {
            Self::Http2(connection) => match connection.http1() {
                Some(pool) if upgrade_of(request.headers()).is_some() => Self::Http1(Arc::clone(pool)),
                _ => self.clone(),
            },
            Self::Http1(_) => self.clone(),
        }
    }
}

impl Upstream {
    /// Reaches the server at `base`, such as `http://10.0.0.7:8080`, with the defaults of [`UpstreamBuilder`].
    ///
    /// # Errors
    /// When `base` is no URL of a server that can be reached, or there is nothing to check its certificate with.
    pub fn new(base: &str) -> Result<Self, UpstreamUrlError> {
        Self::builder().build(base)
    }

    /// Settings, which several servers may share.
    pub fn builder() -> UpstreamBuilder {
        UpstreamBuilder::default()
    }

    /// The same server for health checks, which may want another host, and have their own patience: over the same
    /// connections, or over new ones that nobody else uses.
    pub(crate) fn probe(&self, host: Option<&Authority>, fresh: bool) -> Self {
        let Shared { target, transport, .. } = &*self.shared;
        let transport = match transport {
            Transport::Http1(pool) if fresh => Transport::Http1(pool.fresh()),
            Transport::Http2(connection) if fresh => Transport::Http2(connection.fresh()),
            Transport::Http1(pool) => Transport::Http1(Arc::clone(pool)),
            Transport::Http2(connection) => Transport::Http2(Arc::clone(connection)),
        };
        let mut target = target.clone();
        if let Some(host) = host {
            target.authority = host.clone();
        }
        let (preserve_host, response_timeout) = (false, None);
        Self { shared: Arc::new(Shared { target, preserve_host, response_timeout, transport }) }
    }

    /// Sends one request.
    pub(crate) async fn ask<B>(mut self, request: Request<B>) -> Result<Response<UpstreamBody>, UpstreamError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        poll_fn(|cx| Service::<Request<B>>::poll_ready(&mut self, cx)).await?;
        self.call(request).await
    }
}

/// Services that wrap an upstream and have this too can be checked by `health::HttpCheck`.
impl AsRef<Upstream> for Upstream {
    fn as_ref(&self) -> &Upstream {
        self
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.target.fmt(f)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upstream").field(&format_args!("{self}")).finish()
    }
}

impl<B> Service<Request<B>> for Upstream
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<UpstreamBody>;
    type Error = UpstreamError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        // Connections are made on demand, so there is always room for one more request.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let shared = &*self.shared;
        let progress = Arc::new(Progress::default());
        let limit = shared.response_timeout;
        let transport = shared.transport.carrying(&request);
        let inner: Answer = match (shared.rewrite(request, &progress, &transport), transport) {
            #[cfg(feature = "tls")]
            (Ok(request), Transport::Http1(pool)) if matches!(shared.transport, Transport::Http2(_)) => {
                Box::pin(Patience::new(tls::upgrade(pool, request), limit, progress))
            }
            (Ok(request), Transport::Http1(pool)) => {
                Box::pin(Patience::new(pool.send(request), limit, progress))
            }
            (Ok(request), Transport::Http2(connection)) => {
                Box::pin(Patience::new(connection.send(request), limit, progress))
            }
            (Err(error), _) => Box::pin(ready(Err(error))),
        };
        ResponseFuture { inner }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<UpstreamBody>, UpstreamError>> + Send>>;

/// The future of [`Upstream`].
pub struct ResponseFuture {
    inner: Answer,
}

impl Future for ResponseFuture {
    type Output = Result<Response<UpstreamBody>, UpstreamError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl Shared {
    fn rewrite<B>(
        &self,
        request: Request<B>,
        progress: &Arc<Progress>,
        transport: &Transport,
    ) -> Result<Request<SendBody>, UpstreamError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut parts, body) = request.into_parts();
        if parts.method == Method::CONNECT {
            return Err(UpstreamError::new(
                UpstreamErrorKind::Request,
                "CONNECT asks for a tunnel, not for a server",
            ));
        }
        let host = if self.preserve_host { asked_host(&parts) } else { None };
        let host = host.unwrap_or_else(|| self.target.authority.clone());
        let path = self.target.path(&parts.uri)?;
        match transport {
            Transport::Http1(_) => shape_http1(&mut parts, &body, &host, path),
            Transport::Http2(_) => shape_http2(&mut parts, self.target.scheme.clone(), host, path),
        }
        // Without a body there is no progress, and a box for nothing takes no room.
        let body = if body.is_end_stream() {
            UnsyncBoxBody::new(Empty::new().map_err(|never| match never {}))
        } else {
            UnsyncBoxBody::new(Tracked::new(body, Arc::clone(progress)))
        };
        Ok(Request::from_parts(parts, body))
    }
}

fn shape_http1<B: Body>(parts: &mut Parts, body: &B, host: &Authority, path: PathAndQuery) {
    parts.version = Version::HTTP_11;
    parts.uri = path.into();
    let headers = &mut parts.headers;
    if let Ok(host) = HeaderValue::from_str(host.as_str()) {
        headers.insert(HOST, host);
    }
    join_cookies(headers);
    // "A sender of TE MUST also send a "TE" connection option" (RFC 9110, section 10.1.4)
    if headers.contains_key(TE) {
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
    state_framing(&parts.method, headers, body);
}

fn shape_http2(parts: &mut Parts, scheme: Scheme, host: Authority, path: PathAndQuery) {
    parts.version = Version::HTTP_2;
    parts.uri = uri(scheme, host, path);
    // Here the authority is in the target, and fields about the connection do not exist.
    parts.headers.remove(HOST);
    HopByHop::new().strip(&mut parts.headers);
}

/// Makes a request for HTTP/2 one for HTTP/1.1.
fn reshape_http1(request: Request<SendBody>) -> Request<SendBody> {
    let (mut parts, body) = request.into_parts();
    let uri = std::mem::take(&mut parts.uri).into_parts();
    if let (Some(host), Some(path)) = (uri.authority, uri.path_and_query) {
        shape_http1(&mut parts, &body, &host, path);
    }
    Request::from_parts(parts, body)
}

/// The authority that the client asked for. An absolute target overrides `Host` (RFC 9112, section 3.2.2).
fn asked_host(parts: &Parts) -> Option<Authority> {
    let asked = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => parts.headers.get(HOST)?.to_str().ok()?,
    };
    without_user(asked).parse().ok()
}

fn uri(scheme: Scheme, authority: Authority, path: PathAndQuery) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).expect("scheme, authority and path are all there")
}

/// HTTP/2 clients may send one field per cookie, HTTP/1.1 servers expect one field (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(b"; ".as_slice())) {
        headers.insert(COOKIE, joined);
    }
}

/// Says how long the body is where hyper would leave it open or guess that a GET has none.
fn state_framing<B: Body>(method: &Method, headers: &mut HeaderMap, body: &B) {
    headers.remove(TRANSFER_ENCODING);
    let Entry::Vacant(length) = headers.entry(CONTENT_LENGTH) else { return };
    if body.is_end_stream() {
        if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
            length.insert(HeaderValue::from_static("0"));
        }
    } else if body.size_hint().exact().is_none() {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Settings of an [`Upstream`].
///
/// | setting | default | because |
/// |---|---|---|
/// | `preserve_host` | on | applications build links and pick sites by the host that the client asked for |
/// | `http2` | off | few servers speak it without TLS |
/// | `connect_timeout` | 2 s | within a network a connection takes milliseconds; one lost packet costs a second |
/// | `response_timeout` | 60 s | what most proxies grant |
/// | `idle_timeout` | 50 s | below the 60 s after which many servers close, which would race with a request |
/// | `max_idle` | 64 | enough to follow a load, few enough to forget one |
#[derive(Clone, Debug)]
pub struct UpstreamBuilder {
    preserve_host: bool,
    http2: bool,
    connect_timeout: Option<Duration>,
    response_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    max_idle: usize,
    #[cfg(feature = "tls")]
    tls: tls::TlsSettings,
}

impl Default for UpstreamBuilder {
    fn default() -> Self {
        Self {
            preserve_host: true,
            http2: false,
            connect_timeout: Some(Duration::from_secs(2)),
            response_timeout: Some(Duration::from_secs(60)),
            idle_timeout: Some(Duration::from_secs(50)),
            max_idle: 64,
            #[cfg(feature = "tls")]
            tls: tls::TlsSettings::default(),
        }
    }
}

impl UpstreamBuilder {
    /// Whether the server sees the host that the client asked for, or its own.
    #[must_use]
    pub fn preserve_host(mut self, on: bool) -> Self {
        self.preserve_host = on;
        self
    }

    /// Whether to speak HTTP/2.
    ///
    /// Without TLS it is spoken at once (RFC 9113, section 3.3), and upgrades do not work. With TLS the server is
    /// offered both versions and the one it chooses is spoken; a request for an upgrade gets an HTTP/1.1 connection, and
    /// where the server has none to give, the request is to blame and not the server.
    #[must_use]
    pub fn http2(mut self, on: bool) -> Self {
        self.http2 = on;
        self
    }

    /// How long a connection may take to come about, TLS included.
    #[must_use]
    pub fn connect_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.connect_timeout = limit.into();
        self
    }

    /// How long the server may neither take a piece of the request nor begin to answer. The body of the answer may
    /// take any time.
    #[must_use]
    pub fn response_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.response_timeout = limit.into();
        self
    }

    /// How long an unused HTTP/1.1 connection is kept.
    #[must_use]
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// How many unused HTTP/1.1 connections are kept.
    #[must_use]
    pub fn max_idle(mut self, connections: usize) -> Self {
        self.max_idle = connections;
        self
    }

    /// Whom to trust over `https`, and which certificate to show, if not the system's roots and none. The protocols of
    /// its ALPN are replaced by those that [`http2`](Self::http2) asks for. The type is that of rustls 0.23.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use buttress::forward::Upstream;
    /// use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
    ///
    /// let roots = RootCertStore::empty(); // add the certificate of your own authority
    /// let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
    ///     .with_safe_default_protocol_versions()?
    ///     .with_root_certificates(roots)
    ///     .with_no_client_auth();
    /// let node = Upstream::builder().tls(Arc::new(config)).server_name("shop.internal").build("https://10.0.0.7")?;
    /// # drop(node);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, config: Arc<tokio_rustls::rustls::ClientConfig>) -> Self {
        self.tls.config = Some(config);
        self
    }

    /// The name to ask for (SNI) and to find in the server's certificate, if not the host in the URL. Servers that
    /// compare it with `Host` want [`preserve_host`](Self::preserve_host) off.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.tls.server_name = Some(name.into());
        self
    }

    /// Makes the upstream for the server at `base`. Connections follow with the first requests.
    ///
    /// The first one over `https` reads the system's root certificates, unless [`tls`](Self::tls) has brought others.
    ///
    /// # Errors
    /// When `base` is no URL of a server that can be reached, or there is nothing to check its certificate with.
    pub fn build(&self, base: &str) -> Result<Upstream, UpstreamUrlError> {
        let target: Target = base.parse()?;
        let pool = Pool::new(self.connector(&target, &[Version::HTTP_11])?, self.max_idle, self.idle_timeout);
        let transport = if self.http2 {
            let connector = self.connector(&target, &[Version::HTTP_2, Version::HTTP_11])?;
            Transport::Http2(SharedConnection::new(connector, target.has_tls().then_some(pool)))
        } else {
            Transport::Http1(pool)
        };
        let (preserve_host, response_timeout) = (self.preserve_host, self.response_timeout);
        Ok(Upstream { shared: Arc::new(Shared { target, preserve_host, response_timeout, transport }) })
    }

    /// Makes connections on which one of these versions is spoken, as the server likes if there is TLS.
    #[cfg_attr(
        not(feature = "tls"),
        expect(unused_variables, clippy::unnecessary_wraps, reason = "a server without TLS has no choice")
    )]
    fn connector(&self, target: &Target, versions: &[Version]) -> Result<Connector, UpstreamUrlError> {
        let server = uri(target.scheme.clone(), target.authority.clone(), PathAndQuery::from_static("/"));
        let connector = Connector::new(server, self.connect_timeout);
        #[cfg(feature = "tls")]
        if target.has_tls() {
            return Ok(connector.tls(self.tls.to(target.host(), versions)?));
        }
        Ok(connector)
    }
}
