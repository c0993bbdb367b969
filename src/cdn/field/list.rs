//! Lists: members between commas (RFC 9110, section 5.6.1).

/// The members of one line of a list, without the whitespace around them. Empty ones are left out.
///
/// A comma in a quoted string separates nothing. Quotes that are not a whole argument or member are no quoted
/// string: they may not end, or stand in the midst of something. From there on every comma separates, and
/// [`is_broken`](Self::is_broken) says so: nobody hides a directive behind them.
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
                Err(Broken) => self.is_broken = true,
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

struct Broken;

fn comma_outside_quotes(line: &[u8]) -> Result<Option<usize>, Broken> {
    let mut at = 0;
    let mut before = b',';
    while let Some(byte) = line.get(at) {
        match byte {
            b',' => return Ok(Some(at)),
            b'"' => {
                let end = at + quoted(&line[at..]).ok_or(Broken)?;
                let next = line[end..].trim_ascii_start().first();
                if !matches!(before, b',' | b'=') || !matches!(next, None | Some(b',' | b';')) {
                    return Err(Broken);
                }
                at = end;
                continue;
            }
            b' ' | b'\t' => {}
            _ => before = *byte,
        }
        at += 1;
    }
    Ok(None)
}

/// How long the quoted string is that a text begins with.
fn quoted(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    let end = text.iter().skip(1).position(|byte| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    })?;
    Some(end + 2)
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
    fn quotes_that_are_no_quoted_string_hide_nothing() {
        for line in [
            "a=\"x, no-store",
            "a\"x, no-store, \"",
            "a=\", no-store, b=\"x\"",
            "\"x\"y, no-store",
            "a=\"x\"\", no-store, \"",
            "a=\"\\\", no-store",
            "a=\"x\" \", no-store, \"",
        ] {
            let mut list = members(line.as_bytes());
            assert!(list.any(|member| member == b"no-store") && list.is_broken(), "{line}");
        }
    }

    #[test]
    fn a_quoted_string_without_an_end_is_split() {
        let mut list = members(br#"a="x, no-store"#);
        assert_eq!(list.next().unwrap(), br#"a="x"#);
        assert_eq!(list.next().unwrap(), b"no-store");
        assert!(list.is_broken());
    }
}
