//! Asking the origin whether a stored response is still good, and what its answer changes (RFC 9111, sections 4.3.1, 4.3.3 to 4.3.5).

use http::{HeaderMap, request, response};

use super::{Moment, Policy, Stored};

/// What an answer to `HEAD` does to a stored response (RFC 9111, section 4.3.5).
#[derive(Clone, Debug)]
pub enum HeadUpdate {
    /// The stored response is updated.
    Updated(Box<Stored>),
    /// It is another representation: the stored response is to be dropped.
    Invalid,
    /// The answer says nothing about it.
    Unrelated,
}

impl Stored {
    /// Whether there is a validator to ask the origin with.
    pub fn has_validator(&self) -> bool {
        todo!()
    }

    /// Puts the conditions of this response in place of those of a client, `Range` and `If-Range` included. Without a validator the request is
    /// then unconditional, which is said by `false`.
    pub fn make_conditional(&self, headers: &mut HeaderMap) -> bool {
        let _ = headers;
        todo!()
    }

    /// Whether a 304 is about this response (RFC 9111, section 4.3.4).
    pub fn validated_by(&self, not_modified: &response::Parts) -> bool {
        let _ = not_modified;
        todo!()
    }
}

impl Policy {
    /// The stored response after a 304 that [validates](Stored::validated_by) it.
    pub fn refresh(
        &self,
        stored: &Stored,
        request: &request::Parts,
        not_modified: &response::Parts,
        sent: Moment,
        received: Moment,
    ) -> Stored {
        let _ = (stored, request, not_modified, sent, received);
        todo!()
    }

    /// What an answer to `HEAD` says about a stored response to `GET`.
    pub fn refresh_by_head(
        &self,
        stored: &Stored,
        request: &request::Parts,
        head: &response::Parts,
        sent: Moment,
        received: Moment,
    ) -> HeadUpdate {
        let _ = (stored, request, head, sent, received);
        todo!()
    }
}
