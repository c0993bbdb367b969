//! Cache directives (RFC 9111, section 5.2; RFC 5861; RFC 8246).
//!
//! What restricts a cache counts however it is written: in any case, with an argument it should not have,
//! with garbage behind it. What permits counts only as its grammar has it. A time that is no number, and two
//! that differ, are no time at all: then "caches are encouraged to consider responses to be stale" (section
//! 4.2.1).

use http::{
    HeaderMap, HeaderName,
    header::{CACHE_CONTROL, PRAGMA},
};

use super::{
    delta, is_tchar, lines,
    list::{Members, members},
};

/// The seconds that a directive gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Delta {
    #[default]
    Absent,
    /// It is there, and says nothing that can be used.
    Invalid,
    Seconds(u64),
}

impl Delta {
    /// The seconds, if there are any.
    pub(crate) fn seconds(self) -> Option<u64> {
        match self {
            Self::Seconds(seconds) => Some(seconds),
            Self::Absent | Self::Invalid => None,
        }
    }

    pub(super) fn add(&mut self, other: Option<u64>) {
        *self = match (*self, other) {
            (Self::Absent, Some(seconds)) => Self::Seconds(seconds),
            (Self::Seconds(before), Some(seconds)) if before == seconds => *self,
            _ => Self::Invalid,
        };
    }
}

/// Which fields `no-cache` and `private` are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The directive is not there.
    #[default]
    None,
    /// Only these.
    Fields(Vec<HeaderName>),
    /// The whole response.
    All,
}

impl Scope {
    pub(crate) fn is_all(&self) -> bool {
        *self == Self::All
    }

    pub(crate) fn fields(&self) -> &[HeaderName] {
        if let Self::Fields(fields) = self { fields } else { &[] }
    }

    /// Widens the scope by what an argument names. Anything but a plain list of fields is the whole response.
    pub(super) fn add(&mut self, argument: Argument<'_>) {
        let named = match argument {
            Argument::Value(value) => named_fields(&value),
            Argument::None | Argument::Malformed => None,
        };
        match (&mut *self, named) {
            (Self::All, _) => {}
            (_, None) => *self = Self::All,
            (Self::None, Some(named)) => *self = Self::Fields(named),
            (Self::Fields(fields), Some(named)) => fields.extend(named),
        }
    }
}

/// Fields that a cache works with. To leave one of them out would change what it knows of the response, so a
/// directive that names one counts as if it named none.
const WORKED_WITH: [&str; 16] = [
    "age",
    "cache-control",
    "cdn-cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "surrogate-control",
    "transfer-encoding",
    "vary",
    "content-location",
];

fn named_fields(list: &[u8]) -> Option<Vec<HeaderName>> {
    let name = |name| HeaderName::from_bytes(name).ok().filter(|name| !WORKED_WITH.contains(&name.as_str()));
    let fields: Vec<_> = members(list).map(name).collect::<Option<_>>()?;
    (!fields.is_empty()).then_some(fields)
}

/// What a response says to caches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a directive of its own")]
pub(crate) struct ResponseDirectives {
    pub(crate) max_age: Delta,
    pub(crate) s_maxage: Delta,
    pub(crate) stale_while_revalidate: Delta,
    pub(crate) stale_if_error: Delta,
    pub(crate) no_store: bool,
    pub(crate) no_cache: Scope,
    pub(crate) private: Scope,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    pub(crate) immutable: bool,
    /// Whether one of the directives lets a shared cache store what was asked for with credentials (RFC 9111,
    /// section 3.5).
    pub(crate) lets_share: bool,
}

impl ResponseDirectives {
    /// Reads `Cache-Control`.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for directive in lines(headers, &CACHE_CONTROL).flat_map(Directives::of) {
            directives.add(&directive);
        }
        directives
    }

    pub(super) fn add(&mut self, directive: &Directive<'_>) {
        let seconds = || directive.seconds();
        let is_exact = directive.is_exact && matches!(directive.argument, Argument::None);
        match Name::of(directive.name) {
            Some(Name::NoStore) => self.no_store = true,
            Some(Name::Private) => self.private.add(directive.argument.clone()),
            Some(Name::NoCache) => self.no_cache.add(directive.argument.clone()),
            Some(Name::MustRevalidate) => {
                self.must_revalidate = true;
                self.lets_share |= is_exact;
            }
            Some(Name::ProxyRevalidate) => self.proxy_revalidate = true,
            Some(Name::MaxAge) => self.max_age.add(seconds()),
            Some(Name::SMaxage) => {
                self.s_maxage.add(seconds());
                self.lets_share |= seconds().is_some();
            }
            Some(Name::StaleWhileRevalidate) => self.stale_while_revalidate.add(seconds()),
            Some(Name::StaleIfError) => self.stale_if_error.add(seconds()),
            Some(Name::Public) if is_exact => {
                self.public = true;
                self.lets_share = true;
            }
            Some(Name::MustUnderstand) if is_exact => self.must_understand = true,
            Some(Name::Immutable) if is_exact => self.immutable = true,
            _ => {}
        }
    }
}

/// What a request says to caches (RFC 9111, section 5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestDirectives {
    pub(crate) max_age: Delta,
    pub(crate) min_fresh: Delta,
    /// Without an argument: any time.
    pub(crate) max_stale: Delta,
    pub(crate) stale_if_error: Delta,
    pub(crate) no_cache: bool,
    pub(crate) no_store: bool,
    pub(crate) only_if_cached: bool,
}

impl RequestDirectives {
    /// Reads `Cache-Control`, or `Pragma` where there is none (section 5.4).
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        if !headers.contains_key(CACHE_CONTROL) {
            directives.no_cache = has_pragma_no_cache(headers);
            return directives;
        }
        for directive in lines(headers, &CACHE_CONTROL).flat_map(Directives::of) {
            directives.add(&directive);
        }
        directives
    }

    fn add(&mut self, directive: &Directive<'_>) {
        let seconds = || directive.seconds();
        match Name::of(directive.name) {
            Some(Name::NoCache) => self.no_cache = true,
            Some(Name::NoStore) => self.no_store = true,
            Some(Name::OnlyIfCached) => self.only_if_cached = true,
            Some(Name::MaxAge) => self.max_age.add(seconds()),
            Some(Name::MinFresh) => self.min_fresh.add(seconds()),
            Some(Name::MaxStale) if matches!(directive.argument, Argument::None) && directive.is_exact => {
                self.max_stale.add(Some(delta::MOST));
            }
            Some(Name::MaxStale) => self.max_stale.add(seconds()),
            Some(Name::StaleIfError) => self.stale_if_error.add(seconds()),
            _ => {}
        }
    }
}

fn has_pragma_no_cache(headers: &HeaderMap) -> bool {
    headers.contains_key(PRAGMA)
        && lines(headers, &PRAGMA).flat_map(members).any(|member| member.eq_ignore_ascii_case(b"no-cache"))
}

#[derive(Clone, Copy)]
enum Name {
    Immutable,
    MaxAge,
    MaxStale,
    MinFresh,
    MustRevalidate,
    MustUnderstand,
    NoCache,
    NoStore,
    OnlyIfCached,
    Private,
    ProxyRevalidate,
    Public,
    SMaxage,
    StaleIfError,
    StaleWhileRevalidate,
}

impl Name {
    fn of(name: &[u8]) -> Option<Self> {
        const NAMES: [(&[u8], Name); 15] = [
            (b"immutable", Name::Immutable),
            (b"max-age", Name::MaxAge),
            (b"max-stale", Name::MaxStale),
            (b"min-fresh", Name::MinFresh),
            (b"must-revalidate", Name::MustRevalidate),
            (b"must-understand", Name::MustUnderstand),
            (b"no-cache", Name::NoCache),
            (b"no-store", Name::NoStore),
            (b"only-if-cached", Name::OnlyIfCached),
            (b"private", Name::Private),
            (b"proxy-revalidate", Name::ProxyRevalidate),
            (b"public", Name::Public),
            (b"s-maxage", Name::SMaxage),
            (b"stale-if-error", Name::StaleIfError),
            (b"stale-while-revalidate", Name::StaleWhileRevalidate),
        ];
        NAMES.iter().find(|(spelling, _)| spelling.eq_ignore_ascii_case(name)).map(|(_, name)| *name)
    }
}

/// The argument of a directive, without its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument<'l> {
    None,
    Value(std::borrow::Cow<'l, [u8]>),
    Malformed,
}

/// One directive, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive<'l> {
    pub(super) name: &'l [u8],
    pub(super) argument: Argument<'l>,
    /// Whether it is written as the grammar has it.
    pub(super) is_exact: bool,
}

impl<'l> Directive<'l> {
    /// Reads a member. Whatever stands before its first token character is skipped, a quote for example: what
    /// forbids must not hide behind it.
    pub(super) fn of(member: &'l [u8]) -> Self {
        let start = member.iter().position(|b| is_tchar(*b)).unwrap_or(member.len());
        let (garbage, member) = member.split_at(start);
        let end = member.iter().position(|b| !is_tchar(*b)).unwrap_or(member.len());
        let (name, rest) = member.split_at(end);
        let argument = match rest {
            [] => Argument::None,
            [b'=', value @ ..] => unquote(value),
            _ => Argument::Malformed,
        };
        let is_exact = garbage.is_empty() && argument != Argument::Malformed;
        Self { name, argument, is_exact }
    }

    fn seconds(&self) -> Option<u64> {
        match &self.argument {
            Argument::Value(value) if self.is_exact => delta::parse(value),
            _ => None,
        }
    }
}

/// A token or a quoted string: recipients ought to take either for any directive (section 5.2).
fn unquote(value: &[u8]) -> Argument<'_> {
    match value {
        [b'"', inner @ .., b'"'] => {
            let mut plain = Vec::new();
            let mut bytes = inner.iter();
            if !inner.contains(&b'\\') && !inner.contains(&b'"') {
                return Argument::Value(inner.into());
            }
            while let Some(byte) = bytes.next() {
                match byte {
                    b'"' => return Argument::Malformed,
                    b'\\' => match bytes.next() {
                        Some(escaped) => plain.push(*escaped),
                        None => return Argument::Malformed,
                    },
                    _ => plain.push(*byte),
                }
            }
            Argument::Value(plain.into())
        }
        token if !token.is_empty() && token.iter().all(|b| is_tchar(*b)) => Argument::Value(token.into()),
        _ => Argument::Malformed,
    }
}

/// The directives of a line. Behind a quoted string without an end none is exact.
struct Directives<'l> {
    members: Members<'l>,
}

impl<'l> Directives<'l> {
    fn of(line: &'l [u8]) -> Self {
        Self { members: members(line) }
    }
}

impl<'l> Iterator for Directives<'l> {
    type Item = Directive<'l>;

    fn next(&mut self) -> Option<Directive<'l>> {
        let mut directive = Directive::of(self.members.next()?);
        directive.is_exact &= !self.members.is_broken();
        Some(directive)
    }
}

#[cfg(test)]
mod tests;
