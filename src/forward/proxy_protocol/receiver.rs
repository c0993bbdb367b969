//! Who is asked for a header, and who is believed.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use super::{Header, HeaderError, Parsed, canonical};
use crate::forward::TrustedProxies;

/// Long enough for a segment that is lost and sent again: the specification asks for 3 s at the least.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the header from connections of trusted proxies.
///
/// From a trusted peer a header is required; from anybody else it is never believed. Such a connection is refused, or
/// with [`allow_direct`](Self::allow_direct) taken as it is: what it sends is payload then, even if it looks like a
/// header.
///
/// Where the header names nobody, the client is the proxy itself. If an HTTP proxy behind trusts that address too, it
/// believes forwarding headers that anybody may have sent: let it trust only those that speak HTTP.
///
/// Exactly the header is read, so that the stream can go on to anything: an HTTP server, TLS, a
/// [`TcpProxy`](crate::forward::tcp::TcpProxy). At most 4096 bytes are held meanwhile.
///
/// ```no_run
/// use buttress::forward::{PeerAddr, TrustedProxies, proxy_protocol::Receiver};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let receiver = Receiver::new(TrustedProxies::parse(["10.0.0.0/8"])?);
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:80").await?;
/// loop {
///     let (mut stream, peer) = listener.accept().await?;
///     let receiver = receiver.clone();
///     // In a task of its own: who sends slowly makes nobody else wait.
///     tokio::spawn(async move {
///         let Ok(received) = receiver.receive(&mut stream, peer).await else { return };
///         let client = PeerAddr(received.client);
///         // serve `stream`, with `client` in the extensions of each request
/// #       let _ = client;
///     });
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Receiver {
    trusted: TrustedProxies,
    timeout: Duration,
    allow_direct: bool,
}

/// Whose connection it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// The client: as the header says, or the peer itself. IPv4-mapped IPv6 addresses have become IPv4.
    pub client: SocketAddr,
    /// The header, if the peer is one who sends it.
    pub header: Option<Header>,
}

impl Receiver {
    /// Takes connections from these proxies, which must send a header within 5 s, and from nobody else.
    pub fn new(trusted: TrustedProxies) -> Self {
        Self { trusted, timeout: TIMEOUT, allow_direct: false }
    }

    /// Sets how long the header may take to come.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Whether whoever is not trusted may connect as well, without a header.
    #[must_use]
    pub fn allow_direct(mut self, allow: bool) -> Self {
        self.allow_direct = allow;
        self
    }

    /// Reads the header, if `peer` is one to send it, and nothing after it.
    ///
    /// # Errors
    /// When the connection must be closed. The stream is then somewhere within the header, and so it is when the future is
    /// dropped.
    pub async fn receive<S>(&self, stream: &mut S, peer: SocketAddr) -> Result<Received, ReceiveError>
    where
        S: AsyncRead + Unpin + ?Sized,
    {
        let peer = canonical(peer);
        if !self.trusted.contains(peer.ip()) {
            return if self.allow_direct {
                Ok(Received { client: peer, header: None })
            } else {
                Err(ReceiveError::Untrusted(peer.ip()))
            };
        }
        let header =
            timeout(self.timeout, read(stream)).await.map_err(|_| ReceiveError::Timeout(self.timeout))??;
        Ok(Received { client: header.source().unwrap_or(peer), header: Some(header) })
    }
}

async fn read<S: AsyncRead + Unpin + ?Sized>(stream: &mut S) -> Result<Header, ReceiveError> {
    let mut bytes = Vec::new();
    loop {
        match Header::parse(&bytes)? {
            Parsed::Done { header, .. } => return Ok(header),
            Parsed::More(missing) => {
                let known = bytes.len();
                bytes.resize(known + missing, 0);
                stream.read_exact(&mut bytes[known..]).await?;
            }
        }
    }
}

/// Why a connection has no header to go by.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The peer is not a trusted proxy.
    #[error("{0} is not a trusted proxy: trust its address, or allow direct connections")]
    Untrusted(IpAddr),
    /// What it sent is no header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The header did not come in time.
    #[error("no PROXY protocol header came within {0:?}")]
    Timeout(Duration),
    /// The connection broke or ended before or within the header.
    #[error("the connection ended before its PROXY protocol header did")]
    Io(#[from] io::Error),
}
