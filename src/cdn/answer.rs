//! Answers made of what is stored, or of what is on its way.

use std::{ops::Range, time::Instant};

use http::{
    HeaderMap, HeaderName, Method, Response, StatusCode,
    header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE},
    request,
};

use super::{
    Body,
    body::{Growing, Head},
    fill,
    handle::Shared,
    policy::{CacheStatus, Precondition, RangeAnswer, Stored},
    store::Object,
};

/// How far ahead of what has come a range may begin for a client to wait for it.
const AHEAD: u64 = 1 << 20;

static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Which bytes a client gets, and behind which head.
pub(super) struct Served {
    pub(super) form: Form,
    /// None if there is no body.
    pub(super) bytes: Option<Range<u64>>,
}

/// Which head an answer has.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is stored.
    Whole,
    /// 206, from a representation of this length.
    Part { range: Range<u64>, length: Option<u64> },
    /// 304.
    NotModified,
    /// 416.
    Unsatisfiable { length: u64 },
}

impl Served {
    /// What answers a request from a representation of this length, or `None` if that is needed and not known.
    pub(super) fn new(stored: &Stored, length: Option<u64>, request: &request::Parts) -> Option<Self> {
        if has_conditions(&request.headers) && stored.precondition(request) == Precondition::NotModified {
            return Some(Self { form: Form::NotModified, bytes: None });
        }
        let is_part = request.method == Method::GET && request.headers.contains_key(RANGE);
        if !is_part {
            let whole = (request.method != Method::HEAD).then_some(0..length.unwrap_or(u64::MAX));
            return Some(Self { form: Form::Whole, bytes: whole });
        }
        let Some(length) = length else {
            let range = stored.range_of_unknown(request)?;
            return Some(Self::part(range, None));
        };
        Some(match stored.range(request, length) {
            RangeAnswer::Whole => Self { form: Form::Whole, bytes: Some(0..length) },
            RangeAnswer::Part(range) => Self::part(range, Some(length)),
            RangeAnswer::Unsatisfiable => Self { form: Form::Unsatisfiable { length }, bytes: None },
        })
    }

    fn part(range: Range<u64>, length: Option<u64>) -> Self {
        Self { form: Form::Part { range: range.clone(), length }, bytes: Some(range) }
    }
}

impl Shared {
    /// The answer from what is stored. `None` if some of the bytes are not here.
    pub(super) fn answer(
        &self,
        object: &Object,
        request: &request::Parts,
        age: u64,
        status: CacheStatus,
    ) -> Option<Response<Body>> {
        let served = Served::new(object.stored(), object.length(), request)?;
        let body = match served.bytes {
            None => Body::empty(),
            Some(range) if range.end == u64::MAX => return None,
            Some(range) => Body::stored(object.read(range)?),
        };
        self.store.counters().bytes_saved.add(http_body::Body::size_hint(&body).lower());
        Some(self.serve(object.stored(), &served.form, age, body, status))
    }

    /// Whether all that a request asks for is here.
    #[allow(clippy::unused_self, reason = "reads like its neighbours")]
    pub(super) fn holds(&self, object: &Object, request: &request::Parts) -> bool {
        let served = Served::new(object.stored(), object.length(), request);
        served.is_some_and(|it| it.bytes.is_none_or(|bytes| object.missing(bytes).is_empty()))
    }

    /// The answer from what is on its way. `None` if the client is better off on its own.
    pub(super) fn answer_growing(
        &self,
        growing: &Growing,
        reader: fill::Reader<Head>,
        request: &request::Parts,
        age: u64,
        status: CacheStatus,
    ) -> Option<Response<Body>> {
        let is_part = request.method == Method::GET && request.headers.contains_key(RANGE);
        if is_part && growing.length.is_none() {
            return None;
        }
        let served = Served::new(&growing.stored, growing.length, request)?;
        let body = match served.bytes {
            None => Body::empty(),
            Some(range) => {
                if range.start > reader.fill().received().saturating_add(AHEAD) {
                    return None;
                }
                let length = (range.end < u64::MAX).then(|| range.end - range.start);
                reader.seek(&range);
                Body::filling(reader, length)
            }
        };
        Some(self.serve(&growing.stored, &served.form, age, body, status))
    }

    /// Puts an answer together, behind the head of what is stored.
    pub(super) fn serve(
        &self,
        stored: &Stored,
        form: &Form,
        age: u64,
        body: Body,
        told: CacheStatus,
    ) -> Response<Body> {
        let head = match (form, &self.name) {
            (Form::Whole, Some(name)) => return respond(stored.head_with(age, told.value(name)), body),
            (Form::Whole, None) => stored.head(age),
            (Form::Part { range, length }, _) => stored.part_head(range, *length, age),
            (Form::NotModified, _) => stored.not_modified(age),
            (Form::Unsatisfiable { length }, _) => stored.unsatisfiable_head(*length, age),
        };
        self.finish(head, body, told)
    }

    /// Puts an answer together.
    pub(super) fn finish(
        &self,
        head: (StatusCode, HeaderMap),
        body: Body,
        told: CacheStatus,
    ) -> Response<Body> {
        let mut response = respond(head, body);
        self.tell(response.headers_mut(), told);
        response
    }

    /// Says what the cache did.
    pub(super) fn tell(&self, headers: &mut HeaderMap, told: CacheStatus) {
        if let Some(name) = &self.name {
            headers.append(&CACHE_STATUS, told.value(name));
        }
    }

    /// 504, for a client that wants nothing but what is in the cache (RFC 9111, section 5.2.1.7).
    pub(super) fn nothing_cached(&self) -> Response<Body> {
        let told = CacheStatus { detail: Some("only-if-cached"), ..CacheStatus::default() };
        self.finish((StatusCode::GATEWAY_TIMEOUT, HeaderMap::new()), Body::empty(), told)
    }
}

fn respond((status, headers): (StatusCode, HeaderMap), body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

impl CacheStatus {
    /// From the cache.
    pub(super) fn of_hit(stored: &Stored, now: Instant) -> Self {
        Self { hit: true, ttl: Some(stored.ttl(now)), ..Self::default() }
    }
}

/// Whether a client asks on conditions: a few lookups less on most hits.
pub(super) fn has_conditions(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE)
}

/// Whether what a client asks for is not simply the whole of it, now.
pub(super) fn is_special(headers: &HeaderMap) -> bool {
    has_conditions(headers) || headers.contains_key(RANGE) || headers.contains_key(IF_RANGE)
}
