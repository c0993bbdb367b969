//! Targeted fields, such as `CDN-Cache-Control` (RFC 9213).

use std::convert::Infallible;

use http::{HeaderMap, HeaderName};
use sfv::{
    BareItemFromInput, KeyRef, Parser,
    visitor::{DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor},
};

use super::{
    cache_control::{Argument, Directive, ResponseDirectives},
    lines,
};

/// Reads a targeted field. `None` if it is not there, is empty, or no dictionary: it is then ignored
/// altogether (section 2.1).
pub(crate) fn read(headers: &HeaderMap, name: &HeaderName) -> Option<ResponseDirectives> {
    if !headers.contains_key(name) {
        return None;
    }
    let lines: Vec<&[u8]> = lines(headers, name).filter(|line| !line.trim_ascii().is_empty()).collect();
    let joined = lines.join(&b","[..]);
    let mut members = Members::default();
    Parser::new(&joined).parse_dictionary_with_visitor(&mut members).ok()?;
    if members.0.is_empty() {
        return None;
    }
    let mut directives = ResponseDirectives::default();
    for directive in &members.0 {
        directives.add(directive);
    }
    Some(directives)
}

/// What was read so far: each directive once, the last of a name.
#[derive(Default)]
struct Members<'l>(Vec<Directive<'l>>);

impl<'l> DictionaryVisitor<'l> for &mut Members<'l> {
    type Out = ();
    type Error = Infallible;

    fn entry(&mut self, key: &'l KeyRef) -> Result<impl EntryVisitor<'l>, Infallible> {
        let name = key.as_str().as_bytes();
        self.0.retain(|directive| directive.name != name);
        Ok(Member { members: self, name })
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}

struct Member<'v, 'l> {
    members: &'v mut Members<'l>,
    name: &'l [u8],
}

impl<'l> Member<'_, 'l> {
    /// "Implementations SHOULD NOT consume values that violate these inferred constraints": a value of the
    /// wrong type makes a directive malformed, which still counts where it forbids.
    fn add(self, argument: Argument<'l>, is_exact: bool) {
        self.members.0.push(Directive { name: self.name, argument, is_exact });
    }
}

impl<'l> ItemVisitor<'l> for Member<'_, 'l> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        item: BareItemFromInput<'l>,
    ) -> Result<impl ParameterVisitor<'l, Out = ()>, Infallible> {
        match item {
            BareItemFromInput::Boolean(true) => self.add(Argument::None, true),
            BareItemFromInput::Integer(number) => {
                self.add(Argument::Value(i64::from(number).to_string().into_bytes().into()), true);
            }
            BareItemFromInput::String(list) => {
                self.add(Argument::Value(list.as_str().as_bytes().to_vec().into()), false);
            }
            _ => self.add(Argument::Malformed, false),
        }
        Ok(Ignored)
    }
}

impl<'l> EntryVisitor<'l> for Member<'_, 'l> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'l>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'l>, Infallible> {
        self.add(Argument::Malformed, false);
        Ok(Ignored)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::{
        super::cache_control::{Delta, Scope},
        *,
    };

    fn lines(lines: &[&[u8]]) -> Option<ResponseDirectives> {
        let name = HeaderName::from_static("cdn-cache-control");
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, HeaderValue::from_bytes(line).unwrap());
        }
        read(&headers, &name)
    }

    fn line(line: &str) -> Option<ResponseDirectives> {
        lines(&[line.as_bytes()])
    }

    #[test]
    fn rfc9213_section_2_1_directives_are_members_of_a_dictionary() {
        let read =
            line("max-age=60, no-cache=\"x-a, x-b\", must-revalidate, foo;a=1, stale-while-revalidate=5;x")
                .unwrap();
        assert_eq!(read.max_age, Delta::Seconds(60));
        assert_eq!(read.stale_while_revalidate, Delta::Seconds(5));
        assert!(read.must_revalidate && read.lets_share);
        assert_eq!(read.no_cache.fields(), ["x-a", "x-b"]);
        assert!(line("private").unwrap().private.is_all() && line("no-store").unwrap().no_store);
        assert_eq!(line("max-age=99999999999").unwrap().max_age, Delta::Seconds(99_999_999_999));
    }

    #[test]
    fn rfc9213_section_2_1_an_empty_field_and_one_that_is_no_dictionary_are_ignored() {
        for bad in [
            "",
            " ",
            "max-age=1, &&&&&",
            "max-age =1",
            "max-age= 1",
            "MaX-aGe=3600",
            "max-age=1,",
            "no-store; \"",
            "max-age=\"1",
        ] {
            assert_eq!(line(bad), None, "{bad}");
        }
        assert_eq!(lines(&[b"max-age=1, \xff"]), None);
        assert_eq!(lines(&[b"max-age=1", b"no-store x"]), None);
        assert_eq!(lines(&[]), None);
    }

    #[test]
    fn rfc9213_section_2_1_values_of_the_wrong_type_are_not_coerced() {
        for bad in [
            "max-age=\"10\"",
            "max-age=10.0",
            "max-age",
            "max-age=-1",
            "max-age=?1",
            "max-age=(10)",
            "max-age=a",
        ] {
            assert_eq!(line(bad).unwrap().max_age, Delta::Invalid, "{bad}");
        }
        for forbids in ["no-store=1", "no-store=?0", "no-store=\"x\"", "no-store=(a b)"] {
            assert!(line(forbids).unwrap().no_store, "{forbids}");
        }
        assert!(!line("public=1").unwrap().public);
        assert_eq!(line("private=(\"x-a\")").unwrap().private, Scope::All);
    }

    #[test]
    fn rfc9651_section_4_2_lines_are_one_dictionary_and_the_last_member_of_a_name_counts() {
        let read = lines(&[b"max-age=1, foo", b"", b"max-age=7"]).unwrap();
        assert_eq!(read.max_age, Delta::Seconds(7));
    }
}
