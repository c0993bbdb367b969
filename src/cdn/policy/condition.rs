//! The client's conditions, answered from a stored response (RFC 9110, section 13; RFC 9111, section 4.3.2).

use http::{HeaderMap, StatusCode, request};

use super::Stored;

/// What the conditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precondition {
    /// There are none, or they hold: the response is sent.
    Send,
    /// 304 is sent.
    NotModified,
}

impl Stored {
    /// Evaluates the conditions of a request. `If-Match` and `If-Unmodified-Since` are the origin's, and not looked at here.
    pub fn precondition(&self, request: &request::Parts) -> Precondition {
        let _ = request;
        todo!()
    }

    /// The head of a 304 in place of the stored response (RFC 9110, section 15.4.5).
    pub fn not_modified(&self, age: u64) -> (StatusCode, HeaderMap) {
        let _ = age;
        todo!()
    }
}
