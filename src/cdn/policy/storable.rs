//! Which responses may be stored (RFC 9111, section 3).

use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, RANGE, TRANSFER_ENCODING},
    request, response,
};

use super::{
    Moment, Part, Policy, Stored, extension, freshness::Lifetime, invalidate, selectors::Selectors, status,
    stored::Draft, terms::Terms,
};
use crate::{
    cdn::field::{cache_control::RequestDirectives, content_range, lines},
    forward::{ambiguous_framing, has_coded_body},
};

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unstorable {
    /// Answers to this method are not stored.
    #[error("method")]
    Method,
    /// The status is not final, not understood, or never cacheable.
    #[error("status")]
    Status,
    /// The response says `no-store`.
    #[error("no-store")]
    NoStore,
    /// The response is for one user only.
    #[error("private")]
    Private,
    /// The request says `no-store`.
    #[error("request-no-store")]
    RequestNoStore,
    /// The request has credentials, and the response does not say that it may be shared all the same.
    #[error("authorization")]
    Authorization,
    /// The response sets a cookie.
    #[error("set-cookie")]
    SetCookie,
    /// The response varies on what no request field tells.
    #[error("vary")]
    Vary,
    /// Nothing says how long the response is fresh, nor how it could be validated.
    #[error("no-freshness")]
    NoFreshness,
    /// A part of a representation that was not asked for, or is not one range of bytes.
    #[error("partial")]
    Partial,
    /// The length of the body is stated in two ways, or it is in a transfer coding.
    #[error("framing")]
    Framing,
    /// The request has what may change the response and is not part of the cache key: a body, or a field that
    /// overrides its method or path.
    #[error("unkeyed-input")]
    UnkeyedInput,
    /// The media type does not fit the ending of the path.
    #[error("deception")]
    Deception,
    /// The fields of the response are too many bytes.
    #[error("head-too-large")]
    HeadTooLarge,
}

impl Unstorable {
    /// In a word, as `Cache-Status` may tell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::RequestNoStore => "request-no-store",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::Vary => "vary",
            Self::NoFreshness => "no-freshness",
            Self::Partial => "partial",
            Self::Framing => "framing",
            Self::UnkeyedInput => "unkeyed-input",
            Self::Deception => "deception",
            Self::HeadTooLarge => "head-too-large",
        }
    }
}

/// Fields by which frameworks let a request be another one than its method and target say. A cache that does
/// not know would store the answer to the other one.
static OVERRIDES: [HeaderName; 5] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

impl Policy {
    /// What is to be stored of a response, besides its body; or why nothing is.
    ///
    /// `sent` is when the request went to the origin, `received` when the head of the response came back. An
    /// answer to `POST` that is storable serves later `GET` requests to the same URI.
    ///
    /// # Errors
    /// If the response must not be stored, or would be of no use.
    pub fn store(
        &self,
        request: &request::Parts,
        response: &response::Parts,
        sent: Moment,
        received: Moment,
    ) -> Result<Stored, Unstorable> {
        self.accepts(request)?;
        if !status::is_storable(response.status) {
            return Err(Unstorable::Status);
        }
        if ambiguous_framing(&response.headers) || has_coded_body(&response.headers) {
            return Err(Unstorable::Framing);
        }
        if head_size(&response.headers) > self.max_head {
            return Err(Unstorable::HeadTooLarge);
        }
        if self.checks_extensions && extension::contradicts(request, response) {
            return Err(Unstorable::Deception);
        }
        let part = part(request, response)?;
        let terms = self.terms(response.status, &response.headers, received)?;
        admits(request, response, &terms)?;
        let selectors = Selectors::read(&request.headers, &response.headers).ok_or(Unstorable::Vary)?;
        let draft = Draft {
            status: if part.is_some() { StatusCode::OK } else { response.status },
            headers: response.headers.clone(),
            selectors,
            part,
        };
        let stored = draft.finish(&terms, sent, received);
        if stored.is_of_use() { Ok(stored) } else { Err(Unstorable::NoFreshness) }
    }

    /// Whether an answer to a request may be stored at all.
    fn accepts(&self, request: &request::Parts) -> Result<(), Unstorable> {
        if !matches!(request.method, Method::GET | Method::POST) {
            return Err(Unstorable::Method);
        }
        if self.obeys_clients && RequestDirectives::read(&request.headers).no_store {
            return Err(Unstorable::RequestNoStore);
        }
        let has_override = OVERRIDES.iter().any(|name| request.headers.contains_key(name));
        if has_override || request.method == Method::GET && has_body(&request.headers) {
            return Err(Unstorable::UnkeyedInput);
        }
        Ok(())
    }
}

/// Whether a response may be shared between the users of a request like this.
fn admits(request: &request::Parts, response: &response::Parts, terms: &Terms) -> Result<(), Unstorable> {
    if request.headers.contains_key(AUTHORIZATION) && !terms.lets_share {
        return Err(Unstorable::Authorization);
    }
    // A response must say that it may be stored, or have a status that lets it be.
    if terms.lifetime == Lifetime::Unknown
        && !terms.is_public
        && !status::is_heuristically_cacheable(response.status)
    {
        return Err(Unstorable::NoFreshness);
    }
    // "Responses to POST requests are only cacheable when they include explicit freshness information and
    // a Content-Location header field that has the same value as the POST's target URI" (RFC 9110,
    // section 9.3.3).
    if request.method == Method::POST {
        let is_target = || {
            let mut locations = lines(&response.headers, &CONTENT_LOCATION);
            let first = locations.next();
            locations.next().is_none()
                && first.is_some_and(|location| invalidate::names_target(request, location))
        };
        if response.status != StatusCode::OK || !terms.lifetime.is_explicit() || !is_target() {
            return Err(Unstorable::Method);
        }
    }
    Ok(())
}

pub(super) fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.contains_key(CONTENT_LENGTH)
            && lines(headers, &CONTENT_LENGTH).any(|length| length != b"0")
}

pub(super) fn head_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// What a 206 brings. One that was not asked for, or has several parts, is of no use.
fn part(request: &request::Parts, response: &response::Parts) -> Result<Option<Part>, Unstorable> {
    if response.status != StatusCode::PARTIAL_CONTENT {
        return Ok(None);
    }
    let is_asked_for = request.method == Method::GET && request.headers.contains_key(RANGE);
    let is_multipart = lines(&response.headers, &CONTENT_TYPE)
        .any(|line| line.trim_ascii().get(..10).is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart/")));
    let (range, complete) = content_range::read(&response.headers).ok_or(Unstorable::Partial)?;
    if !is_asked_for || is_multipart {
        return Err(Unstorable::Partial);
    }
    let part = Part { range, complete };
    let mut lengths = lines(&response.headers, &CONTENT_LENGTH);
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(Some(part)),
        (Some(length), None) => {
            let length = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
            length.and_then(|length| part.with_content(length)).map(Some).ok_or(Unstorable::Partial)
        }
        (Some(_), Some(_)) => Err(Unstorable::Partial),
    }
}
