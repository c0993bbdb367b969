//! Clients' connections: how they are accepted, bounded and brought to an end.

use std::{
    future::pending,
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
use http_body_util::Either;
use hyper::{Request, Response, StatusCode, body::Incoming, http::uri::Scheme, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::Service;

use crate::{
    config::Config,
    stack::Stack,
    tls::{Secured, Terminator},
};

/// How often a client of HTTP/2 that says nothing is asked whether it is still there.
const PING: Duration = Duration::from_secs(20);

/// How long to wait when the system has no more sockets: some may close meanwhile.
const NO_SOCKETS: Duration = Duration::from_millis(50);

/// Where clients come in: in the clear, and over TLS if there is any.
pub(crate) struct Doors {
    pub(crate) clear: TcpListener,
    pub(crate) tls: Option<(TcpListener, Terminator)>,
}

impl Doors {
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, Option<Terminator>)> {
        let secure = async {
            let Some((listener, terminator)) = &self.tls else { return pending().await };
            let (stream, peer) = listener.accept().await?;
            Ok((stream, peer, Some(terminator.clone())))
        };
        tokio::select! {
            accepted = self.clear.accept() => accepted.map(|(stream, peer)| (stream, peer, None)),
            accepted = secure => accepted,
        }
    }
}

/// Serves HTTP/1.1 and HTTP/2, in the clear and over TLS.
pub(crate) struct Server {
    clear: Stack,
    secure: Stack,
    http: Builder<TokioExecutor>,
    connections: Connections,
    /// How long a client may take for the head of its request.
    head: Duration,
    drain: Duration,
}

impl Server {
    pub(crate) fn new(proxy: Stack, config: &Config) -> Self {
        let secure = proxy.clone().scheme(Scheme::HTTPS);
        let head = config.timeouts.head;
        let mut http = Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(head);
        http.http2().timer(TokioTimer::new()).keep_alive_interval(PING);
        let connections = Connections::at_most(config.max_connections);
        Self { clear: proxy, secure, http, connections, head, drain: config.timeouts.drain }
    }

    /// Who is connected, for others to look at.
    pub(crate) fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Serves until `stop` ends, then finishes what is in flight.
    ///
    /// # Errors
    /// How many connections were still open when patience ended.
    pub(crate) async fn run(self, doors: Doors, stop: impl Future<Output = ()>) -> Result<(), usize> {
        let graceful = GracefulShutdown::new();
        let mut handshakes = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                (connection, peer, tls) = self.connections.accept(&doors) => match tls {
                    None => self.serve(connection, peer, None, &graceful),
                    Some(tls) => {
                        handshakes.spawn(async move { Some((tls.accept(connection).await?, peer)) });
                    }
                },
                Some(outcome) = handshakes.join_next() => {
                    if let Ok(Some(((stream, secured), peer))) = outcome {
                        self.serve(stream, peer, Some(secured), &graceful);
                    }
                }
                () = &mut stop => break,
            }
        }
        // From here on the system refuses connections, and those without TLS yet have not asked for anything.
        drop((doors, handshakes));
        let finished = async {
            graceful.shutdown().await;
            self.connections.all_closed().await;
        };
        timeout(self.drain, finished).await.map_err(|_| self.connections.open())
    }

    fn serve<S>(&self, stream: S, peer: SocketAddr, secured: Option<Secured>, graceful: &GracefulShutdown)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let proxy = if secured.is_some() { self.secure.clone() } else { self.clear.clone() };
        let asked = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&asked);
        let service = service_fn(move |mut request: Request<Incoming>| {
            seen.store(true, Relaxed);
            request.extensions_mut().insert(PeerAddr(peer));
            let is_misdirected = secured.as_ref().is_some_and(|secured| secured.is_misdirected(&request));
            if let Some(secured) = &secured {
                request.extensions_mut().insert(secured.name.clone());
            }
            let answer = (!is_misdirected).then(|| proxy.clone().call(request));
            async move {
                let Some(answer) = answer else { return Ok(misdirected().map(Either::Right)) };
                answer.await.map(|answer| answer.map(Either::Left))
            }
        });
        let served = self.http.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
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

/// Sends a client to another connection, where it gets to see the certificate of the host that it asks for.
fn misdirected() -> Response<String> {
    let mut answer = Response::new("421 Misdirected Request\n".to_owned());
    *answer.status_mut() = StatusCode::MISDIRECTED_REQUEST;
    answer
}

/// Counts connections, handshakes and tunnels of upgraded ones included, and bounds them.
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
    async fn accept(&self, doors: &Doors) -> (Connection, SocketAddr, Option<Terminator>) {
        // Nobody else takes places: the one that is free now stays free.
        drop(self.places.acquire().await);
        loop {
            match doors.accept().await {
                Ok((stream, peer, tls)) => {
                    // Small answers must not wait for the acknowledgement of earlier ones.
                    stream.set_nodelay(true).ok();
                    let place = Arc::clone(&self.places).try_acquire_owned().expect("one was free");
                    return (Connection { stream, _place: place }, peer, tls);
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
