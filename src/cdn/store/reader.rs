//! Reads a body.

use std::{
    io,
    task::{Context, Poll},
};

use bytes::Bytes;

/// Reads a range of a stored body, piece by piece, without copying what is in memory.
#[derive(Debug)]
pub(crate) struct Reader {
    left: u64,
}

impl Reader {
    /// The next bytes. Always ready when the body is in memory. An error means that the disk has failed or lied: the rest is lost.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let _ = cx;
        todo!()
    }

    /// How many bytes are still to come.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }
}
