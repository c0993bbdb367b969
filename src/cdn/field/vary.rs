//! `Vary` (RFC 9110, section 12.5.5).

use http::{HeaderMap, HeaderName, header::VARY};

use super::{lines, list::members};

/// More fields than this are as good as `*`.
const MOST: usize = 32;

/// What a response was selected by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Vary {
    /// These fields of the request, each once. Often none.
    Fields(Vec<HeaderName>),
    /// Something that no request field tells.
    Star,
}

impl Vary {
    /// Reads all lines. A member that is no field name is as good as `*`: nothing can match it.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let mut fields = Vec::new();
        for member in lines(headers, &VARY).flat_map(members) {
            let Some(name) = HeaderName::from_bytes(member).ok().filter(|_| member != b"*") else {
                return Self::Star;
            };
            if !fields.contains(&name) {
                fields.push(name);
            }
            if fields.len() > MOST {
                return Self::Star;
            }
        }
        Self::Fields(fields)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(lines: &[&'static str]) -> Vary {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(VARY, HeaderValue::from_static(line));
        }
        Vary::read(&headers)
    }

    #[test]
    fn rfc9110_section_12_5_5_fields_on_all_lines_count() {
        let names =
            |names: &[&'static str]| Vary::Fields(names.iter().map(|n| HeaderName::from_static(n)).collect());
        assert_eq!(read(&[]), names(&[]));
        assert_eq!(read(&["", " , "]), names(&[]));
        assert_eq!(read(&["Foo,bar", " BAZ\t, foo"]), names(&["foo", "bar", "baz"]));
    }

    #[test]
    fn rfc9110_section_12_5_5_a_star_anywhere_counts() {
        for lines in
            [&["*"][..], &["*, *"], &["*", "*"], &[", *"], &["", "*"], &["*, foo"], &["foo", "bar, *"]]
        {
            assert_eq!(read(lines), Vary::Star, "{lines:?}");
        }
        assert_eq!(read(&["foo bar"]), Vary::Star);
        assert_eq!(read(&["\"foo\""]), Vary::Star);
    }

    #[test]
    fn more_fields_than_anyone_needs_count_as_a_star() {
        let many: Vec<_> = (0..40).map(|i| format!("x-{i}")).collect();
        let mut headers = HeaderMap::new();
        headers.insert(VARY, many.join(",").parse().unwrap());
        assert_eq!(Vary::read(&headers), Vary::Star);
    }
}
