//! The client's conditions, answered from a stored response (RFC 9110, section 13; RFC 9111, section 4.3.2).

use http::{
    HeaderMap, Method, StatusCode,
    header::{
        CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
        IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED,
    },
    request,
};

use super::Stored;
use crate::cdn::field::{
    date::DateField,
    entity_tag::{EntityTag, if_none_match},
};

/// What the conditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precondition {
    /// There are none, or they hold: the response is sent.
    Send,
    /// 304 is sent.
    NotModified,
}

impl Stored {
    /// Evaluates the conditions of a `GET` or `HEAD` request.
    ///
    /// `If-Match` and `If-Unmodified-Since` are the origin's, and not looked at. Where the stored status is
    /// no success, no condition is evaluated (RFC 9110, section 13.2.1).
    pub fn precondition(&self, request: &request::Parts) -> Precondition {
        let headers = &request.headers;
        if !self.status.is_success() {
            return Precondition::Send;
        }
        if headers.contains_key(IF_NONE_MATCH) {
            return if if_none_match(headers, self.entity_tag()) {
                Precondition::NotModified
            } else {
                Precondition::Send
            };
        }
        if !headers.contains_key(IF_MODIFIED_SINCE) {
            return Precondition::Send;
        }
        // "A recipient MUST ignore the If-Modified-Since header field if the received field value is not a
        // valid HTTP-date, the field value has more than one member" (RFC 9110, section 13.1.3). Without
        // Last-Modified, Date stands in for it (RFC 9111, section 4.3.2).
        match DateField::read(headers, &IF_MODIFIED_SINCE, self.date) {
            DateField::Date(since) if self.last_modified.unwrap_or(self.date) <= since => {
                Precondition::NotModified
            }
            _ => Precondition::Send,
        }
    }

    /// Whether a request's `Range` counts: there is no `If-Range`, or it names this very representation (RFC
    /// 9110, section 13.1.5).
    pub(super) fn if_range(&self, request: &request::Parts) -> bool {
        if request.method != Method::GET {
            return false;
        }
        let mut conditions = request.headers.get_all(IF_RANGE).iter();
        let Some(condition) = conditions.next() else { return true };
        if conditions.next().is_some() {
            return false;
        }
        let tag = EntityTag::of(condition.as_bytes());
        if self.entity_tag().is_some_and(|ours| ours.matches_strongly(tag)) {
            return true;
        }
        let date = DateField::read(&request.headers, &IF_RANGE, self.date).date();
        date.is_some() && date == self.strong_last_modified()
    }

    /// The head of a 304 in place of the stored response: without what describes a content that is not there
    /// (RFC 9110, section 15.4.5).
    pub fn not_modified(&self, age: u64) -> (StatusCode, HeaderMap) {
        let mut headers = self.fields(age);
        for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE] {
            headers.remove(name);
        }
        // Only in place of an entity tag does it guide the updates of other caches.
        if headers.contains_key(ETAG) {
            headers.remove(LAST_MODIFIED);
        }
        (StatusCode::NOT_MODIFIED, headers)
    }
}
