//! Answers to `Range` requests from what is stored (RFC 9110, section 14).

use std::ops::Range;

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED},
    request,
};

use super::Stored;
use crate::cdn::field::range::ByteRange;

/// A part of a representation, as a `Content-Range` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The bytes that it has.
    pub range: Range<u64>,
    /// The length of the whole representation, if it is known.
    pub complete: Option<u64>,
}

impl Part {
    /// The part that a content of so many bytes is, when the origin framed it properly. `None` if it has more
    /// bytes than it should.
    ///
    /// Some origins count wrongly and name an end one byte too far. What there is then ends with the content,
    /// and so does the whole, if the part was to reach to its end.
    pub fn with_content(mut self, length: u64) -> Option<Self> {
        let end = self.range.start.checked_add(length).filter(|end| *end <= self.range.end && length > 0)?;
        if end < self.range.end {
            if self.complete == Some(self.range.end) {
                self.complete = Some(end);
            }
            self.range.end = end;
        }
        Some(self)
    }

    /// Whether it is all of the representation.
    pub fn is_whole(&self) -> bool {
        self.range.start == 0 && self.complete == Some(self.range.end)
    }
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
    /// Which bytes of a representation of this length answer the request. `If-Range` is honoured; what asks
    /// for more than one range is answered in whole, which is always allowed.
    pub fn range(&self, request: &request::Parts, length: u64) -> RangeAnswer {
        match self.asked(request) {
            None => RangeAnswer::Whole,
            Some(range) => range.of(length).map_or(RangeAnswer::Unsatisfiable, RangeAnswer::Part),
        }
    }

    /// Which bytes the request asks for when the length of the whole is not known; `None` if that cannot be
    /// told, or all are asked for.
    pub fn range_of_unknown(&self, request: &request::Parts) -> Option<Range<u64>> {
        match self.asked(request)? {
            ByteRange::FromTo(first, last) => Some(first..last.checked_add(1)?),
            ByteRange::From(_) | ByteRange::Suffix(_) => None,
        }
    }

    fn asked(&self, request: &request::Parts) -> Option<ByteRange> {
        if self.status != StatusCode::OK {
            return None;
        }
        ByteRange::read(&request.headers).filter(|_| self.if_range(request))
    }

    /// The head of a 206 with these bytes. `length` is that of the whole, if known.
    pub fn part_head(&self, range: &Range<u64>, length: Option<u64>, age: u64) -> (StatusCode, HeaderMap) {
        let mut headers = self.fields(age);
        let last = range.end.saturating_sub(1);
        let content_range = match length {
            Some(length) => format!("bytes {}-{last}/{length}", range.start),
            None => format!("bytes {}-{last}/*", range.start),
        };
        if let Ok(value) = HeaderValue::try_from(content_range) {
            headers.insert(CONTENT_RANGE, value);
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end.saturating_sub(range.start)));
        (StatusCode::PARTIAL_CONTENT, headers)
    }

    /// The head of a 416, which tells the length (RFC 9110, section 15.5.17).
    pub fn unsatisfiable_head(&self, length: u64, age: u64) -> (StatusCode, HeaderMap) {
        let mut headers = self.fields(age);
        for name in [CONTENT_TYPE, CONTENT_ENCODING, ETAG, LAST_MODIFIED] {
            headers.remove(name);
        }
        if let Ok(value) = HeaderValue::try_from(format!("bytes */{length}")) {
            headers.insert(CONTENT_RANGE, value);
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        (StatusCode::RANGE_NOT_SATISFIABLE, headers)
    }
}
