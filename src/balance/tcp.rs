//! Balancing TCP connections: each is one request, in flight until it closes.
//!
//! A node is anything that connects, such as a [`TcpUpstream`](crate::forward::tcp::TcpUpstream); a request is a
//! [`Connect`], and its answer the connection. Its latency is the time that connecting takes. Put a
//! [`TcpProxy`](crate::forward::tcp::TcpProxy) in front, or use the connection for something of your own.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Balance, Budget, Classify, Cloned, Complete, KeyOf, Policy, Retry};
use crate::{
    cluster::{Cluster, FailureKind, LoadGuard, Verdict},
    forward::tcp::{Connect, Socket},
    placement::KeyHash,
};

impl<S: Send + Sync + 'static> Balance<S, ByClient, ClassifyConnect, OnClose> {
    /// Balances TCP connections: the key of each is the client's address, and it is in flight until it closes.
    ///
    /// ```
    /// use buttress::{
    ///     balance::{Balance, IpHash},
    ///     cluster::{Cluster, Node},
    ///     forward::tcp::{Connect, TcpUpstream},
    /// };
    /// use tokio::net::TcpListener;
    /// use tower::{Service, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let cluster = Cluster::new([(Node::new("a"), TcpUpstream::from(listener.local_addr()?))])?;
    /// let mut balance = Balance::tcp(cluster.clone(), IpHash::new());
    ///
    /// let wanted = Connect::new("192.0.2.1:5".parse()?, "198.51.100.1:80".parse()?);
    /// let connection = balance.ready().await?.call(wanted).await?;
    /// let node = cluster.get("a").unwrap();
    /// assert_eq!(node.member.state.in_flight(), 1);
    /// drop(connection);
    /// assert_eq!(node.member.state.in_flight(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tcp(cluster: Cluster<S>, policy: impl Policy) -> Self {
        Balance::new(cluster, policy).key(ByClient).classify(ClassifyConnect).complete(OnClose)
    }
}

/// What [`Retry::tcp`] repeats: every connection that did not come about.
type Unconnected = Cloned<fn(&Connect) -> bool>;

impl<S: Send + Sync + 'static> Retry<Balance<S, ByClient, ClassifyConnect, OnClose>, Unconnected> {
    /// [`Balance::tcp`] that goes on to the next node when one cannot be connected to.
    ///
    /// That is always safe, as the node has seen nothing of what the client sent. The budget allows one more attempt for
    /// each connection.
    pub fn tcp(cluster: Cluster<S>, policy: impl Policy) -> Self {
        let repeat: Unconnected = Cloned::new(|_| false);
        Retry::new(Balance::tcp(cluster, policy), repeat).budget(Budget::per_request(50))
    }
}

/// The key of a connection is the client's address: IPv4-mapped addresses count as IPv4, and of an IPv6 address only its
/// /64.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByClient;

impl KeyOf<Connect> for ByClient {
    fn key(&self, wanted: &Connect) -> Option<KeyHash> {
        Some(KeyHash::from_ip(wanted.client().ip()))
    }
}

/// A connection is a success, and none a failure to connect.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassifyConnect;

impl<Res, E> Classify<Res, E> for ClassifyConnect {
    fn classify(&self, answer: Result<&Res, &E>) -> Verdict {
        match answer {
            Ok(_) => Verdict::Success,
            Err(_) => Verdict::Failure(FailureKind::Connect),
        }
    }
}

/// A connection is over when it is closed.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnClose;

impl<T> Complete<T> for OnClose {
    type Response = TrackedStream<T>;

    fn complete(&self, guard: LoadGuard, stream: T) -> TrackedStream<T> {
        TrackedStream { stream, _guard: guard }
    }
}

/// A connection that counts as in flight until dropped.
#[derive(Debug)]
pub struct TrackedStream<T> {
    // Closed before it is counted out.
    stream: T,
    _guard: LoadGuard,
}

impl<T> AsRef<T> for TrackedStream<T> {
    fn as_ref(&self) -> &T {
        &self.stream
    }
}

impl<T: Socket> Socket for TrackedStream<T> {
    fn reset(&mut self) {
        self.stream.reset();
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for TrackedStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for TrackedStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
