//! Servers and clients on real sockets.

#![allow(dead_code, reason = "each test crate needs a part of it")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use buttress::forward::{PeerAddr, Proxy, ProxyError, Upstream};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tower::{BoxError, Service};

pub(crate) type BoxBody = UnsyncBoxBody<Bytes, BoxError>;

/// Longer than anything here takes, so that a hang is a failure with a name.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what).await.expect("it hangs")
}

/// A server that answers each request with `handler`.
pub(crate) async fn serve<H, F, R>(handler: H) -> SocketAddr
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<R>> + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            tokio::spawn(answer(stream, peer, handler.clone()));
        }
    });
    addr
}

/// Answers each request on a connection with `handler`.
pub(crate) async fn answer<H, F, R>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    handler: H,
) where
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<R>> + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(PeerAddr(peer));
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let server = Builder::new(TokioExecutor::new());
    server.serve_connection_with_upgrades(TokioIo::new(stream), service).await.ok();
}

/// A server that is played by hand, one task per connection.
pub(crate) async fn serve_raw<H, F>(handler: H) -> SocketAddr
where
    H: Fn(Raw) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handler(Raw::over(stream)));
        }
    });
    addr
}

/// A proxy in front of `inner`.
pub(crate) async fn proxy<S, R>(proxy: Proxy<S>) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<R>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: ProxyError,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    serve(move |request| {
        let answer = proxy.clone().call(request);
        async move {
            let Ok(answer) = answer.await;
            answer
        }
    })
    .await
}

/// A proxy in front of the server at `addr`.
pub(crate) async fn proxy_to(addr: SocketAddr) -> SocketAddr {
    proxy(Proxy::new(upstream(addr))).await
}

pub(crate) fn upstream(addr: SocketAddr) -> Upstream {
    Upstream::new(&format!("http://{addr}")).unwrap()
}

/// An address that refuses connections.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A connection that is spoken by hand.
pub(crate) struct Raw<S = TcpStream> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).await.unwrap())
    }

    /// What has come in so far, beyond what was asked for.
    pub(crate) fn pending(&mut self) -> String {
        let mut more = [0; 1024];
        while let Ok(read @ 1..) = self.stream.try_read(&mut more) {
            self.read.extend_from_slice(&more[..read]);
        }
        text(self.read.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Reads up to and with `end`. What was read before an end of stream comes back with it.
    pub(crate) async fn until(&mut self, end: &str) -> Result<String, String> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end.as_bytes()) {
                let rest = self.read.split_off(at + end.len());
                return Ok(text(std::mem::replace(&mut self.read, rest)));
            }
            match soon(self.stream.read_buf(&mut self.read)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(text(std::mem::take(&mut self.read))),
            }
        }
    }

    /// Reads the head of a message, in lower case.
    pub(crate) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await.expect("a head").to_lowercase()
    }

    /// Reads all there will ever be.
    pub(crate) async fn rest(&mut self) -> String {
        soon(self.stream.read_to_end(&mut self.read)).await.ok();
        text(std::mem::take(&mut self.read))
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// A body that is fed by hand.
pub(crate) fn channel() -> (mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>, BoxBody) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, BodyExt::boxed_unsync(StreamBody::new(Receiver(receiver))))
}

struct Receiver<T>(mpsc::UnboundedReceiver<T>);

impl<T> futures_core::Stream for Receiver<T> {
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}

/// A frame as it comes out of a stream.
#[expect(clippy::unnecessary_wraps, reason = "what the channel carries")]
pub(crate) fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

/// A client of HTTP/1.1 on a connection of its own.
pub(crate) async fn http1(addr: SocketAddr) -> hyper::client::conn::http1::SendRequest<BoxBody> {
    let stream = TokioIo::new(TcpStream::connect(addr).await.unwrap());
    let (sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A client of HTTP/2 on a connection of its own.
pub(crate) async fn http2(addr: SocketAddr) -> hyper::client::conn::http2::SendRequest<BoxBody> {
    let stream = TokioIo::new(TcpStream::connect(addr).await.unwrap());
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) fn empty() -> BoxBody {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn full(text: &'static str) -> BoxBody {
    http_body_util::Full::new(Bytes::from_static(text.as_bytes()))
        .map_err(|never| match never {})
        .boxed_unsync()
}
