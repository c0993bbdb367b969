//! One server, and connections to it.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tower_service::Service;

use crate::forward::proxy_protocol::{Header, Received, Version};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that is wanted on behalf of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    client: SocketAddr,
    header: Header,
}

impl Connect {
    /// For a client that has connected to `local`.
    pub fn new(client: SocketAddr, local: SocketAddr) -> Self {
        let header = Header::tcp(client, local);
        Self { client: header.source().unwrap_or(client), header }
    }

    /// For a client of which a proxy in front may have told.
    pub(super) fn received(received: Received, local: SocketAddr) -> Self {
        match received.header {
            Some(header) if header.source().is_some() => Self { client: received.client, header },
            // "the receiver must use the real connection endpoints" (section 2.2), and so do we in its place.
            _ => Self::new(received.client, local),
        }
    }

    /// The client's address. IPv4-mapped IPv6 addresses have become IPv4.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// What a server is told of the client, if it is told anything. What a trusted proxy said is passed on.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

/// Connects to one server, given by its address.
///
/// A name is resolved for each connection, by the system, and each of its addresses tried. To balance over the addresses
/// of a name, make each a node: see [`discover`](crate::discover).
///
/// ```
/// use std::time::Duration;
/// use buttress::forward::{proxy_protocol::Version, tcp::TcpUpstream};
///
/// let node: TcpUpstream = "10.0.0.7:5432".parse()?;
/// let far = TcpUpstream::new("db.example:5432")?
///     .connect_timeout(Duration::from_secs(2))
///     .proxy_protocol(Version::V2);
/// assert_eq!(far.to_string(), "db.example:5432");
/// # drop(node);
/// # Ok::<(), buttress::forward::tcp::TcpAddressError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TcpUpstream {
    address: Address,
    connect_timeout: Duration,
    proxy_protocol: Option<Version>,
}

#[derive(Clone, Debug)]
enum Address {
    Ip(SocketAddr),
    /// A name and a port.
    Name(Arc<str>),
}

impl TcpUpstream {
    /// Connects to `address`: an IP address or a name, and a port.
    ///
    /// # Errors
    /// When it is neither, or has no port.
    pub fn new(address: &str) -> Result<Self, TcpAddressError> {
        address.parse()
    }

    /// How long it may take to connect, the look-up of a name included (default: 5 s).
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Whether the server is told whose connection it is (default: it is not). It must then expect to be told.
    #[must_use]
    pub fn proxy_protocol(mut self, version: impl Into<Option<Version>>) -> Self {
        self.proxy_protocol = version.into();
        self
    }

    async fn connect(self, wanted: Connect) -> Result<TcpStream, ConnectError> {
        let attempt = async {
            let mut stream = match &self.address {
                Address::Ip(addr) => TcpStream::connect(addr).await?,
                Address::Name(name) => TcpStream::connect(&**name).await?,
            };
            // The sender has decided what goes together. Not vital.
            stream.set_nodelay(true).ok();
            if let Some(version) = self.proxy_protocol {
                stream.write_all(&wanted.header.encode(version)).await?;
            }
            Ok(stream)
        };
        let source = match timeout(self.connect_timeout, attempt).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        Err(ConnectError { server: self.to_string(), source })
    }
}

impl From<SocketAddr> for TcpUpstream {
    fn from(addr: SocketAddr) -> Self {
        Self { address: Address::Ip(addr), connect_timeout: CONNECT_TIMEOUT, proxy_protocol: None }
    }
}

impl FromStr for TcpUpstream {
    type Err = TcpAddressError;

    fn from_str(text: &str) -> Result<Self, TcpAddressError> {
        let refused = || TcpAddressError(text.to_owned());
        let address = match text.parse::<SocketAddr>() {
            Ok(addr) if addr.port() > 0 => Address::Ip(addr),
            Ok(_) => return Err(refused()),
            Err(_) => {
                let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
                // A host that ends with a number is an address with a typing error (WHATWG URL, section 3.5).
                let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
                let is_name = !host.is_empty() && host.bytes().all(plain) && last.parse::<u64>().is_err();
                let is_port = port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+');
                if !is_name || !is_port {
                    return Err(refused());
                }
                Address::Name(text.into())
            }
        };
        Ok(Self { address, connect_timeout: CONNECT_TIMEOUT, proxy_protocol: None })
    }
}

impl fmt::Display for TcpUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Ip(addr) => addr.fmt(f),
            Address::Name(name) => f.write_str(name),
        }
    }
}

impl Service<Connect> for TcpUpstream {
    type Response = TcpStream;
    type Error = ConnectError;
    type Future = ConnectFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, wanted: Connect) -> ConnectFuture {
        ConnectFuture { inner: Box::pin(self.clone().connect(wanted)) }
    }
}

/// The future of [`TcpUpstream`]. Dropping it gives the connection up.
#[must_use = "futures do nothing unless polled"]
pub struct ConnectFuture {
    inner: Pin<Box<dyn Future<Output = Result<TcpStream, ConnectError>> + Send>>,
}

impl Future for ConnectFuture {
    type Output = Result<TcpStream, ConnectError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl fmt::Debug for ConnectFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectFuture").finish_non_exhaustive()
    }
}

/// A server that could not be connected to. It has seen nothing of the client's.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {server}")]
pub struct ConnectError {
    server: String,
    source: io::Error,
}

impl ConnectError {
    /// What went wrong: [`TimedOut`](io::ErrorKind::TimedOut) if it took too long.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// A text that is not the address of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the address of a server: write it like 10.0.0.7:5432, [2001:db8::7]:5432 or db.example:5432"
)]
pub struct TcpAddressError(String);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::{TrustedProxies, proxy_protocol::Receiver};

    #[test]
    fn addresses_and_names_need_a_port() {
        for good in ["10.0.0.7:5432", "[2001:db8::7]:1", "localhost:80", "db-1.example_x.:65535", "1.db:5"] {
            assert_eq!(TcpUpstream::new(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            ":",
            ":80",
            "a",
            "a:",
            "a:0",
            "a:+1",
            "a:65536",
            "10.0.0.7",
            "10.0.0.7:0",
            "10.0.0:80",
            "256.0.0.1:80",
            "::1:80",
            "[::1]",
            "a b:80",
            "http://a:80",
            "a:80/",
            "a:b:80",
            "user@a:80",
        ] {
            assert_eq!(TcpUpstream::new(bad).unwrap_err(), TcpAddressError(bad.into()), "{bad}");
        }
    }

    #[test]
    fn what_a_trusted_proxy_said_is_passed_on_and_a_health_check_is_not() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (client, local, peer) = (addr("192.0.2.1:1"), addr("10.0.0.1:80"), addr("10.0.0.9:9"));
        let told = Header::tcp(client, addr("198.51.100.1:443")).with_tlv(Header::AUTHORITY, b"a").unwrap();
        let receive = |bytes: Vec<u8>| {
            let trusting = Receiver::new(TrustedProxies::parse(["10.0.0.0/8"]).unwrap());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let received = runtime.block_on(trusting.receive(&mut &bytes[..], peer)).unwrap();
            Connect::received(received, local)
        };
        let wanted = receive(told.encode(Version::V2));
        assert_eq!((wanted.client(), wanted.header()), (client, &told));
        assert_eq!(receive(Header::local().encode(Version::V2)), Connect::new(peer, local));
        assert_eq!(receive(Header::unknown().encode(Version::V1)), Connect::new(peer, local));
    }
}
