//! TLS towards clients: which certificate is shown to whom, and what a connection may then be used for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use hyper::{Request, header::HOST};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig, SupportedProtocolVersion,
        crypto::ring,
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
    server::TlsStream,
};

/// The certificates, by the names that they are shown for.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    /// In lower case. Those with a wildcard begin with `*.`.
    pub(crate) by_name: HashMap<String, Arc<CertifiedKey>>,
    /// For clients who ask for no name, or for one that is not here.
    pub(crate) default: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// The certificate for a name: its own, or one with a wildcard in place of the first label (RFC 9525, section 6.3).
    fn of(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.by_name.get(&name).or_else(|| self.by_name.get(&wildcard(&name)?))
    }

    /// What a client gets to see that asks for this name.
    fn shown(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        name.and_then(|name| self.of(name)).or(self.default.as_ref())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown(client.server_name()).cloned()
    }
}

/// The wildcard that a name falls under.
pub(crate) fn wildcard(name: &str) -> Option<String> {
    name.split_once('.').map(|(_, parent)| format!("*.{parent}"))
}

/// Ends the TLS of clients.
#[derive(Clone)]
pub(crate) struct Terminator {
    acceptor: TlsAcceptor,
    certificates: Arc<Certificates>,
    /// How long a client may take for its handshake.
    limit: Duration,
}

impl Terminator {
    pub(crate) fn new(
        certificates: Arc<Certificates>,
        versions: &[&'static SupportedProtocolVersion],
        limit: Duration,
    ) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as _);
        config.alpn_protocols = [b"h2".as_slice(), b"http/1.1"].map(<[u8]>::to_vec).into();
        // Clients that come back need no full handshake, and keep for themselves what that takes.
        config.ticketer = ring::Ticketer::new()?;
        Ok(Self { acceptor: Arc::new(config).into(), certificates, limit })
    }

    /// TLS on a new connection, unless it comes to nothing.
    pub(crate) async fn accept<S>(&self, stream: S) -> Option<(TlsStream<S>, Secured)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = timeout(self.limit, self.acceptor.accept(stream)).await.ok()?.ok()?;
        let name = stream.get_ref().1.server_name().map(Arc::from);
        Some((stream, Secured { name: ServerName(name), certificates: Arc::clone(&self.certificates) }))
    }
}

/// The name that a client asked for in its TLS handshake (SNI), in the extensions of its requests.
#[derive(Clone, Debug)]
pub(crate) struct ServerName(pub(crate) Option<Arc<str>>);

/// What was agreed on with a client.
#[derive(Clone)]
pub(crate) struct Secured {
    pub(crate) name: ServerName,
    certificates: Arc<Certificates>,
}

impl Secured {
    /// Whether a request belongs on another connection: it is for a host with a certificate of its own, which this
    /// client did not get to see (RFC 9110, section 15.5.20).
    pub(crate) fn is_misdirected<B>(&self, request: &Request<B>) -> bool {
        let Some(host) = host(request) else { return false };
        let ServerName(name) = &self.name;
        if name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(host)) {
            return false;
        }
        let shown = self.certificates.shown(name.as_deref());
        let differs = |meant: &Arc<_>| !shown.is_some_and(|shown| Arc::ptr_eq(shown, meant));
        self.certificates.of(host).is_some_and(differs)
    }
}

/// The host that a request is for, without port and the dot at the end of a full name.
fn host<B>(request: &Request<B>) -> Option<&str> {
    let host = match request.uri().host() {
        Some(host) => host,
        None => request.headers().get(HOST)?.to_str().ok()?.split(':').next()?,
    };
    Some(host.strip_suffix('.').unwrap_or(host))
}
