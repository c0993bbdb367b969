//! Entity tags (RFC 9110, section 8.8.3).

use http::{HeaderMap, header::IF_NONE_MATCH};

use super::lines;

/// An entity tag, as it was written. One without quotes, which is none, is told from one with the same
/// characters in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag<'t> {
    is_weak: bool,
    opaque: &'t [u8],
}

impl<'t> EntityTag<'t> {
    pub(crate) fn of(value: &'t [u8]) -> Self {
        let value = value.trim_ascii();
        let (is_weak, opaque) = value.strip_prefix(b"W/").map_or((false, value), |opaque| (true, opaque));
        Self { is_weak, opaque }
    }

    /// Whether it stands for one sequence of bytes: it is not weak, and is written in quotes.
    pub(crate) fn is_strong(self) -> bool {
        !self.is_weak && self.is_quoted()
    }

    fn is_quoted(self) -> bool {
        matches!(self.opaque, [b'"', inner @ .., b'"'] if !inner.contains(&b'"'))
    }

    pub(crate) fn matches_strongly(self, other: Self) -> bool {
        self.is_strong() && other.is_strong() && self.opaque == other.opaque
    }

    pub(crate) fn matches_weakly(self, other: Self) -> bool {
        self.opaque == other.opaque
    }
}

/// Whether a request's `If-None-Match` names a tag. `*` names anything.
pub(crate) fn if_none_match(headers: &HeaderMap, tag: Option<EntityTag<'_>>) -> bool {
    lines(headers, &IF_NONE_MATCH)
        .flat_map(Tags)
        .any(|named| named == b"*" || tag.is_some_and(|tag| tag.matches_weakly(EntityTag::of(named))))
}

/// Tags between commas. Nothing is escaped in them (section 8.8.3), so lists of quoted strings read otherwise.
#[derive(Debug)]
struct Tags<'l>(&'l [u8]);

impl<'l> Iterator for Tags<'l> {
    type Item = &'l [u8];

    fn next(&mut self) -> Option<&'l [u8]> {
        while !self.0.is_empty() {
            let mut is_quoted = false;
            let end = self.0.iter().position(|byte| {
                is_quoted ^= *byte == b'"';
                *byte == b',' && !is_quoted
            });
            let (tag, rest) = end.map_or((self.0, &[][..]), |at| (&self.0[..at], &self.0[at + 1..]));
            self.0 = rest;
            let tag = tag.trim_ascii();
            if !tag.is_empty() {
                return Some(tag);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(lines: &[&str], tag: &str) -> bool {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(IF_NONE_MATCH, line.parse().unwrap());
        }
        if_none_match(&headers, Some(EntityTag::of(tag.as_bytes())))
    }

    #[test]
    fn rfc9110_section_8_8_3_2_tags_compare_weakly_and_strongly() {
        let (strong, weak) = (EntityTag::of(b"\"1\""), EntityTag::of(b"W/\"1\""));
        let (other, unquoted) = (EntityTag::of(b"\"2\""), EntityTag::of(b"1"));
        assert!(strong.matches_weakly(weak) && weak.matches_weakly(weak) && strong.matches_weakly(strong));
        assert!(!strong.matches_weakly(other) && !strong.matches_weakly(unquoted));
        assert!(strong.matches_strongly(strong) && !strong.matches_strongly(weak));
        assert!(!weak.matches_strongly(weak) && !unquoted.matches_strongly(unquoted));
        assert!(!EntityTag::of(b"w/\"1\"").is_strong() && !EntityTag::of(b"\"").is_strong());
    }

    #[test]
    fn rfc9110_section_13_1_2_if_none_match_is_a_list() {
        assert!(named(&["\"a\", \"b\""], "\"b\"") && named(&["\"a\"", "\"b\""], "W/\"b\""));
        assert!(named(&["*"], "\"b\"") && named(&["\"x,y\", \"b\""], "\"x,y\""));
        assert!(named(&["\"x\\\", \"b\""], "\"b\""));
        assert!(!named(&["\"a\", \"b\""], "\"c\"") && !named(&[""], "\"c\"") && !named(&["a"], "\"a\""));
    }
}
