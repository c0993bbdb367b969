//! What a rule asks of the method and the headers.

use std::cmp::Reverse;

use http::{HeaderMap, HeaderName, Method};

/// What a rule asks of one header.
///
/// A header that comes in several lines has no one value, so that nothing but its presence can be asked of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Value {
    Present,
    Prefix(String),
    Exact(String),
}

impl Value {
    fn holds(&self, name: &HeaderName, headers: &HeaderMap) -> bool {
        let mut lines = headers.get_all(name).iter();
        let Some(line) = lines.next() else { return false };
        match self {
            Self::Present => true,
            Self::Prefix(prefix) => line.as_bytes().starts_with(prefix.as_bytes()) && lines.next().is_none(),
            Self::Exact(value) => line.as_bytes() == value.as_bytes() && lines.next().is_none(),
        }
    }

    /// Whether every header that meets this meets the other, too. If neither implies the other, no header meets both.
    fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Present) => true,
            (Self::Exact(value), Self::Exact(other)) => value == other,
            (Self::Exact(value) | Self::Prefix(value), Self::Prefix(prefix)) => value.starts_with(prefix),
            (Self::Present | Self::Prefix(_), _) => false,
        }
    }
}

/// All that a rule asks of the method and the headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    /// One of these, or any if there are none.
    methods: Vec<Method>,
    /// Each name once.
    headers: Vec<(HeaderName, Value)>,
}

impl Conditions {
    /// `headers` must have each name once.
    pub(super) fn new(methods: &[Method], headers: Vec<(HeaderName, Value)>) -> Self {
        let mut methods = methods.to_vec();
        methods.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        methods.dedup();
        Self { methods, headers }
    }

    #[inline]
    pub(super) fn hold(&self, method: &Method, headers: &HeaderMap) -> bool {
        (self.methods.is_empty() || self.methods.contains(method))
            && self.headers.iter().all(|(name, value)| value.holds(name, headers))
    }

    /// How many there are.
    fn len(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len()
    }

    /// Greater for conditions that are more, or that are as many and imply the others.
    pub(super) fn rank(&self) -> impl Ord + use<> {
        let (mut exact, mut prefix) = (0_usize, 0_usize);
        for (_, value) in &self.headers {
            match value {
                Value::Exact(_) => exact += 1,
                Value::Prefix(text) => prefix += 1 + text.len(),
                Value::Present => {}
            }
        }
        (self.len(), exact, prefix, Reverse(self.methods.len()))
    }

    /// Whether some request meets both, and neither are these more nor do they ask for more of the same.
    pub(super) fn rival(&self, other: &Self) -> bool {
        self.len() == other.len() && self.implies(other) == other.implies(self) && self.both(other).is_some()
    }

    /// Whether these decide between two rivals: whatever meets both meets these, which are tried first.
    pub(super) fn settle(&self, one: &Self, other: &Self) -> bool {
        let is_first = self.rank() > one.rank() && self.rank() > other.rank();
        is_first && one.both(other).is_some_and(|both| both.implies(self))
    }

    fn implies(&self, other: &Self) -> bool {
        let methods = other.methods.is_empty()
            || (!self.methods.is_empty() && self.methods.iter().all(|method| other.methods.contains(method)));
        let header =
            |(name, value): &(HeaderName, Value)| self.of(name).is_some_and(|own| own.implies(value));
        methods && other.headers.iter().all(header)
    }

    /// What holds where these and the others hold, if they ever do at once.
    fn both(&self, other: &Self) -> Option<Self> {
        let methods = match (self.methods.is_empty(), other.methods.is_empty()) {
            (true, _) => other.methods.clone(),
            (_, true) => self.methods.clone(),
            (false, false) => {
                let common = |method: &&Method| other.methods.contains(method);
                let common: Vec<_> = self.methods.iter().filter(common).cloned().collect();
                if common.is_empty() {
                    return None;
                }
                common
            }
        };
        let mut headers = other.headers.clone();
        for (name, value) in &self.headers {
            match headers.iter_mut().find(|(theirs, _)| theirs == name) {
                None => headers.push((name.clone(), value.clone())),
                Some((_, theirs)) if value.implies(theirs) => *theirs = value.clone(),
                Some((_, theirs)) if theirs.implies(value) => {}
                Some(_) => return None,
            }
        }
        Some(Self { methods, headers })
    }

    fn of(&self, name: &HeaderName) -> Option<&Value> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }
}
