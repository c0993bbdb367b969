//! Lists: members between commas (RFC 9110, section 5.6.1).

/// The members of one line of a list, without the whitespace around them. Empty ones are left out.
///
/// A comma in a quoted string separates nothing. A quoted string that does not end is none: from its quote on, every comma
/// separates, and [`is_broken`](Self::is_broken) says so.
#[derive(Clone, Debug)]
pub(crate) struct Members<'l> {
    rest: &'l [u8],
    is_broken: bool,
}

/// The members of a line.
pub(crate) fn members(line: &[u8]) -> Members<'_> {
    Members { rest: line, is_broken: false }
}

impl Members<'_> {
    /// Whether the line has a quoted string without an end, as far as it was read.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Where the next comma is that separates.
    fn comma(&mut self) -> Option<usize> {
        if !self.is_broken {
            match comma_outside_quotes(self.rest) {
                Ok(comma) => return comma,
                Err(Unterminated) => self.is_broken = true,
            }
        }
        self.rest.iter().position(|b| *b == b',')
    }
}

impl<'l> Iterator for Members<'l> {
    type Item = &'l [u8];

    fn next(&mut self) -> Option<&'l [u8]> {
        while !self.rest.is_empty() {
            let member = if let Some(at) = self.comma() {
                let member = &self.rest[..at];
                self.rest = &self.rest[at + 1..];
                member
            } else {
                std::mem::take(&mut self.rest)
            };
            let member = member.trim_ascii();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

struct Unterminated;

fn comma_outside_quotes(line: &[u8]) -> Result<Option<usize>, Unterminated> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in line.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => return Ok(Some(at)),
            _ => {}
        }
    }
    if is_quoted { Err(Unterminated) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<&str> {
        members(line.as_bytes()).map(|m| std::str::from_utf8(m).unwrap()).collect()
    }

    #[test]
    fn rfc9110_section_5_6_1_empty_members_and_whitespace_do_not_count() {
        assert_eq!(split(" a ,\tb,,c , ,"), ["a", "b", "c"]);
        assert!(split(", ,\t").is_empty());
        assert!(split("").is_empty());
    }

    #[test]
    fn rfc9110_section_5_6_4_commas_in_quoted_strings_separate_nothing() {
        assert_eq!(split(r#"a="x, y", b"#), [r#"a="x, y""#, "b"]);
        assert_eq!(split(r#"a="x\", y", b"#), [r#"a="x\", y""#, "b"]);
        assert_eq!(split(r#"a="x\\", b"#), [r#"a="x\\""#, "b"]);
    }

    #[test]
    fn a_quoted_string_without_an_end_hides_nothing() {
        let mut list = members(br#"a="x, no-store"#);
        assert_eq!(list.next().unwrap(), br#"a="x"#);
        assert_eq!(list.next().unwrap(), b"no-store");
        assert!(list.is_broken());
    }
}
