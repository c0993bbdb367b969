//! The bytes that are here of a body: pure.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};

/// Chunks shorter than this are put together, so that an origin which sends single bytes does not cost a hundred times what
/// it sends.
const SHORT: usize = 4 << 10;
/// How long a piece becomes that is put together.
const LONG: usize = 64 << 10;

/// The bytes that are here of a body: all, or some ranges of it. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// In order, none empty, none overlapping another.
    pieces: Arc<[Piece]>,
    length: Option<u64>,
    is_whole: bool,
}

#[derive(Clone, Debug)]
struct Piece {
    start: u64,
    bytes: Bytes,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    /// What it has of a range, if anything.
    fn cut(&self, range: &Range<u64>) -> Option<Self> {
        let (start, end) = (self.start.max(range.start), self.end().min(range.end));
        let within = |at: u64| usize::try_from(at - self.start).ok();
        (start < end).then_some(())?;
        Some(Self { start, bytes: self.bytes.slice(within(start)?..within(end)?) })
    }
}

impl Parts {
    /// A whole body, from its chunks.
    pub(crate) fn whole(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces = pieces(0, chunks).unwrap_or_default();
        let length = pieces.last().map_or(0, Piece::end);
        Self { pieces: pieces.into(), length: Some(length), is_whole: true }
    }

    /// The bytes of a body from `start` on. `None` if they go beyond its length, or beyond 2⁶⁴.
    pub(crate) fn part(
        start: u64,
        chunks: impl IntoIterator<Item = Bytes>,
        length: Option<u64>,
    ) -> Option<Self> {
        Self::new(pieces(start, chunks)?, length)
    }

    fn new(pieces: Vec<Piece>, length: Option<u64>) -> Option<Self> {
        if length.is_some_and(|length| pieces.last().is_some_and(|last| last.end() > length)) {
            return None;
        }
        let mut parts = Self { pieces: pieces.into(), length, is_whole: false };
        parts.is_whole = length.is_some_and(|length| parts.has(&(0..length)));
        Some(parts)
    }

    /// The length of the whole body, if it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether all of the body is here.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// How many bytes are here.
    pub(crate) fn held(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes.len() as u64).sum()
    }

    /// The memory that it takes, in bytes.
    pub(crate) fn weight(&self) -> u64 {
        self.held() + (self.pieces.len() * size_of::<Piece>()) as u64
    }

    /// Whether all of a range is here.
    pub(crate) fn has(&self, range: &Range<u64>) -> bool {
        if self.is_whole {
            return range.end <= self.length.unwrap_or(0);
        }
        self.gaps(range.clone()).next().is_none()
    }

    /// What of a range is not here, in order. An end beyond the length of the body, if that is known, counts as the length.
    pub(crate) fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let end = range.end.min(self.length.unwrap_or(u64::MAX));
        self.gaps(range.start..end).collect()
    }

    /// The ranges that are here, in order, none touching another.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let mut pieces = self.pieces.iter().peekable();
        std::iter::from_fn(move || {
            let first = pieces.next()?;
            let mut end = first.end();
            while let Some(next) = pieces.next_if(|next| next.start == end) {
                end = next.end();
            }
            Some(first.start..end)
        })
    }

    /// The bytes of both. Where both have some, ours stay. `None` if they cannot be of the same body: the lengths differ, or one
    /// has bytes beyond the length of the other.
    pub(crate) fn combine(&self, other: &Self) -> Option<Self> {
        if let (Some(ours), Some(theirs)) = (self.length, other.length)
            && ours != theirs
        {
            return None;
        }
        let mut pieces = self.pieces.to_vec();
        for piece in &*other.pieces {
            let gaps = self.gaps(piece.start..piece.end());
            pieces.extend(gaps.filter_map(|gap| piece.cut(&gap)));
        }
        // Two sorted runs, of which one may be interleaved with the other.
        pieces.sort_by_key(|piece| piece.start);
        Self::new(pieces, self.length.or(other.length))
    }

    /// The first piece that ends behind `at`.
    fn first_behind(&self, at: u64) -> usize {
        self.pieces.partition_point(|piece| piece.end() <= at)
    }

    fn gaps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let Range { start: mut at, end } = range;
        let mut pieces = self.pieces[self.first_behind(at)..].iter();
        std::iter::from_fn(move || {
            while at < end {
                let (start, next) =
                    pieces.next().map_or((end, end), |piece| (piece.start.min(end), piece.end()));
                let gap = at..start;
                at = next;
                if !gap.is_empty() {
                    return Some(gap);
                }
            }
            None
        })
    }

    /// Reads a range, if all of it is here.
    pub(crate) fn cursor(&self, range: Range<u64>) -> Option<Cursor> {
        if range.start > range.end || !self.has(&range) {
            return None;
        }
        Some(Cursor { index: self.first_behind(range.start), parts: self.clone(), left: range })
    }
}

/// Reads a range of a body.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    parts: Parts,
    index: usize,
    left: Range<u64>,
}

impl Cursor {
    /// How many bytes are still to come.
    pub(crate) fn left(&self) -> u64 {
        self.left.end - self.left.start
    }
}

impl Iterator for Cursor {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let piece = self.parts.pieces.get(self.index)?.cut(&self.left)?;
        self.index += 1;
        self.left.start = piece.end();
        Some(piece.bytes)
    }
}

/// Chunks one behind the other, from `start` on; `None` if they end beyond 2⁶⁴.
fn pieces(start: u64, chunks: impl IntoIterator<Item = Bytes>) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut at = start;
    let mut push = |bytes: Bytes| {
        let start = at;
        at = at.checked_add(bytes.len() as u64)?;
        if !bytes.is_empty() {
            pieces.push(Piece { start, bytes });
        }
        Some(())
    };
    let mut short = BytesMut::new();
    let mut only = None;
    for chunk in chunks {
        if chunk.len() >= SHORT {
            push(only.take().unwrap_or_else(|| short.split().freeze()))?;
            push(chunk)?;
        } else if short.is_empty() && only.is_none() {
            only = Some(chunk);
        } else {
            if let Some(first) = only.take() {
                short.extend_from_slice(&first);
            }
            short.extend_from_slice(&chunk);
            if short.len() >= LONG {
                push(short.split().freeze())?;
            }
        }
    }
    push(only.unwrap_or_else(|| short.freeze()))?;
    Some(pieces)
}

#[cfg(test)]
mod tests;
