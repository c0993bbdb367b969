//! What an unsafe method changes (RFC 9111, section 4.4).

use http::{Uri, request, response};

use super::Policy;

impl Policy {
    /// The URIs whose stored responses an answer makes invalid: the target of an unsafe request that did not fail, and what `Location` and
    /// `Content-Location` name on the same origin. They have the form that the request's own URI has.
    pub fn invalidates(&self, request: &request::Parts, response: &response::Parts) -> Vec<Uri> {
        let _ = (request, response);
        todo!()
    }
}
