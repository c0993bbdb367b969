//! Parts of one representation (RFC 9111, sections 3.3 and 3.4).

use std::ops::Range;

use http::{
    HeaderMap, HeaderValue,
    header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE},
};

use super::{Policy, Stored, storable, update};
use crate::cdn::field::entity_tag::EntityTag;

impl Stored {
    /// Asks the origin for bytes that are missing, and only if the representation is still the same (`Range`,
    /// `If-Range`). An end of `u64::MAX` means all the rest. Conditions of the client are taken away.
    ///
    /// Says whether there is a strong validator, without which what comes cannot be
    /// [combined](Policy::combine) with this.
    pub fn ask_for(&self, headers: &mut HeaderMap, missing: &Range<u64>) -> bool {
        for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE] {
            headers.remove(name);
        }
        let range = if missing.end == u64::MAX || self.length == Some(missing.end) {
            format!("bytes={}-", missing.start)
        } else {
            format!("bytes={}-{}", missing.start, missing.end.saturating_sub(1))
        };
        if let Ok(range) = HeaderValue::try_from(range) {
            headers.insert(RANGE, range);
        }
        let tag = self.headers.get(ETAG).filter(|_| self.entity_tag().is_some_and(EntityTag::is_strong));
        let date = self.headers.get(LAST_MODIFIED).filter(|_| self.strong_last_modified().is_some());
        let validator = tag.or(date);
        if let Some(validator) = validator {
            headers.insert(IF_RANGE, validator.clone());
        }
        validator.is_some()
    }
}

impl Policy {
    /// The head for the bytes of both, if both are of the same representation: they share a strong validator,
    /// and do not differ in length.
    ///
    /// The fields of the newer one replace those of the older, and its terms are those that count. The
    /// [part](Stored::part) is the newer's.
    pub fn combine(&self, old: &Stored, new: &Stored) -> Option<Stored> {
        let share_a_validator = match (old.entity_tag(), new.entity_tag()) {
            (Some(old), Some(new)) => old.matches_strongly(new),
            (None, None) => {
                old.strong_last_modified().is_some()
                    && old.strong_last_modified() == new.strong_last_modified()
            }
            _ => false,
        };
        let length = match (old.length, new.length) {
            (Some(old), Some(new)) if old != new => return None,
            (old, new) => new.or(old),
        };
        if !share_a_validator {
            return None;
        }
        let mut combined = new.clone();
        combined.headers = update::merge(&old.headers, &new.headers);
        if storable::head_size(&combined.headers) > self.max_head {
            return None;
        }
        if let Some(length) = length {
            combined.set_length(length);
        }
        Some(combined)
    }
}
