//! A stored response as it survives a restart.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{DATE, LAST_MODIFIED},
};
use serde::{Deserialize, Serialize};

use super::{Moment, Part, Stored, selectors::Selectors, terms::Restraint};
use crate::cdn::field::date::{DateField, seconds};

/// A [`Stored`] in a form that survives a restart: its age is as of a time of day.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    selectors: Vec<(String, Option<Vec<u8>>)>,
    language: Option<Vec<u8>>,
    written: SystemTime,
    age: Duration,
    lifetime: Duration,
    is_heuristic: bool,
    restraint: Restraint,
    stale_while_revalidate: Duration,
    stale_if_error: Option<Duration>,
    is_immutable: bool,
    part: Option<(u64, u64, Option<u64>)>,
    length: Option<u64>,
    tags: Vec<Vec<u8>>,
}

#[cfg(feature = "disk")]
impl Record {
    /// The tags that it can be purged by.
    pub(crate) fn tags(&self) -> impl Iterator<Item = &[u8]> {
        self.tags.iter().map(Vec::as_slice)
    }

    /// The same for responses that are chosen by the same values of the same fields.
    pub(crate) fn variant(&self) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3Default::new();
        for (name, value) in &self.selectors {
            hash.update(name.as_bytes());
            hash.update(&[u8::from(value.is_some())]);
            hash.update(value.as_deref().unwrap_or_default());
            // In no name, and in no value.
            hash.update(b"\n");
        }
        hash.digest()
    }
}

impl Stored {
    /// The form for a disk.
    pub fn to_record(&self, now: Moment) -> Record {
        let field = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), value.as_bytes().to_vec())
        };
        let selector =
            |(name, value): (&HeaderName, Option<&[u8]>)| (name.as_str().to_owned(), value.map(Into::into));
        Record {
            status: self.status.as_u16(),
            fields: self.headers.iter().map(field).collect(),
            selectors: self.selectors.iter().map(selector).collect(),
            language: self.selectors.language().map(Into::into),
            written: now.wall,
            age: self.current_age(now.instant),
            lifetime: self.lifetime,
            is_heuristic: self.is_heuristic,
            restraint: self.restraint,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            is_immutable: self.is_immutable,
            part: self.part.as_ref().map(|part| (part.range.start, part.range.end, part.complete)),
            length: self.length,
            tags: self.tags.iter().map(|tag| tag.to_vec()).collect(),
        }
    }

    /// Back from a disk. `None` if it makes no sense.
    ///
    /// The time since it was written is taken from the time of day, which may have been set meanwhile: what
    /// was written in the future has lived for as long as it may.
    pub fn from_record(record: Record, now: Moment) -> Option<Self> {
        let mut headers = HeaderMap::with_capacity(record.fields.len());
        for (name, value) in record.fields {
            headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
        }
        let selectors: Option<Vec<_>> = record
            .selectors
            .into_iter()
            .map(|(name, value)| Some((HeaderName::try_from(name).ok()?, value)))
            .collect();
        let part = |(start, end, complete)| (start < end).then_some(Part { range: start..end, complete });
        let elapsed = now.wall.duration_since(record.written).unwrap_or(record.lifetime);
        let second = seconds(now.wall);
        Some(Self {
            status: StatusCode::from_u16(record.status).ok()?,
            date: DateField::read(&headers, &DATE, second).date().unwrap_or(second),
            last_modified: DateField::read(&headers, &LAST_MODIFIED, second).date(),
            headers,
            selectors: Selectors::restore(selectors?.into_iter(), record.language),
            received: now.instant,
            initial_age: record.age.saturating_add(elapsed),
            lifetime: record.lifetime,
            is_heuristic: record.is_heuristic,
            restraint: record.restraint,
            stale_while_revalidate: record.stale_while_revalidate,
            stale_if_error: record.stale_if_error,
            is_immutable: record.is_immutable,
            part: match record.part {
                None => None,
                Some(bounds) => Some(part(bounds)?),
            },
            length: record.length,
            tags: record.tags.into_iter().map(Into::into).collect(),
        })
    }
}
