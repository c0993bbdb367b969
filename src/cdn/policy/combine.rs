//! Parts of one representation (RFC 9111, sections 3.3 and 3.4).

use std::ops::Range;

use http::HeaderMap;

use super::{Policy, Stored};

impl Stored {
    /// Asks the origin for bytes that are missing, and only if the representation is still the same (`Range`, `If-Range`). An end of
    /// `u64::MAX` means all the rest.
    pub fn ask_for(&self, headers: &mut HeaderMap, missing: &Range<u64>) {
        let _ = (headers, missing);
        todo!()
    }
}

impl Policy {
    /// The head for the bytes of both, if both are of the same representation: they share a strong validator.
    pub fn combine(&self, old: &Stored, new: &Stored) -> Option<Stored> {
        let _ = (old, new);
        todo!()
    }
}
