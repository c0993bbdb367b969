//! The reverse proxy: HTTP in, HTTP out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use tower_service::Service;

use self::future::Exchange;
use super::upgrade::{self, Asked};
use super::{ForwardHeaders, HopByHop, ambiguous_framing, upgrade_of, without_user};

mod body;
mod error;
mod future;

pub use body::ProxyBody;
pub use error::ProxyError;
pub use future::ResponseFuture;

/// The address at the other end of the connection. A request extension that the server puts there.
///
/// ```
/// use buttress::forward::PeerAddr;
/// use http::Request;
///
/// # fn serve(peer: std::net::SocketAddr) {
/// let mut request = Request::new(());
/// request.extensions_mut().insert(PeerAddr(peer));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

/// Passes requests on to the inner service and its answers back: the HTTP manners of a reverse proxy.
///
/// Put it in front of whatever picks and reaches a server: an [`Upstream`](super::Upstream), or a balancer over
/// several. It
///
/// * refuses what two servers could read in two ways: framing stated twice, a `Host` that is missing, doubled or odd;
/// * writes the forwarding headers ([`ForwardHeaders`]) and strips hop-by-hop fields both ways ([`HopByHop`]);
/// * joins the two connections when the server agrees to an upgrade, such as WebSocket, and keeps the
///   [`UpgradeLease`](super::UpgradeLease) of the answer until they close;
/// * answers for the inner service when that fails ([`ProxyError`]), so its error is [`Infallible`].
///
/// Bodies are streamed. A server that dies in the middle of one makes a broken answer, never one that looks whole.
/// `CONNECT` is refused, and so is an upgrade to another HTTP, whose requests would pass by every rule in front.
///
/// The server must put a [`PeerAddr`] into each request; without it, the answer is 500.
///
/// ```no_run
/// use buttress::forward::{PeerAddr, Proxy, Upstream};
/// use hyper::service::service_fn;
/// use hyper_util::rt::{TokioExecutor, TokioIo};
/// use hyper_util::server::conn::auto::Builder;
/// use tower::Service;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let proxy = Proxy::new(Upstream::new("http://10.0.0.7:8080")?);
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:80").await?;
/// loop {
///     let (stream, peer) = listener.accept().await?;
///     let proxy = proxy.clone();
///     let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
///         request.extensions_mut().insert(PeerAddr(peer));
///         proxy.clone().call(request)
///     });
///     let server = Builder::new(TokioExecutor::new());
///     tokio::spawn(async move { server.serve_connection_with_upgrades(TokioIo::new(stream), service).await });
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Proxy<S> {
    inner: S,
    settings: Arc<Settings>,
}

#[derive(Clone, Debug)]
struct Settings {
    headers: ForwardHeaders,
    hop: HopByHop,
    scheme: Scheme,
    upgrade_idle_timeout: Option<Duration>,
}

/// How long an upgraded connection may be silent: a WebSocket that is not dead is pinged far more often.
const UPGRADE_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

impl<S> Proxy<S> {
    /// A proxy in front of `inner` that trusts nobody's forwarding headers and is itself reached over plain HTTP.
    pub fn new(inner: S) -> Self {
        let settings = Settings {
            headers: ForwardHeaders::new(),
            hop: HopByHop::new(),
            scheme: Scheme::HTTP,
            upgrade_idle_timeout: Some(UPGRADE_IDLE_TIMEOUT),
        };
        Self { inner, settings: Arc::new(settings) }
    }

    /// Which forwarding headers are believed and written.
    #[must_use]
    pub fn headers(mut self, headers: ForwardHeaders) -> Self {
        Arc::make_mut(&mut self.settings).headers = headers;
        self
    }

    /// Which fields `Connection` may take away.
    #[must_use]
    pub fn hop_by_hop(mut self, hop: HopByHop) -> Self {
        Arc::make_mut(&mut self.settings).hop = hop;
        self
    }

    /// How clients reach this proxy: [`Scheme::HTTPS`] when TLS ends in front of it.
    #[must_use]
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        Arc::make_mut(&mut self.settings).scheme = scheme;
        self
    }

    /// How long nothing may move on an upgraded connection (default: an hour). One that is half closed may be silent for a
    /// minute at most, unless this is `None`, which lets both live as long as their ends keep them open.
    #[must_use]
    pub fn upgrade_idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        Arc::make_mut(&mut self.settings).upgrade_idle_timeout = limit.into();
        self
    }
}

impl<S, B, R> Service<Request<B>> for Proxy<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: ProxyError,
    R: Body<Data = Bytes>,
{
    type Response = Response<ProxyBody<R>>;
    type Error = Infallible;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The future waits for the inner service, where an error can still become an answer.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S, B> {
        let version = request.version();
        match self.settings.admit(request) {
            Ok((request, asked)) => {
                let exchange = Exchange { settings: Arc::clone(&self.settings), version, asked };
                ResponseFuture::forward(self.inner.clone(), request, exchange)
            }
            Err(refused) => ResponseFuture::refuse(refused, version),
        }
    }
}

impl Settings {
    /// Makes a request fit to be passed on, or says with which status it is refused.
    fn admit<B>(&self, mut request: Request<B>) -> Result<(Request<B>, Option<Asked>), StatusCode> {
        if request.method() == Method::CONNECT {
            return Err(StatusCode::NOT_IMPLEMENTED);
        }
        if ambiguous_framing(request.headers()) {
            return Err(StatusCode::BAD_REQUEST);
        }
        if unknown_coding(request.headers()) {
            return Err(StatusCode::NOT_IMPLEMENTED);
        }
        let Some(&PeerAddr(peer)) = request.extensions().get() else {
            return Err(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let asked = asked_upgrade(&mut request);
        let (mut parts, body) = request.into_parts();
        settle_host(&mut parts)?;
        self.hop.strip(&mut parts.headers);
        one_length(&mut parts.headers);
        // Our server answers "100 Continue" when the body is first read.
        let waits = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        if parts.headers.get(EXPECT).is_some_and(waits) {
            parts.headers.remove(EXPECT);
        }
        match &asked {
            Some(asked) => say_upgrade(&mut parts.headers, asked.protocols.clone()),
            None => drop(parts.headers.remove(HTTP2_SETTINGS)),
        }
        self.headers.apply(&mut parts, peer, &self.scheme);
        Ok((Request::from_parts(parts, body), asked))
    }
}

/// The companion of an upgrade to HTTP/2, which is not passed on.
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

fn asked_upgrade<B>(request: &mut Request<B>) -> Option<Asked> {
    // "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0 request." (RFC 9110, section 7.8)
    if request.version() != Version::HTTP_11 {
        return None;
    }
    let protocols = upgrade_of(request.headers()).filter(upgrade::tunnels)?;
    Some(Asked { client: hyper::upgrade::on(request), protocols })
}

fn say_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Leaves one `Host`: that of the target if it has one, which overrides the header (RFC 9112, section 3.2.2).
fn settle_host(parts: &mut Parts) -> Result<(), StatusCode> {
    let mut lines = parts.headers.get_all(HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(StatusCode::BAD_REQUEST);
    }
    let target = parts.uri.authority().map(|authority| without_user(authority.as_str()));
    let Some(host) = target.map(str::as_bytes).or(line.map(HeaderValue::as_bytes)) else {
        let optional = parts.version < Version::HTTP_11;
        return if optional { Ok(()) } else { Err(StatusCode::BAD_REQUEST) };
    };
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(b);
    if host.is_empty() || !host.iter().all(plain) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let host = HeaderValue::from_bytes(host).map_err(|_| StatusCode::BAD_REQUEST)?;
    parts.headers.insert(HOST, host);
    Ok(())
}

/// Whether a request is in a transfer coding beside `chunked`, which is all that hyper takes off.
fn unknown_coding(headers: &HeaderMap) -> bool {
    let chunked = |coding: &HeaderValue| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    !headers.get_all(TRANSFER_ENCODING).iter().all(chunked)
}

/// Several `Content-Length` lines that agree become one.
fn one_length(headers: &mut HeaderMap) {
    let Some(length) = headers.get(CONTENT_LENGTH).cloned() else { return };
    headers.insert(CONTENT_LENGTH, length);
}

#[cfg(test)]
mod tests;
