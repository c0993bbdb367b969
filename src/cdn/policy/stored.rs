//! What is kept of a response besides its body.

use std::time::{Duration, Instant};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, LAST_MODIFIED, TE},
};

use super::{
    Moment, Part,
    freshness::{self, Lifetime},
    selectors::Selectors,
    terms::{Restraint, Terms},
};
use crate::{
    cdn::field::{
        date::{self, DateField, Seconds, seconds},
        delta,
        entity_tag::EntityTag,
        lines,
        list::members,
    },
    forward::HopByHop,
};

static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Keeps the place of a member of `Cache-Status`.
const VACANT: HeaderValue = HeaderValue::from_static("");

/// What is kept of a response besides its body, with everything read that a hit needs.
///
/// An answer of 206 is kept as the head of the whole representation, beside the [part](Self::part) that it
/// brought.
#[derive(Clone, Debug)]
pub struct Stored {
    pub(super) status: StatusCode,
    /// Ready to be sent, with an `Age` and a `Cache-Status` to be replaced.
    pub(super) headers: HeaderMap,
    pub(super) selectors: Selectors,
    pub(super) received: Instant,
    pub(super) initial_age: Duration,
    pub(super) lifetime: Duration,
    pub(super) is_heuristic: bool,
    pub(super) restraint: Restraint,
    pub(super) stale_while_revalidate: Duration,
    pub(super) stale_if_error: Option<Duration>,
    pub(super) is_immutable: bool,
    pub(super) date: Seconds,
    pub(super) last_modified: Option<Seconds>,
    pub(super) part: Option<Part>,
    pub(super) length: Option<u64>,
    pub(super) tags: Box<[Box<[u8]>]>,
}

/// What a response is stored from.
pub(super) struct Draft {
    pub(super) status: StatusCode,
    /// As they came.
    pub(super) headers: HeaderMap,
    pub(super) selectors: Selectors,
    pub(super) part: Option<Part>,
}

impl Draft {
    pub(super) fn finish(self, terms: &Terms, sent: Moment, received: Moment) -> Stored {
        let Self { status, mut headers, selectors, part } = self;
        let now = seconds(received.wall);
        let initial_age = freshness::initial_age(&headers, sent, received);
        // "A recipient with a clock that receives a response message without a Date header field MUST record
        // the time it was received and append a corresponding Date header field if it is cached or forwarded
        // downstream" (RFC 9110, section 6.6.1).
        let date = DateField::read(&headers, &DATE, now).date();
        if date.is_none() {
            headers.insert(DATE, date::to_value(received.wall));
        }
        let last_modified = DateField::read(&headers, &LAST_MODIFIED, now).date();
        let tags = tags(&headers);
        HopByHop::new().strip(&mut headers);
        headers.remove(TE);
        for name in &terms.unkept {
            headers.remove(name);
        }
        let length = match &part {
            Some(part) => part.complete,
            None => content_length(&headers),
        };
        if part.is_some() {
            headers.remove(CONTENT_RANGE);
            headers.remove(CONTENT_LENGTH);
        }
        headers.insert(AGE, HeaderValue::from_static("0"));
        let mut stored = Stored {
            status,
            headers,
            selectors,
            received: received.instant,
            initial_age,
            lifetime: terms.lifetime.duration(),
            is_heuristic: matches!(terms.lifetime, Lifetime::Heuristic(_)),
            restraint: terms.restraint,
            stale_while_revalidate: terms.stale_while_revalidate,
            stale_if_error: terms.stale_if_error,
            is_immutable: terms.is_immutable,
            date: date.unwrap_or(now),
            last_modified,
            length: None,
            part,
            tags,
        };
        if let Some(length) = length {
            stored.set_length(length);
        }
        // A member that is put in its place costs a hit far less than one that is appended, for which the
        // clone would have to grow.
        stored.headers.entry(&CACHE_STATUS).or_insert(VACANT);
        stored
    }
}

impl Stored {
    /// The status: 200 for what was stored from a 206.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A field, as it is sent on hits.
    pub fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers.get(name).filter(|value| **value != VACANT || *name != CACHE_STATUS)
    }

    /// Whether the fields of a request are those that this response was chosen by (RFC 9111, section 4.1).
    pub fn selects(&self, request: &HeaderMap) -> bool {
        self.selectors.select(request)
    }

    /// The fields of requests that it was chosen by: what `Vary` names.
    pub fn varies_on(&self) -> impl Iterator<Item = &HeaderName> {
        self.selectors.names()
    }

    /// Which part of the representation the response brought, if not all of it.
    pub fn part(&self) -> Option<&Part> {
        self.part.as_ref()
    }

    /// The length of the whole representation, where it is known.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Notes the length of the whole representation, which a body tells that came in chunks: hits then have a
    /// `Content-Length`.
    pub fn set_length(&mut self, length: u64) {
        self.length = Some(length);
        if self.status != StatusCode::NO_CONTENT {
            self.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
    }

    /// The age in seconds (RFC 9111, section 4.2.3).
    pub fn age(&self, now: impl Into<Instant>) -> u64 {
        in_seconds(self.current_age(now.into()))
    }

    pub(super) fn current_age(&self, now: Instant) -> Duration {
        self.initial_age.saturating_add(now.saturating_duration_since(self.received))
    }

    pub(super) fn staleness(&self, now: Instant) -> Duration {
        self.current_age(now).saturating_sub(self.lifetime)
    }

    #[cfg(test)]
    pub(super) fn is_fresh(&self, now: Moment) -> bool {
        self.lifetime > self.current_age(now.instant)
    }

    /// Whether it could answer a request without validation when it came.
    pub fn was_ever_fresh(&self) -> bool {
        self.restraint < Restraint::NoCache && self.lifetime > self.initial_age
    }

    /// For how many seconds the response is still fresh; negative since it is stale.
    pub fn ttl(&self, now: impl Into<Instant>) -> i64 {
        let seconds = |duration| i64::try_from(in_seconds(duration)).unwrap_or(i64::MAX);
        seconds(self.lifetime).saturating_sub(seconds(self.current_age(now.into())))
    }

    /// Whether its freshness is a guess of ours.
    pub fn is_heuristic(&self) -> bool {
        self.is_heuristic
    }

    /// The head as it is sent on a hit with the whole body.
    pub fn head(&self, age: u64) -> (StatusCode, HeaderMap) {
        (self.status, self.fields(age))
    }

    /// The same with a member of `Cache-Status`, at less cost than if it were appended afterwards.
    pub fn head_with(&self, age: u64, cache_status: HeaderValue) -> (StatusCode, HeaderMap) {
        let mut headers = self.headers.clone();
        headers.insert(AGE, delta::to_value(age));
        if self.tells_of_caches() {
            headers.append(&CACHE_STATUS, cache_status);
        } else {
            headers.insert(&CACHE_STATUS, cache_status);
        }
        (self.status, headers)
    }

    /// The fields as they are sent.
    pub(super) fn fields(&self, age: u64) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.insert(AGE, delta::to_value(age));
        if !self.tells_of_caches() {
            headers.remove(&CACHE_STATUS);
        }
        headers
    }

    /// Whether a cache before this one told what it did.
    fn tells_of_caches(&self) -> bool {
        self.headers.get(&CACHE_STATUS).is_some_and(|value| *value != VACANT)
    }

    /// The tags that it can be purged by, from `Cache-Tag` and `Surrogate-Key`, each once and in order.
    pub fn tags(&self) -> &[Box<[u8]>] {
        &self.tags
    }

    /// Roughly the memory that it takes, in bytes.
    pub fn weight(&self) -> usize {
        /// An entry of a [`HeaderMap`] without its name and value.
        const ENTRY: usize = 128;
        let fields = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ENTRY);
        let tags = self.tags.iter().map(|tag| tag.len() + size_of::<Box<[u8]>>());
        size_of::<Self>() + fields.sum::<usize>() + tags.sum::<usize>() + self.selectors.weight()
    }

    pub(super) fn entity_tag(&self) -> Option<EntityTag<'_>> {
        self.headers.get(ETAG).map(|value| EntityTag::of(value.as_bytes()))
    }

    /// `Last-Modified`, if it is a strong validator: the response was sent long enough after it (RFC 9110,
    /// section 8.8.2.2).
    pub(super) fn strong_last_modified(&self) -> Option<Seconds> {
        self.last_modified.filter(|modified| self.date.saturating_sub(*modified) >= 60)
    }

    /// Whether it can answer anything: it is fresh now, or can be validated, or may be used stale.
    pub(super) fn is_of_use(&self) -> bool {
        if self.has_validator() {
            return true;
        }
        let is_fresh = self.lifetime > self.initial_age;
        let has_window = !self.stale_while_revalidate.is_zero()
            || self.stale_if_error.is_some_and(|window| !window.is_zero());
        match self.restraint {
            Restraint::None => !self.lifetime.is_zero() || has_window,
            Restraint::Implied => is_fresh || has_window,
            Restraint::Revalidate => is_fresh,
            Restraint::NoCache => false,
        }
    }
}

/// Whole seconds, as they are told.
pub(super) fn in_seconds(age: Duration) -> u64 {
    age.as_secs().min(delta::MOST)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = lines(headers, &CONTENT_LENGTH);
    let length = std::str::from_utf8(lengths.next()?).ok()?.parse().ok()?;
    lengths.next().is_none().then_some(length)
}

fn tags(headers: &HeaderMap) -> Box<[Box<[u8]>]> {
    static CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
    static SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
    let by_comma = lines(headers, &CACHE_TAG).flat_map(members);
    let by_space = lines(headers, &SURROGATE_KEY).flat_map(|line| line.split(u8::is_ascii_whitespace));
    let mut tags: Vec<Box<[u8]>> =
        by_comma.chain(by_space).filter(|tag| !tag.is_empty()).map(Into::into).collect();
    tags.sort_unstable();
    tags.dedup();
    tags.into_boxed_slice()
}
