//! The bytes that are here of a body.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

/// The bytes that are here of a body: all, or some ranges of it. Cheap to clone, never copied.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pieces: Arc<[Piece]>,
    length: Option<u64>,
}

#[derive(Clone, Debug)]
struct Piece {
    start: u64,
    bytes: Bytes,
}

impl Parts {
    /// A whole body, from its chunks.
    pub(crate) fn whole(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        let _ = chunks.into_iter();
        todo!()
    }

    /// The bytes of a body from `start` on. `None` if they go beyond its length, or beyond 2⁶⁴.
    pub(crate) fn part(
        start: u64,
        chunks: impl IntoIterator<Item = Bytes>,
        length: Option<u64>,
    ) -> Option<Self> {
        let _ = (start, chunks.into_iter(), length);
        todo!()
    }

    /// The length of the whole body, if it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether all of the body is here.
    pub(crate) fn is_whole(&self) -> bool {
        todo!()
    }

    /// The bytes of both. Where both have some, ours are kept. `None` if they cannot be of the same body, as their lengths
    /// differ.
    pub(crate) fn combine(&self, other: &Self) -> Option<Self> {
        let _ = other;
        todo!()
    }

    /// What of a range is not here, in order.
    pub(crate) fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let _ = range;
        todo!()
    }
}
