//! A connection to a server, with or without TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What bytes travel over: one branch for each read or write, and no call through a pointer.
pub(super) enum Stream {
    Plain(TokioIo<TcpStream>),
    /// In a box, since it is a hundred times larger.
    #[cfg(feature = "tls")]
    Tls(Box<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>>),
}

impl Stream {
    /// Whether HTTP/2 is spoken on it, where it was asked for: a server behind TLS has the choice.
    pub(super) fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.inner().get_ref().1.alpn_protocol() == Some(super::tls::H2),
        }
    }
}

// Inlined, the branches for plain connections cost next to nothing.
macro_rules! whichever {
    ($stream:expr, $io:ident => $action:expr) => {
        match $stream {
            Stream::Plain($io) => $action,
            #[cfg(feature = "tls")]
            Stream::Tls($io) => $action,
        }
    };
}

impl Read for Stream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        whichever!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl Write for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        whichever!(self.get_mut(), io => Pin::new(io).poll_write(cx, data))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        whichever!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, parts))
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        whichever!(self, io => io.is_write_vectored())
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whichever!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whichever!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }
}
