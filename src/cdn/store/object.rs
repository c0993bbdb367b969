//! One stored response.

use std::ops::Range;

use super::{Parts, Reader};
use crate::cdn::policy::Stored;

/// A stored response: its head and its body, or what there is of it.
#[derive(Debug)]
pub(crate) struct Object {
    stored: Stored,
    body: Parts,
}

impl Object {
    /// `body` must hold all that it says: an aborted or truncated body never becomes one.
    pub(crate) fn new(stored: Stored, body: Parts) -> Self {
        Self { stored, body }
    }

    pub(crate) fn stored(&self) -> &Stored {
        &self.stored
    }

    /// The length of the whole representation, if it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        self.body.length()
    }

    /// Whether all of the representation is here.
    pub(crate) fn is_whole(&self) -> bool {
        self.body.is_whole()
    }

    /// What of a range is not here, in order.
    pub(crate) fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.body.missing(range)
    }

    /// Reads a range, all of it is here.
    pub(crate) fn read(&self, range: Range<u64>) -> Option<Reader> {
        let _ = range;
        todo!()
    }

    /// What is in memory of the body.
    pub(crate) fn parts(&self) -> Option<&Parts> {
        Some(&self.body)
    }
}
