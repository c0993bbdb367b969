//! Asking the origin whether a stored response is still good, and what its answer changes (RFC 9111, sections
//! 4.3.1, 4.3.3 to 4.3.5).

use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{
        AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH,
        IF_RANGE, LAST_MODIFIED, RANGE, SET_COOKIE, VARY,
    },
    request, response,
};

use super::{Moment, Policy, Stored, Unstorable, selectors::Selectors, storable::head_size, stored::Draft};
use crate::{
    cdn::field::{
        date::{self, DateField},
        entity_tag::EntityTag,
    },
    forward::HopByHop,
};

/// A stored response after a 304.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The response as this request gets it.
    pub stored: Stored,
    /// What becomes of the one in the store.
    pub keep: Keep,
}

/// What becomes of a stored response after a 304.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It is replaced by the refreshed one.
    Replace,
    /// It stays as it is: what came was for this request alone.
    Leave,
    /// It is dropped: it must not be stored any more.
    Remove(Unstorable),
}

/// What an answer to `HEAD` does to a stored response (RFC 9111, section 4.3.5).
#[derive(Clone, Debug)]
pub enum HeadUpdate {
    /// The stored response is updated.
    Updated(Box<Stored>),
    /// It is of another representation: the stored response is to be dropped, or considered stale.
    Invalid,
    /// The answer says nothing about it.
    Unrelated,
}

impl Stored {
    /// Whether there is a validator to ask the origin with.
    pub fn has_validator(&self) -> bool {
        self.headers.contains_key(ETAG)
            || self.headers.contains_key(LAST_MODIFIED) && self.last_modified.is_some()
    }

    /// Puts the conditions of this response in place of those of a client, and takes `Range` and `If-Range`
    /// away (RFC 9111, section 4.3.1). Without a validator nothing is changed, which is said by `false`.
    pub fn make_conditional(&self, headers: &mut HeaderMap) -> bool {
        if !self.has_validator() {
            return false;
        }
        for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE] {
            headers.remove(name);
        }
        if let Some(tag) = self.headers.get(ETAG) {
            headers.insert(IF_NONE_MATCH, tag.clone());
        }
        if let Some(modified) = self.headers.get(LAST_MODIFIED).filter(|_| self.last_modified.is_some()) {
            headers.insert(IF_MODIFIED_SINCE, modified.clone());
        }
        true
    }

    /// Whether a 304 is about this response (RFC 9111, section 4.3.4). One without any validator is: it
    /// answers a condition that was ours.
    pub fn validated_by(&self, not_modified: &response::Parts) -> bool {
        if not_modified.status != StatusCode::NOT_MODIFIED {
            return false;
        }
        let headers = &not_modified.headers;
        if let Some(tag) = headers.get(ETAG) {
            let tag = EntityTag::of(tag.as_bytes());
            return self.entity_tag().is_some_and(|ours| {
                if tag.is_strong() { ours.matches_strongly(tag) } else { ours.matches_weakly(tag) }
            });
        }
        let modified = DateField::read(headers, &LAST_MODIFIED, self.date);
        modified == DateField::Absent || modified.date() == self.last_modified || self.entity_tag().is_some()
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
    ) -> Refreshed {
        let mut headers = merge(&stored.headers, &not_modified.headers);
        // The new message is as old as it says itself, and as its receipt.
        for name in [AGE, DATE] {
            if !not_modified.headers.contains_key(&name) {
                headers.remove(name);
            }
        }
        self.renew(stored, request, &not_modified.headers, headers, sent, received)
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
        if head.status != StatusCode::OK || stored.status != StatusCode::OK || stored.part.is_some() {
            return HeadUpdate::Unrelated;
        }
        let is_same = |name: HeaderName| match (head.headers.get(&name), stored.headers.get(&name)) {
            (Some(theirs), Some(ours)) => theirs == ours,
            (theirs, _) => theirs.is_none(),
        };
        let has_same_length = || match (head.headers.get(CONTENT_LENGTH), stored.length) {
            (Some(theirs), Some(ours)) => {
                theirs.to_str().ok().and_then(|text| text.parse().ok()) == Some(ours)
            }
            _ => true,
        };
        if !is_same(ETAG) || !is_same(LAST_MODIFIED) || !has_same_length() {
            return HeadUpdate::Invalid;
        }
        let refreshed = self.refresh(stored, request, head, sent, received);
        match refreshed.keep {
            Keep::Replace => HeadUpdate::Updated(Box::new(refreshed.stored)),
            Keep::Leave => HeadUpdate::Unrelated,
            Keep::Remove(_) => HeadUpdate::Invalid,
        }
    }

    fn renew(
        &self,
        stored: &Stored,
        request: &request::Parts,
        came: &HeaderMap,
        headers: HeaderMap,
        sent: Moment,
        received: Moment,
    ) -> Refreshed {
        let selectors = if came.contains_key(VARY) {
            Selectors::read(&request.headers, &headers).ok_or(Unstorable::Vary)
        } else {
            Ok(stored.selectors.clone())
        };
        let terms = if head_size(&headers) > self.max_head {
            Err(Unstorable::HeadTooLarge)
        } else {
            self.terms(stored.status, &headers, received)
        };
        // A cookie that comes without a word about freshness is for this request, whatever was said before it.
        let terms = terms.and_then(|terms| match self.terms(stored.status, came, received) {
            Err(Unstorable::SetCookie) if !terms.unkept.contains(&SET_COOKIE) => Err(Unstorable::SetCookie),
            _ => Ok(terms),
        });
        let failed = selectors.as_ref().err().or(terms.as_ref().err()).copied();
        let (Ok(selectors), Ok(terms)) = (selectors, terms) else {
            let mut served = stored.clone();
            served.headers = headers;
            served.headers.entry(DATE).or_insert_with(|| date::to_value(received.wall));
            // What was stored before the cookie came is as good as ever.
            let keep = failed.filter(|why| *why != Unstorable::SetCookie).map_or(Keep::Leave, Keep::Remove);
            return Refreshed { stored: served, keep };
        };
        // What was asked for with credentials, or not to be stored, is not for others.
        let is_own = request.headers.contains_key(http::header::AUTHORIZATION) && !terms.lets_share
            || self.request_directives(request).no_store;
        let mut refreshed =
            Draft { status: stored.status, headers, selectors, part: None }.finish(&terms, sent, received);
        refreshed.part.clone_from(&stored.part);
        refreshed.length = stored.length;
        let keep = if is_own {
            Keep::Leave
        } else if refreshed.is_of_use() {
            Keep::Replace
        } else {
            Keep::Remove(Unstorable::NoFreshness)
        };
        Refreshed { stored: refreshed, keep }
    }
}

/// "The cache MUST add each header field in the provided response to the stored response, replacing field
/// values that are already present" (RFC 9111, section 3.2), except for those that tell of the content that
/// is stored: its length, and how it is coded and which part of it there is, which stay true of the bytes
/// that are here.
pub(super) fn merge(stored: &HeaderMap, newer: &HeaderMap) -> HeaderMap {
    let mut newer = newer.clone();
    HopByHop::new().strip(&mut newer);
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE] {
        newer.remove(name);
    }
    let mut merged = stored.clone();
    for name in newer.keys() {
        merged.remove(name);
    }
    let mut last = None;
    for (name, value) in newer {
        last = name.or(last);
        if let Some(name) = &last {
            merged.append(name, value);
        }
    }
    merged
}
