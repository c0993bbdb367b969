//! One direction of a tunnel.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read at once. It stands on the stack, so a connection where nothing flows, or whose receiver keeps up, takes
/// no memory for it.
const CHUNK: usize = 16 * 1024;

/// How many chunks may pass before others get their turn: a fast sender must not keep a thread to itself.
const MAX_CHUNKS: usize = 16;

/// Which end of a direction failed.
#[derive(Debug)]
pub(super) enum Fault {
    Reading(io::Error),
    Writing(io::Error),
}

/// Copies from one end to the other, and ends the stream there when it has ended here.
#[derive(Debug, Default)]
pub(super) struct Pump {
    /// What the receiver had no room for, from `at` on.
    rest: Vec<u8>,
    at: usize,
    /// Whether the receiver may keep bytes back until it is flushed.
    is_unflushed: bool,
    has_ended: bool,
    is_done: bool,
    passed: u64,
}

impl Pump {
    /// Bytes that the receiver has taken.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// Whether the receiver has been told of the end.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Moves what can be moved. Sets `moved` if that was anything.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
        moved: &mut bool,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + ?Sized,
        W: AsyncWrite + ?Sized,
    {
        for _ in 0..MAX_CHUNKS {
            while let Some(rest @ [_, ..]) = self.rest.get(self.at..) {
                let written = ready!(to.as_mut().poll_write(cx, rest));
                self.at += self.wrote(written)?;
                *moved = true;
            }
            // Given back, rather than kept for the next time that the receiver is slow.
            (self.rest, self.at) = (Vec::new(), 0);

            if self.is_done {
                return Poll::Ready(Ok(()));
            }
            if self.has_ended {
                ready!(to.as_mut().poll_shutdown(cx)).map_err(Fault::Writing)?;
                self.is_done = true;
                *moved = true;
                return Poll::Ready(Ok(()));
            }

            let mut space = [const { MaybeUninit::uninit() }; CHUNK];
            let mut chunk = ReadBuf::uninit(&mut space);
            match from.as_mut().poll_read(cx, &mut chunk) {
                Poll::Ready(read) => read.map_err(Fault::Reading)?,
                Poll::Pending => {
                    if self.is_unflushed {
                        ready!(to.as_mut().poll_flush(cx)).map_err(Fault::Writing)?;
                        self.is_unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
            *moved = true;
            self.has_ended = chunk.filled().is_empty();

            let mut chunk = chunk.filled();
            while !chunk.is_empty() {
                match to.as_mut().poll_write(cx, chunk) {
                    Poll::Ready(written) => chunk = chunk.get(self.wrote(written)?..).unwrap_or_default(),
                    Poll::Pending => {
                        self.rest = chunk.to_vec();
                        return Poll::Pending;
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn wrote(&mut self, written: io::Result<usize>) -> Result<usize, Fault> {
        match written {
            Ok(0) => Err(Fault::Writing(io::ErrorKind::WriteZero.into())),
            Ok(written) => {
                self.is_unflushed = true;
                self.passed += written as u64;
                Ok(written)
            }
            Err(error) => Err(Fault::Writing(error)),
        }
    }
}
