//! Certificates that exist for one test, and servers that show them.

#![allow(dead_code, reason = "each test crate needs a part of it")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion, WantsVerifier,
        client::WantsClientCert,
        crypto::ring,
        pki_types::PrivateKeyDer,
        server::{WantsServerCert, WebPkiClientVerifier},
        version::{TLS12, TLS13},
    },
    server::TlsStream,
};
use tower::BoxError;

use crate::support::{Raw, answer};

/// Whoever trusts it trusts the certificates that it issues.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub(crate) struct Issued {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Each has a name of its own: otherwise one would seem to forge what the other issued.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("authority {}", NEXT.fetch_add(1, Relaxed)));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these DNS names and addresses.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.sign(&CertificateParams::new(owned(names)).unwrap())
    }

    /// A certificate that was good once.
    pub(crate) fn issue_expired(&self, names: &[&str]) -> Issued {
        let mut params = CertificateParams::new(owned(names)).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        Issued { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// Trusts this authority.
    pub(crate) fn trust(&self) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        client_with(&[&TLS12, &TLS13]).with_root_certificates(self.roots())
    }

    /// A client that trusts it and shows no certificate.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::new(self.trust().with_no_client_auth())
    }

    /// A server that wants to see a certificate of this authority, and speaks this version.
    pub(crate) fn wanted(
        &self,
        version: &'static SupportedProtocolVersion,
    ) -> ConfigBuilder<ServerConfig, WantsServerCert> {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider).build().unwrap();
        server_with(&[version]).with_client_cert_verifier(verifier)
    }
}

impl Issued {
    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }

    /// A server that shows it, and speaks one of these protocols.
    pub(crate) fn server(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        self.shown_by(server_with(&[&TLS12, &TLS13]).with_no_client_auth(), protocols)
    }

    pub(crate) fn shown_by(
        &self,
        server: ConfigBuilder<ServerConfig, WantsServerCert>,
        protocols: &[&str],
    ) -> Arc<ServerConfig> {
        let mut config =
            server.with_single_cert(vec![self.certificate.der().clone()], self.key_der()).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn server_with(versions: &[&'static SupportedProtocolVersion]) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    let provider = Arc::new(ring::default_provider());
    ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap()
}

pub(crate) fn client_with(
    versions: &[&'static SupportedProtocolVersion],
) -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let provider = Arc::new(ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap()
}

/// A server behind TLS that is played by hand, one task per connection. Each connection has the newest configuration.
pub(crate) async fn serve_raw_tls<C, H, F>(config: C, handler: H) -> SocketAddr
where
    C: Fn() -> Arc<ServerConfig> + Send + 'static,
    H: Fn(Raw<TlsStream<TcpStream>>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, handler) = (TlsAcceptor::from(config()), handler.clone());
            tokio::spawn(async move {
                // A client that does not like what it sees goes away.
                if let Ok(stream) = acceptor.accept(stream).await {
                    handler(Raw::over(stream)).await;
                }
            });
        }
    });
    addr
}

/// A server behind TLS that answers each request with `handler`.
pub(crate) async fn serve_tls<H, F, R>(config: Arc<ServerConfig>, handler: H) -> SocketAddr
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<R>> + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let accepted = move |raw: Raw<TlsStream<TcpStream>>| {
        let peer = raw.stream.get_ref().0.peer_addr().unwrap();
        answer(raw.stream, peer, handler.clone())
    };
    serve_raw_tls(move || Arc::clone(&config), accepted).await
}
