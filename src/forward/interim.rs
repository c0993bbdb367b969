//! Interim responses on their way to the client.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, BytesMut};
use http::{HeaderMap, Request, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::HopByHop;

/// A client's connection on which interim responses can be passed on: `102 Processing`, `103 Early Hints`.
///
/// "A proxy MUST forward 1xx responses" (RFC 9110, section 15.2), but hyper's server cannot send any and its client drops
/// them. This goes between the two: around the stream that a server serves, with [`attend`](InterimSender::attend) for each
/// request that comes in on it. What an [`Upstream`](super::Upstream) then receives before the answer is written to the
/// stream when hyper has nothing unsent there.
///
/// This is for HTTP/1.1 on both sides, and the extensions of the request must reach the upstream. `100 Continue` is not
/// passed on, as hyper sends that itself.
///
/// ```no_run
/// use buttress::forward::{Interim, Proxy, Upstream, PeerAddr};
/// use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
/// use hyper_util::rt::TokioIo;
/// use tower::Service;
///
/// # async fn serve(stream: tokio::net::TcpStream, peer: std::net::SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
/// let proxy = Proxy::new(Upstream::new("http://10.0.0.7:8080")?);
/// let (stream, interim) = Interim::new(stream);
/// let service = service_fn(move |mut request: Request<Incoming>| {
///     request.extensions_mut().insert(PeerAddr(peer));
///     interim.attend(&mut request);
///     proxy.clone().call(request)
/// });
/// http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
/// # Ok(())
/// # }
/// ```
pub struct Interim<T> {
    stream: T,
    line: Arc<Mutex<Line>>,
}

/// What puts interim responses on an [`Interim`].
#[derive(Clone)]
pub struct InterimSender {
    line: Arc<Mutex<Line>>,
}

/// What is known of the way to the client.
#[derive(Default)]
struct Line {
    /// The number of the request that is being answered.
    request: u64,
    /// Whether its answer has not begun.
    is_open: bool,
    /// Whether the server has more to send than the stream has taken.
    is_busy: bool,
    queue: BytesMut,
    /// Of the task that serves the connection.
    server: Option<Waker>,
}

/// Bytes of interim responses that wait for a client that does not read.
const MOST: usize = 64 << 10;

impl<T> Interim<T> {
    /// A connection, and what puts interim responses on it.
    pub fn new(stream: T) -> (Self, InterimSender) {
        let line = Arc::<Mutex<Line>>::default();
        (Self { stream, line: Arc::clone(&line) }, InterimSender { line })
    }
}

impl InterimSender {
    /// Passes on what comes in answer to this request before its final response.
    pub fn attend<B>(&self, request: &mut Request<B>) {
        if request.version() != Version::HTTP_11 {
            return;
        }
        let mut line = lock(&self.line);
        line.request += 1;
        line.is_open = !line.is_busy;
        let number = line.request;
        drop(line);
        let line = Arc::clone(&self.line);
        hyper::ext::on_informational(request, move |interim| {
            if passes(interim.status()) {
                let server = lock(&line).add(number, interim.status(), interim.headers());
                // Whoever fetches may do so in another task.
                server.into_iter().for_each(Waker::wake);
            }
        });
    }
}

/// Whether an interim response means something beyond the next machine.
fn passes(status: StatusCode) -> bool {
    status.is_informational() && !matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS)
}

impl Line {
    fn add(&mut self, request: u64, status: StatusCode, headers: &HeaderMap) -> Option<Waker> {
        if self.request != request || !self.is_open || self.queue.len() > MOST {
            return None;
        }
        let mut headers = headers.clone();
        HopByHop::new().strip(&mut headers);
        let reason = status.canonical_reason().unwrap_or_default();
        self.queue.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
        for (name, value) in &headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                self.queue.extend_from_slice(part);
            }
        }
        self.queue.extend_from_slice(b"\r\n");
        self.server.take()
    }

    fn poll_send(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let sent = ready!(Pin::new(&mut *stream).poll_write(cx, &self.queue))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.queue.advance(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// The server begins to write: what it has not said before it can no longer say.
    fn poll_begin(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_open = false;
        self.is_busy = true;
        self.poll_send(stream, cx)
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: AsyncRead + Unpin> AsyncRead for Interim<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Interim<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(lock(&this.line).poll_begin(&mut this.stream, cx))?;
        Pin::new(&mut this.stream).poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(lock(&this.line).poll_begin(&mut this.stream, cx))?;
        Pin::new(&mut this.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has handed over all that it has, and whenever it has nothing to write.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut line = lock(&this.line);
        if line.server.as_ref().is_none_or(|server| !server.will_wake(cx.waker())) {
            line.server = Some(cx.waker().clone());
        }
        line.is_busy = false;
        ready!(line.poll_send(&mut this.stream, cx))?;
        drop(line);
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<T: fmt::Debug> fmt::Debug for Interim<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interim").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl fmt::Debug for InterimSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterimSender").finish_non_exhaustive()
    }
}
