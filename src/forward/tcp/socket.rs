//! Connections that can be broken off.

use std::{
    io,
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::meter::Meter;

/// A connection that can be broken off, so that the other end does not take what it has got for the whole.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Makes the drop that follows a reset, rather than an ordinary end of stream.
    fn reset(&mut self);
}

impl Socket for TcpStream {
    fn reset(&mut self) {
        // A linger of zero does not block: it is the documented way to send RST on close.
        #[allow(deprecated, reason = "`set_zero_linger` asks for a newer tokio")]
        let _ = self.set_linger(Some(Duration::ZERO));
    }
}

/// One end of a tunnel. Counts what it takes, and is reset when dropped before it was told of the end of the stream.
#[derive(Debug)]
pub(super) struct End<T: Socket> {
    socket: T,
    is_told: bool,
    meter: Arc<Meter>,
    taken: fn(&Meter) -> &AtomicU64,
}

impl<T: Socket> End<T> {
    pub(super) fn new(socket: T, meter: Arc<Meter>, taken: fn(&Meter) -> &AtomicU64) -> Self {
        Self { socket, is_told: false, meter, taken }
    }
}

impl<T: Socket> Drop for End<T> {
    fn drop(&mut self) {
        if !self.is_told {
            self.socket.reset();
        }
    }
}

impl<T: Socket> AsyncRead for End<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, to)
    }
}

impl<T: Socket> AsyncWrite for End<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.socket).poll_write(cx, from))?;
        Meter::add((self.taken)(&self.meter), taken);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        self.is_told = true;
        Poll::Ready(Ok(()))
    }
}
