//! TCP connections, passed on to the nodes of a cluster whatever they carry.
//!
//! A [`TcpProxy`] takes a client's connection, asks a service for one to a server, and joins the two in a [`Tunnel`]. The
//! service is usually a balancer over [`TcpUpstream`]s: see [`balance::tcp`](crate::balance::tcp).

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{net::TcpStream, sync::Semaphore};
use tower::BoxError;
use tower_service::Service;

use self::{
    meter::{Meter, Open},
    socket::End,
};
use super::proxy_protocol::{ReceiveError, Receiver};

mod meter;
mod pump;
mod serve;
mod socket;
mod tunnel;
mod upstream;

pub use meter::TcpStats;
pub use socket::Socket;
pub use tunnel::{Ending, Traffic, Tunnel};
pub use upstream::{Connect, ConnectError, ConnectFuture, TcpAddressError, TcpUpstream};

const MAX_CONNECTIONS: usize = 10_000;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Passes TCP connections on: what a client sends goes to a server, and back.
///
/// `S` is what finds the server for a [`Connect`] and connects: a [`TcpUpstream`], or a balancer over several. What it
/// does until it has a connection (the choice of a node, waiting for one, going on to the next) costs the client
/// nothing but time, since nothing of what it sent has been read.
///
/// A connection that does not come to its end by both sides closing it is reset, never closed as if all had been said:
/// so it is at a timeout, when the other side breaks, when no server is to be had, and when it is dropped.
///
/// [`serve`](Self::serve) runs it on a listener. As a service it takes one connection, for those who accept themselves.
///
/// ```no_run
/// use buttress::{
///     balance::{LeastRequest, Retry},
///     cluster::{Cluster, Node},
///     forward::tcp::{TcpProxy, TcpUpstream},
/// };
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let node = |address: &str| Ok::<_, Box<dyn std::error::Error>>((Node::new(address), TcpUpstream::new(address)?));
/// let cluster = Cluster::new([node("10.0.0.7:5432")?, node("10.0.0.8:5432")?])?;
/// let proxy = TcpProxy::new(Retry::tcp(cluster, LeastRequest::new()));
///
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:5432").await?;
/// let stop = async { tokio::time::sleep(std::time::Duration::from_secs(3600)).await };
/// proxy.serve(listener, stop).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TcpProxy<S> {
    connect: S,
    receiver: Option<Arc<Receiver>>,
    idle_timeout: Option<Duration>,
    half_close_timeout: Option<Duration>,
    drain_timeout: Duration,
    slots: Arc<Semaphore>,
    meter: Arc<Meter>,
}

impl<S> TcpProxy<S> {
    /// Passes connections on to where `connect` leads.
    pub fn new(connect: S) -> Self {
        Self {
            connect,
            receiver: None,
            idle_timeout: Some(tunnel::IDLE_TIMEOUT),
            half_close_timeout: Some(tunnel::HALF_CLOSE_TIMEOUT),
            drain_timeout: DRAIN_TIMEOUT,
            slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            meter: Arc::default(),
        }
    }

    /// Asks for a PROXY protocol header (default: the peer is the client, and all that it sends is payload).
    #[must_use]
    pub fn proxy_protocol(mut self, receiver: Receiver) -> Self {
        self.receiver = Some(Arc::new(receiver));
        self
    }

    /// How long nothing may move (default: 10 minutes).
    #[must_use]
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// How long nothing may move once one side has closed its direction, if that is shorter (default: 1 minute).
    #[must_use]
    pub fn half_close_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.half_close_timeout = limit.into();
        self
    }

    /// How many connections [`serve`](Self::serve) has open at once (default: 10,000); 0 counts as 1. Each takes two file
    /// descriptors.
    #[must_use]
    pub fn max_connections(mut self, limit: usize) -> Self {
        self.slots = Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)));
        self
    }

    /// How long open connections go on after a shutdown (default: 30 s).
    #[must_use]
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = limit;
        self
    }

    /// What it and its clones have done so far.
    pub fn stats(&self) -> TcpStats {
        self.meter.stats()
    }
}

impl<S> TcpProxy<S>
where
    S: Service<Connect>,
    S::Response: Socket,
    S::Error: Into<BoxError>,
{
    async fn pass(mut self, client: TcpStream, open: Open) -> Result<Traffic, TcpProxyError> {
        let (peer, local) = (client.peer_addr()?, client.local_addr()?);
        client.set_nodelay(true).ok();
        let mut client = End::new(client, Arc::clone(&open.meter), |meter| &meter.down);
        let wanted = match &self.receiver {
            Some(receiver) => Connect::received(receiver.receive(&mut client, peer).await?, local),
            None => Connect::new(peer, local),
        };
        let no_server = |error: S::Error| TcpProxyError::Connect(error.into());
        poll_fn(|cx| self.connect.poll_ready(cx)).await.map_err(no_server)?;
        let server = self.connect.call(wanted).await.map_err(no_server)?;
        let server = End::new(server, Arc::clone(&open.meter), |meter| &meter.up);
        let tunnel = Tunnel::new(client, server)
            .idle_timeout(self.idle_timeout)
            .half_close_timeout(self.half_close_timeout);
        Ok(tunnel.await)
    }
}

impl<S> Service<TcpStream> for TcpProxy<S>
where
    S: Service<Connect> + Clone + Send + 'static,
    S::Response: Socket,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Response = Traffic;
    type Error = TcpProxyError;
    type Future = TrafficFuture;

    /// Always ready: the future waits for the inner service.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TcpProxyError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, client: TcpStream) -> TrafficFuture {
        let open = Open::new(&self.meter);
        TrafficFuture { inner: Box::pin(self.clone().pass(client, open)) }
    }
}

impl<S> fmt::Debug for TcpProxy<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpProxy")
            .field("idle_timeout", &self.idle_timeout)
            .field("half_close_timeout", &self.half_close_timeout)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The future of [`TcpProxy`]: a connection, from its beginning to its end. Dropping it resets both sides.
#[must_use = "futures do nothing unless polled"]
pub struct TrafficFuture {
    inner: Pin<Box<dyn Future<Output = Result<Traffic, TcpProxyError>> + Send>>,
}

impl Future for TrafficFuture {
    type Output = Result<Traffic, TcpProxyError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl fmt::Debug for TrafficFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrafficFuture").finish_non_exhaustive()
    }
}

/// Why a connection was not passed on at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TcpProxyError {
    /// The client was gone before its address could be asked for.
    #[error("the client is gone")]
    Client(#[from] io::Error),
    /// The client's address could not be learned.
    #[error("the client's address cannot be learned")]
    Receive(#[from] ReceiveError),
    /// There is no server for it.
    #[error("no server could be reached")]
    Connect(#[source] BoxError),
}
