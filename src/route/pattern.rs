//! What a rule says of the path.

use super::{
    Fault,
    path::{Reading, after, split},
};

/// How many segments a pattern may have: searches go as deep.
const MAX_SEGMENTS: usize = 64;

/// A pattern of whole segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) segments: Vec<Segment>,
    pub(super) end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// This text. Empty only as the last segment, after a slash at the end.
    Literal(Box<str>),
    /// Any text but none, under this name.
    Param(Box<str>),
}

/// What may follow the segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing.
    Exact,
    /// At least something, under this name.
    Tail(Box<str>),
    /// Nothing, or a slash and anything.
    Prefix,
}

impl Pattern {
    pub(super) fn path(text: &str, reading: Reading) -> Result<Self, Fault> {
        let rest = text.strip_prefix('/').ok_or(Fault::NoLeadingSlash)?;
        let mut texts: Vec<_> = rest.split('/').collect();
        let tail = texts.last().and_then(|last| last.strip_prefix("{*")?.strip_suffix('}'));
        let end = match tail {
            Some(name) => {
                texts.pop();
                End::Tail(param_name(name)?)
            }
            None => End::Exact,
        };
        Self::new(&texts, end, reading)
    }

    pub(super) fn prefix(text: &str, reading: Reading) -> Result<Self, Fault> {
        match text.strip_prefix('/').ok_or(Fault::NoLeadingSlash)? {
            "" => Self::new(&[], End::Prefix, reading),
            rest if rest.ends_with('/') => Err(Fault::TrailingSlash),
            rest => Self::new(&rest.split('/').collect::<Vec<_>>(), End::Prefix, reading),
        }
    }

    fn new(texts: &[&str], end: End, reading: Reading) -> Result<Self, Fault> {
        if texts.len() > MAX_SEGMENTS {
            return Err(Fault::TooDeep { limit: MAX_SEGMENTS });
        }
        let last = texts.len().saturating_sub(1);
        let mut segments: Vec<Segment> = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            if text.is_empty() && (index < last || end != End::Exact) {
                return Err(Fault::EmptySegment);
            }
            segments.push(Segment::parse(text, reading)?);
        }
        let pattern = Self { segments, end };
        pattern.names_once()?;
        Ok(pattern)
    }

    fn names_once(&self) -> Result<(), Fault> {
        let mut names: Vec<_> = self.names().collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Fault::DuplicateParameter(pair[0].to_owned())),
            None => Ok(()),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let params = self.segments.iter().filter_map(|segment| match segment {
            Segment::Param(name) => Some(&**name),
            Segment::Literal(_) => None,
        });
        params.chain(self.tail())
    }

    fn tail(&self) -> Option<&str> {
        if let End::Tail(name) = &self.end { Some(name) } else { None }
    }

    pub(super) fn has_params(&self) -> bool {
        self.names().next().is_some()
    }

    /// The parameters of a path that matches.
    pub(super) fn params<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = path.strip_prefix('/');
        let params = self.segments.iter().filter_map(move |segment| {
            let (text, after) = split(rest?);
            rest = after;
            match segment {
                Segment::Param(name) => Some((&**name, text)),
                Segment::Literal(_) => None,
            }
        });
        let tail = || Some((self.tail()?, after(path, self.segments.len())?));
        params.chain(tail())
    }
}

impl Segment {
    fn parse(text: &str, reading: Reading) -> Result<Self, Fault> {
        if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            return Ok(Self::Param(param_name(name)?));
        }
        if text.contains(['{', '}']) {
            return Err(Fault::Parameter(text.to_owned()));
        }
        if text.contains(['?', '#']) {
            return Err(Fault::Query);
        }
        let path = format!("/{text}");
        let read = reading.read(&path)?;
        Ok(Self::Literal(read.strip_prefix('/').unwrap_or_default().into()))
    }
}

fn param_name(name: &str) -> Result<Box<str>, Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(Fault::Parameter(format!("{{{name}}}")));
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::BadPath;

    fn path(text: &str) -> Result<Pattern, Fault> {
        Pattern::path(text, Reading::Canonical)
    }

    fn prefix(text: &str) -> Result<Pattern, Fault> {
        Pattern::prefix(text, Reading::Canonical)
    }

    #[test]
    fn patterns_are_made_of_whole_segments() {
        let literal = |text: &str| Segment::Literal(text.into());
        let param = |text: &str| Segment::Param(text.into());
        for (text, segments) in [
            ("/", vec![literal("")]),
            ("/a", vec![literal("a")]),
            ("/a/", vec![literal("a"), literal("")]),
            ("/a/{b}", vec![literal("a"), param("b")]),
            ("/{a}/b/", vec![param("a"), literal("b"), literal("")]),
            ("/caf%c3%a9", vec![literal("café")]),
        ] {
            assert_eq!(path(text), Ok(Pattern { segments, end: End::Exact }), "{text}");
        }
        let tail = |segments| Ok(Pattern { segments, end: End::Tail("rest".into()) });
        assert_eq!(path("/{*rest}"), tail(vec![]));
        assert_eq!(path("/a/{*rest}"), tail(vec![literal("a")]));
        assert_eq!(prefix("/"), Ok(Pattern { segments: vec![], end: End::Prefix }));
        assert_eq!(prefix("/{a}/b").map(|pattern| pattern.segments.len()), Ok(2));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        let named = |text: &str| Fault::Parameter(text.to_owned());
        for (text, fault) in [
            ("", Fault::NoLeadingSlash),
            ("a", Fault::NoLeadingSlash),
            ("*", Fault::NoLeadingSlash),
            ("//", Fault::EmptySegment),
            ("/a//b", Fault::EmptySegment),
            ("/{}", named("{}")),
            ("/{*}", named("{}")),
            ("/{a b}", named("{a b}")),
            ("/{a}.json", named("{a}.json")),
            ("/v{a}", named("v{a}")),
            ("/{a", named("{a")),
            ("/a}", named("a}")),
            ("/{{a}}", named("{{a}}")),
            ("/{*rest}/a", named("{*rest}")),
            ("/{a}/{a}", Fault::DuplicateParameter("a".into())),
            ("/{a}/x/{*a}", Fault::DuplicateParameter("a".into())),
            ("/a?b=c", Fault::Query),
            ("/a#b", Fault::Query),
            ("/a/../b", Fault::Path(BadPath::DotSegment)),
            ("/a%2Fb", Fault::Path(BadPath::Slash)),
            ("/a;b", Fault::Path(BadPath::Semicolon)),
            ("/100%", Fault::Path(BadPath::Escape)),
        ] {
            assert_eq!(path(text), Err(fault), "{text}");
        }
        assert_eq!(path(&"/a".repeat(65)), Err(Fault::TooDeep { limit: 64 }));
        assert!(path(&"/a".repeat(64)).is_ok());
        assert_eq!(prefix("/a/"), Err(Fault::TrailingSlash));
        assert_eq!(prefix("//"), Err(Fault::TrailingSlash));
        assert_eq!(prefix("a"), Err(Fault::NoLeadingSlash));
        assert_eq!(prefix("/a/{*rest}"), Err(Fault::Parameter("{*rest}".into())));
        assert!(Pattern::path("/a%2Fb;c", Reading::Verbatim).is_ok());
    }

    #[test]
    fn parameters_are_found_by_name() {
        let pattern = path("/users/{id}/files/{*file}").unwrap();
        let params: Vec<_> = pattern.params("/users/7/files/a/b/").collect();
        assert_eq!(params, [("id", "7"), ("file", "a/b/")]);
        assert!(!path("/users").unwrap().has_params());
    }
}
