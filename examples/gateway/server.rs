//! Clients' connections: how they are accepted, bounded and brought to an end.

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::forward::PeerAddr;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tower::Service;

use crate::{config::Config, stack::Stack};

/// How often a client of HTTP/2 that says nothing is asked whether it is still there.
const PING: Duration = Duration::from_secs(20);

/// How long to wait when the system has no more sockets: some may close meanwhile.
const NO_SOCKETS: Duration = Duration::from_millis(50);

/// Serves HTTP/1.1 and HTTP/2.
pub(crate) struct Server {
    proxy: Stack,
    http: Builder<TokioExecutor>,
    connections: Connections,
    /// How long a client may take for the head of its request.
    head: Duration,
    drain: Duration,
}

impl Server {
    pub(crate) fn new(proxy: Stack, config: &Config) -> Self {
        let head = config.timeouts.head;
        let mut http = Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(head);
        http.http2().timer(TokioTimer::new()).keep_alive_interval(PING);
        let connections = Connections::at_most(config.max_connections);
        Self { proxy, http, connections, head, drain: config.timeouts.drain }
    }

    /// Who is connected, for others to look at.
    pub(crate) fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Serves until `stop` ends, then finishes what is in flight.
    ///
    /// # Errors
    /// How many connections were still open when patience ended.
    pub(crate) async fn run(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), usize> {
        let graceful = GracefulShutdown::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                (connection, peer) = self.connections.accept(&listener) => self.serve(connection, peer, &graceful),
                () = &mut stop => break,
            }
        }
        // From here on the system refuses connections.
        drop(listener);
        let finished = async {
            graceful.shutdown().await;
            self.connections.all_closed().await;
        };
        timeout(self.drain, finished).await.map_err(|_| self.connections.open())
    }

    fn serve(&self, connection: Connection, peer: SocketAddr, graceful: &GracefulShutdown) {
        let proxy = self.proxy.clone();
        let asked = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&asked);
        let service = service_fn(move |mut request: Request<Incoming>| {
            seen.store(true, Relaxed);
            request.extensions_mut().insert(PeerAddr(peer));
            proxy.clone().call(request)
        });
        let served = self.http.serve_connection_with_upgrades(TokioIo::new(connection), service).into_owned();
        let served = graceful.watch(served);
        let head = self.head;
        tokio::spawn(async move {
            let mut served = pin!(served);
            // hyper's own limit begins once it knows the version, and a client may never say.
            let answered = timeout(head, served.as_mut()).await;
            if answered.is_err() && asked.load(Relaxed) {
                // An error is the client's: it went away, or spoke no HTTP.
                drop(served.await);
            }
        });
    }
}

/// Counts connections, tunnels of upgraded ones included, and bounds them.
#[derive(Clone)]
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    max: u32,
}

impl Connections {
    fn at_most(max: u32) -> Self {
        Self { places: Arc::new(Semaphore::new(max as usize)), max }
    }

    /// How many there are.
    pub(crate) fn open(&self) -> usize {
        (self.max as usize).saturating_sub(self.places.available_permits())
    }

    /// The next connection, when there is a place for it.
    async fn accept(&self, listener: &TcpListener) -> (Connection, SocketAddr) {
        // Nobody else takes places: the one that is free now stays free.
        drop(self.places.acquire().await);
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // Small answers must not wait for the acknowledgement of earlier ones.
                    stream.set_nodelay(true).ok();
                    let place = Arc::clone(&self.places).try_acquire_owned().expect("one was free");
                    return (Connection { stream, _place: place }, peer);
                }
                Err(error) if is_clients(&error) => {}
                Err(_) => sleep(NO_SOCKETS).await,
            }
        }
    }

    async fn all_closed(&self) {
        drop(self.places.acquire_many(self.max).await);
    }
}

/// Whether a connection failed before it was accepted.
fn is_clients(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// A client's connection, which keeps its place wherever it goes: into a tunnel too.
struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
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
