//! What is kept of a response besides its body.

use http::{HeaderMap, StatusCode};

use super::{Moment, Part};

/// What is kept of a response besides its body, with everything read that a hit needs.
///
/// An answer of 206 is kept as the head of the whole representation, beside the [part](Self::part) that it brought.
#[derive(Clone, Debug)]
pub struct Stored {
    status: StatusCode,
    headers: HeaderMap,
}

impl Stored {
    /// The status: 200 for what was stored from a 206.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The fields, without those that were meant for one hop and without `Age`.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Whether the fields of a request are those that this response was chosen by (RFC 9111, section 4.1).
    pub fn selects(&self, request: &HeaderMap) -> bool {
        let _ = request;
        todo!()
    }

    /// Which part of the representation the response brought, if not all of it.
    pub fn part(&self) -> Option<Part> {
        todo!()
    }

    /// The length of the whole representation, where the origin told it.
    pub fn length(&self) -> Option<u64> {
        todo!()
    }

    /// The age in seconds (RFC 9111, section 4.2.3).
    pub fn age(&self, now: Moment) -> u64 {
        let _ = now;
        todo!()
    }

    /// For how many seconds the response is still fresh; negative since it is stale.
    pub fn ttl(&self, now: Moment) -> i64 {
        let _ = now;
        todo!()
    }

    /// The head as it is sent on a hit with the whole body.
    pub fn head(&self, age: u64) -> (StatusCode, HeaderMap) {
        let _ = age;
        todo!()
    }

    /// The tags that it can be purged by, from `Cache-Tag` and `Surrogate-Key`, each once.
    pub fn tags(&self) -> &[Box<[u8]>] {
        todo!()
    }

    /// Roughly the memory that it takes, in bytes.
    pub fn weight(&self) -> usize {
        todo!()
    }
}
