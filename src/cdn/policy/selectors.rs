//! Which requests a response was selected by (RFC 9111, section 4.1).
//!
//! "The header fields from two requests are defined to match if and only if those in the first request can be
//! transformed to those in the second request by adding or removing whitespace, where allowed; combining
//! multiple header field lines; normalizing both header field values in a way that is known to have identical
//! semantics."

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LANGUAGE, COOKIE},
};

use crate::cdn::field::{is_tchar, lines, vary::Vary};

/// What the request said in the fields that `Vary` names.
#[derive(Clone, Debug, Default)]
pub(super) struct Selectors {
    fields: Box<[Selector]>,
    /// The one language of the response.
    language: Option<Box<[u8]>>,
}

#[derive(Clone, Debug)]
struct Selector {
    name: HeaderName,
    /// `None` if the request did not have the field.
    value: Option<Value>,
}

#[derive(Clone, Debug)]
struct Value {
    /// As it came, if it was one line: nearly always a later one is the same.
    line: Option<HeaderValue>,
    normal: Box<[u8]>,
}

impl Selectors {
    /// Reads what selected a response. `None` if no request field tells, as with `Vary: *`.
    pub(super) fn read(request: &HeaderMap, response: &HeaderMap) -> Option<Self> {
        let Vary::Fields(names) = Vary::read(response) else { return None };
        let fields = names.into_iter().map(|name| Selector::read(name, request)).collect();
        let mut languages = lines(response, &CONTENT_LANGUAGE);
        let language = languages.next().filter(|_| languages.next().is_none()).filter(|tag| is_language(tag));
        Some(Self { fields, language: language.map(|tag| tag.to_ascii_lowercase().into()) })
    }

    pub(super) fn select(&self, request: &HeaderMap) -> bool {
        self.fields.iter().all(|field| field.matches(request, self.language.as_deref()))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.fields.iter().map(|field| &field.name)
    }

    pub(super) fn weight(&self) -> usize {
        let value = |value: &Value| 2 * value.normal.len();
        let field = |field: &Selector| size_of::<Selector>() + field.value.as_ref().map_or(0, value);
        self.fields.iter().map(field).sum()
    }

    /// The fields, and what the request had in them in their normal form: for a disk.
    #[cfg(feature = "serde")]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&HeaderName, Option<&[u8]>)> {
        self.fields.iter().map(|field| (&field.name, field.value.as_ref().map(|value| &*value.normal)))
    }

    #[cfg(feature = "serde")]
    pub(super) fn language(&self) -> Option<&[u8]> {
        self.language.as_deref()
    }

    #[cfg(feature = "serde")]
    pub(super) fn restore(
        fields: impl Iterator<Item = (HeaderName, Option<Vec<u8>>)>,
        language: Option<Vec<u8>>,
    ) -> Self {
        let value = |normal: Vec<u8>| Value { line: None, normal: normal.into() };
        let fields = fields.map(|(name, normal)| Selector { name, value: normal.map(value) }).collect();
        Self { fields, language: language.map(Into::into) }
    }
}

impl Selector {
    fn read(name: HeaderName, request: &HeaderMap) -> Self {
        let mut all = request.get_all(&name).iter();
        let line = all.next().filter(|_| all.next().is_none()).cloned();
        let value = request.contains_key(&name).then(|| Value { line, normal: normalize(&name, request) });
        Self { name, value }
    }

    fn matches(&self, request: &HeaderMap, language: Option<&[u8]>) -> bool {
        let mut all = request.get_all(&self.name).iter();
        let Some(value) = &self.value else { return all.next().is_none() };
        let Some(first) = all.next() else { return false };
        if all.next().is_none() && value.line.as_ref() == Some(first) {
            return true;
        }
        *value.normal == *normalize(&self.name, request)
            || self.name == ACCEPT_LANGUAGE && language.is_some_and(|language| prefers(request, language))
    }
}

/// All lines of a field in a form that is the same for what means the same.
fn normalize(name: &HeaderName, request: &HeaderMap) -> Box<[u8]> {
    if (*name == ACCEPT_LANGUAGE || *name == ACCEPT_ENCODING)
        && let Some(mut weighted) = weighted(name, request)
    {
        weighted.sort_unstable();
        return weighted.iter().flat_map(Weighted::to_bytes).collect();
    }
    // Cookies may be split over lines by HTTP/2 and 3 (RFC 9113, section 8.2.3).
    let separator = if *name == COOKIE { &b"; "[..] } else { b"," };
    let mut normal = Vec::new();
    for (at, line) in lines(request, name).enumerate() {
        if at > 0 {
            normal.extend_from_slice(separator);
        }
        squeeze(line.trim_ascii(), &mut normal);
    }
    normal.into()
}

/// Takes the whitespace around commas away, except in quoted strings. Empty members stay: the field may not
/// be a list.
fn squeeze(line: &[u8], normal: &mut Vec<u8>) {
    let (mut is_quoted, mut is_escaped, mut is_after_comma) = (false, false, false);
    let start = normal.len();
    for byte in line {
        if is_after_comma && matches!(byte, b' ' | b'\t') {
            continue;
        }
        is_after_comma = *byte == b',' && !is_quoted;
        if is_after_comma {
            while normal.len() > start && matches!(normal.last(), Some(b' ' | b'\t')) {
                normal.pop();
            }
        }
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => {}
        }
        normal.push(*byte);
    }
    if is_quoted {
        normal.truncate(start);
        normal.extend_from_slice(line);
    }
}

/// A language or coding and how much it is wanted, in thousandths.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Weighted {
    token: Vec<u8>,
    quality: u16,
}

impl Weighted {
    /// Unlike any line that was merely squeezed, since a NUL is in no field.
    fn to_bytes(&self) -> Vec<u8> {
        let [high, low] = self.quality.to_be_bytes();
        [&self.token[..], &[0, high, low]].concat()
    }
}

/// The members of `Accept-Language` or `Accept-Encoding`. `None` if any is not as the grammar has it, or
/// there are very many.
fn weighted(name: &HeaderName, request: &HeaderMap) -> Option<Vec<Weighted>> {
    const MOST: usize = 64;
    let mut all = Vec::new();
    for member in lines(request, name).flat_map(|line| line.split(|b| *b == b',')) {
        let member = member.trim_ascii();
        if member.is_empty() {
            continue;
        }
        let semicolon = member.iter().position(|b| *b == b';');
        let (token, quality) = match semicolon {
            None => (member, 1000),
            Some(at) => (member[..at].trim_ascii_end(), quality(member[at + 1..].trim_ascii_start())?),
        };
        if token.is_empty() || !token.iter().all(|b| is_tchar(*b)) || all.len() == MOST {
            return None;
        }
        let mut token = token.to_ascii_lowercase();
        // "A recipient SHOULD consider 'x-gzip' to be equivalent to 'gzip'", and so with 'x-compress' (RFC
        // 9110, section 8.4.1).
        if *name == ACCEPT_ENCODING && matches!(&token[..], b"x-gzip" | b"x-compress") {
            token.drain(..2);
        }
        all.push(Weighted { token, quality });
    }
    Some(all)
}

/// `q=0.5`, in thousandths (RFC 9110, section 12.4.2).
fn quality(text: &[u8]) -> Option<u16> {
    let [b'q' | b'Q', b'=', whole @ (b'0' | b'1'), fraction @ ..] = text else { return None };
    let digits = match fraction {
        [] => fraction,
        [b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let digit = |at: usize| digits.get(at).map_or(0, |digit| u16::from(digit - b'0'));
    let quality = u16::from(whole - b'0') * 1000 + digit(0) * 100 + digit(1) * 10 + digit(2);
    (quality <= 1000).then_some(quality)
}

fn is_language(tag: &[u8]) -> bool {
    !tag.is_empty() && tag.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// Whether a request likes this language best, and no other one as much: a response in it is what the origin
/// would choose.
fn prefers(request: &HeaderMap, language: &[u8]) -> bool {
    let Some(all) = weighted(&ACCEPT_LANGUAGE, request) else { return false };
    let Some(best) = all.iter().map(|weighted| weighted.quality).max().filter(|best| *best > 0) else {
        return false;
    };
    let mut best = all.iter().filter(|weighted| weighted.quality == best);
    best.next().is_some_and(|weighted| weighted.token == language) && best.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn select(vary: &'static str, stored: &[(&'static str, &str)], request: &[(&'static str, &str)]) -> bool {
        Selectors::read(&map(stored), &map(&[("vary", vary)])).unwrap().select(&map(request))
    }

    #[test]
    fn rfc9111_section_4_1_fields_that_vary_names_must_match() {
        assert!(select("", &[("foo", "1")], &[("foo", "2")]));
        assert!(select("Foo", &[("foo", "1"), ("bar", "1")], &[("foo", "1"), ("bar", "2")]));
        assert!(!select("Foo", &[("foo", "1")], &[("foo", "2")]));
        assert!(!select("foo, bar", &[("foo", "1"), ("bar", "1")], &[("foo", "1"), ("bar", "2")]));
        assert!(!select("foo", &[("foo", "a")], &[("foo", "A")]));
    }

    #[test]
    fn rfc9111_section_4_1_absent_matches_absent_only() {
        assert!(select("foo", &[], &[]));
        assert!(!select("foo", &[("foo", "1")], &[]) && !select("foo", &[], &[("foo", "1")]));
        assert!(!select("foo", &[("foo", "")], &[]) && !select("foo", &[], &[("foo", "")]));
    }

    #[test]
    fn rfc9111_section_4_1_whitespace_and_lines_do_not_count() {
        assert!(select("foo", &[("foo", "1,2")], &[("foo", " 1 ,\t2 ")]));
        assert!(select("foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")]));
        assert!(select("foo", &[("foo", "1"), ("foo", "2")], &[("foo", "1"), ("foo", "2")]));
        assert!(select("cookie", &[("cookie", "a=1; b=2")], &[("cookie", "a=1"), ("cookie", "b=2")]));
        assert!(!select("foo", &[("foo", "1, 2")], &[("foo", "2, 1")]));
        assert!(!select("foo", &[("foo", "1 2")], &[("foo", "12")]));
        assert!(!select("foo", &[("foo", "\"a, b\"")], &[("foo", "\"a,b\"")]));
        assert!(!select("foo", &[("foo", "\"a, b")], &[("foo", "\"a,b")]));
        assert!(!select("foo", &[("foo", "1,,2")], &[("foo", "1,2")]));
    }

    #[test]
    fn rfc9111_section_4_1_languages_match_in_any_case_and_order() {
        let select = |stored: &str, request: &str| {
            select("accept-language", &[("accept-language", stored)], &[("accept-language", request)])
        };
        assert!(select("en, de", "de, en") && select("en, de", "eN, De") && select("en, de", " en ,   de"));
        assert!(select("en;q=0.5, de", "de;q=1.0,en;Q=0.50") && select("en", "en;q=1"));
        assert!(!select("en, de", "en") && !select("en;q=0.5, de", "en, de;q=0.5") && !select("en", "de"));
        assert!(select("en;q=x", "en;q=x") && !select("en;q=x", "EN;q=x") && !select("en;q=2", "en"));
    }

    #[test]
    fn rfc9110_section_12_5_3_codings_match_in_any_case_and_order() {
        let select = |stored: &str, request: &str| {
            select("accept-encoding", &[("accept-encoding", stored)], &[("accept-encoding", request)])
        };
        assert!(select("gzip, br", "BR,gzip") && select("x-gzip", "gzip") && select("gzip;q=1.0", "gzip"));
        assert!(!select("gzip, br", "gzip") && !select("gzip;q=0", "gzip") && !select("", "identity"));
    }

    #[test]
    fn a_response_in_the_language_that_is_liked_best_matches() {
        let response = map(&[("vary", "Accept-Language"), ("content-language", "de")]);
        let stored = Selectors::read(&map(&[("accept-language", "en, de")]), &response).unwrap();
        let select = |languages| stored.select(&map(&[("accept-language", languages)]));
        assert!(select("fr;q=0.5, DE;q=1.0") && select("de"));
        for other in ["de, fr", "fr, de;q=0.9", "de;q=0", "de-at", "*", "", "de;q=x", "fr"] {
            assert!(!select(other), "{other}");
        }
        assert!(!stored.select(&map(&[])));
        let response = map(&[("vary", "Accept-Language"), ("content-language", "de, en")]);
        let stored = Selectors::read(&map(&[("accept-language", "en, de")]), &response).unwrap();
        assert!(!stored.select(&map(&[("accept-language", "de")])));
    }

    #[test]
    fn qualities_are_thousandths() {
        assert_eq!(quality(b"q=0.123"), Some(123));
        assert_eq!(quality(b"q=1."), Some(1000));
        for bad in ["", "q", "q=", "q=2", "q=1.001", "q=0.1234", "q=-1", "q=.5", "q =1", "a=1", "q=1;b"] {
            assert_eq!(quality(bad.as_bytes()), None, "{bad}");
        }
    }
}
