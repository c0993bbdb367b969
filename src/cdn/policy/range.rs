//! Answers to `Range` requests from what is stored (RFC 9110, section 14).

use std::ops::Range;

use http::{HeaderMap, StatusCode, request};

use super::Stored;

/// A part of a representation, as a `Content-Range` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The bytes that it has.
    pub range: Range<u64>,
    /// The length of the whole representation, if it is known.
    pub complete: Option<u64>,
}

/// How a request is answered from a representation of known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeAnswer {
    /// With all of it.
    Whole,
    /// With a part: 206.
    Part(Range<u64>),
    /// With 416.
    Unsatisfiable,
}

impl Stored {
    /// Which bytes of a representation of this length answer the request. `If-Range` is honoured; what asks for more than one range
    /// is answered in whole.
    pub fn range(&self, request: &request::Parts, length: u64) -> RangeAnswer {
        let _ = (request, length);
        todo!()
    }

    /// Which bytes the request asks for when the length of the whole is not known: `None` if that cannot be told.
    pub fn range_of_unknown(&self, request: &request::Parts) -> Option<Range<u64>> {
        let _ = request;
        todo!()
    }

    /// The head of a 206 with these bytes. `length` is that of the whole, if known.
    pub fn part_head(&self, range: &Range<u64>, length: Option<u64>, age: u64) -> (StatusCode, HeaderMap) {
        let _ = (range, length, age);
        todo!()
    }

    /// The head of a 416.
    pub fn unsatisfiable_head(&self, length: u64, age: u64) -> (StatusCode, HeaderMap) {
        let _ = (length, age);
        todo!()
    }
}
