//! Reads a body.

use std::{
    io,
    task::{Context, Poll},
};

use bytes::Bytes;

#[cfg(feature = "disk")]
use super::disk::{FileBody, FileReader};
use super::parts::Cursor;

/// Reads a range of a stored body, piece by piece, without copying what is in memory.
#[derive(Debug)]
pub(crate) struct Reader(Source);

#[derive(Debug)]
enum Source {
    Memory(Cursor),
    #[cfg(feature = "disk")]
    File(FileReader),
}

impl Reader {
    pub(super) fn from_memory(cursor: Cursor) -> Self {
        Self(Source::Memory(cursor))
    }

    #[cfg(feature = "disk")]
    pub(super) fn from_file(body: &FileBody, range: std::ops::Range<u64>) -> Option<Self> {
        FileReader::new(body, range).map(|reader| Self(Source::File(reader)))
    }

    /// The next bytes. Always ready when the body is in memory. An error means that the disk has failed or lied: the rest is
    /// lost.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        #[cfg(not(feature = "disk"))]
        let _ = cx;
        match &mut self.0 {
            Source::Memory(cursor) => Poll::Ready(cursor.next().map(Ok)),
            #[cfg(feature = "disk")]
            Source::File(reader) => reader.poll_next(cx),
        }
    }

    /// How many bytes are still to come.
    pub(crate) fn left(&self) -> u64 {
        match &self.0 {
            Source::Memory(cursor) => cursor.left(),
            #[cfg(feature = "disk")]
            Source::File(reader) => reader.left(),
        }
    }
}
