//! TLS to a server: whom to trust, which name to ask for, which protocols to offer.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::sync::{Arc, OnceLock};

use http::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::ClientConfig;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, RootCertStore};
use tower::BoxError;

use super::pool::Pool;
use super::stream::Stream;
use super::{SendBody, UpstreamBody, UpstreamError, UpstreamErrorKind, UpstreamUrlError};

/// HTTP/2 in ALPN (RFC 9113, section 3.2).
pub(super) const H2: &[u8] = b"h2";

/// HTTP/1.1 in ALPN (RFC 7301, section 6).
const HTTP_1_1: &[u8] = b"http/1.1";

/// What an [`UpstreamBuilder`](super::UpstreamBuilder) knows about TLS.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsSettings {
    pub(super) config: Option<Arc<ClientConfig>>,
    pub(super) server_name: Option<String>,
}

impl TlsSettings {
    /// TLS to the server of this host name or address, which may choose one of `versions`.
    pub(super) fn to(&self, host: &str, versions: &[Version]) -> Result<Tls, UpstreamUrlError> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let name =
            ServerName::try_from(name).map_err(|_| UpstreamUrlError::ServerName(name.to_owned()))?.to_owned();
        let mut config = match &self.config {
            Some(own) => ClientConfig::clone(own),
            None => ClientConfig::clone(&*system_config()?),
        };
        let protocol = |version: &Version| if *version == Version::HTTP_2 { H2 } else { HTTP_1_1 }.to_vec();
        config.alpn_protocols = versions.iter().map(protocol).collect();
        Ok(Tls { connector: Arc::new(config).into(), name })
    }
}

/// Makes TLS connections to one server.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    pub(super) async fn handshake(&self, tcp: TcpStream) -> Result<Stream, BoxError> {
        let stream = self.connector.connect(self.name.clone(), tcp).await;
        let stream = stream.map_err(|error| HandshakeError::new(self.name.to_str(), error))?;
        Ok(Stream::Tls(Box::new(TokioIo::new(stream))))
    }
}

/// Why there is no TLS with a server.
#[derive(Debug, thiserror::Error)]
#[error("the TLS handshake with {name:?} failed")]
struct HandshakeError {
    name: String,
    source: BoxError,
}

/// Asks a server for an upgrade over HTTP/1.1 where other requests go over HTTP/2. Any client may want one, so a server
/// that speaks HTTP/2 alone has not failed.
pub(super) async fn upgrade(
    http1: Arc<Pool>,
    request: Request<SendBody>,
) -> Result<Response<UpstreamBody>, UpstreamError> {
    let whose = |error: UpstreamError| {
        if found_no_protocol(&error) { error.with_kind(UpstreamErrorKind::Request) } else { error }
    };
    http1.send(request).await.map_err(whose)
}

/// Whether the handshake failed because the server speaks none of the protocols that it was offered.
fn found_no_protocol(error: &UpstreamError) -> bool {
    let handshake = error.source().and_then(|source| source.downcast_ref::<HandshakeError>());
    let reason = handshake.and_then(|handshake| handshake.source.downcast_ref());
    reason == Some(&rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol))
}

impl HandshakeError {
    fn new(name: impl Display, error: io::Error) -> Self {
        // What rustls found wrong comes wrapped, where those who look for the reason would not find it.
        let source = match error.downcast::<rustls::Error>() {
            Ok(reason) => reason.into(),
            Err(error) => error.into(),
        };
        Self { name: name.to_string(), source }
    }
}

/// Trusts the system's root certificates, which are read once.
fn system_config() -> Result<Arc<ClientConfig>, UpstreamUrlError> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let found = rustls_native_certs::load_native_certs();
    let config = trusting(found.certs, found.errors.first())?;
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

fn trusting(
    certificates: Vec<CertificateDer<'static>>,
    error: Option<&impl Display>,
) -> Result<ClientConfig, UpstreamUrlError> {
    let mut roots = RootCertStore::empty();
    // Some systems carry certificates of a kind that nobody uses any more.
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        let why = error.map_or_else(|| "the system has none".to_owned(), ToString::to_string);
        return Err(UpstreamUrlError::NoRoots(why));
    }
    let provider =
        CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| UpstreamUrlError::NoRoots(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_roots_at_all_are_told_with_the_reason() {
        let refused = |error: Option<&str>| trusting(Vec::new(), error.as_ref()).unwrap_err().to_string();
        assert!(refused(None).contains("the system has none"));
        assert!(refused(Some("/etc/ssl: permission denied")).contains("/etc/ssl: permission denied"));
        let garbage = trusting(vec![vec![0; 9].into()], None::<&String>);
        assert!(matches!(garbage, Err(UpstreamUrlError::NoRoots(_))));
    }
}
