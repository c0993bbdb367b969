//! The table of routes.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use http::Request;
use http::uri::PathAndQuery;

use super::host::{BadHost, Host, Hosts};
use super::path::{Reading, after};
use super::rule::Compiled;
use super::trie::Trie;
use super::{BadPath, Rule, RulesError, Unmatched};

/// Finds the target of a request, by rules of which never two are meant equally.
///
/// Which rule wins, and which paths are refused, is told in the [module's documentation](super).
///
/// ```
/// use buttress::route::{Routes, Rule};
///
/// let error = Routes::new([
///     (Rule::path("/users/{id}"), "users"),
///     (Rule::path("/users/{name}"), "people"),
/// ]).unwrap_err();
/// assert!(error.to_string().starts_with("rules `/users/{id}` and `/users/{name}` match the same requests"));
/// ```
pub struct Routes<T> {
    entries: Vec<Entry<T>>,
    hosts: Hosts<Trie>,
    fallback: Option<T>,
    reading: Reading,
}

struct Entry<T> {
    known: Arc<Known>,
    target: T,
}

/// A rule, as it is written and as it is read.
#[derive(Debug)]
struct Known {
    rule: Rule,
    compiled: Compiled,
}

impl<T> Routes<T> {
    /// How many steps a search may take at most. A path of as many segments as rules may have takes 65 where no
    /// parameter stands beside a literal.
    pub const MAX_STEPS: usize = 1024;

    /// A table of these rules and their targets, in any order.
    ///
    /// # Errors
    /// If a rule is malformed, if two are ambiguous, or if a search could take too long.
    pub fn new(rules: impl IntoIterator<Item = (Rule, T)>) -> Result<Self, RulesError> {
        Self::build(rules, Reading::Canonical)
    }

    /// A table that compares paths byte by byte, as they were sent, and refuses none: for servers that do so too. See
    /// [what this gives up](super#paths-that-can-be-read-in-two-ways).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn verbatim(rules: impl IntoIterator<Item = (Rule, T)>) -> Result<Self, RulesError> {
        Self::build(rules, Reading::Verbatim)
    }

    fn build(rules: impl IntoIterator<Item = (Rule, T)>, reading: Reading) -> Result<Self, RulesError> {
        let (mut entries, mut hosts) = (Vec::new(), Hosts::<Trie>::default());
        for (rule, target) in rules {
            let compiled = match rule.compile(reading) {
                Ok(compiled) => compiled,
                Err(fault) => return Err(RulesError::Malformed { rule: Box::new(rule), fault }),
            };
            if compiled.hosts.is_empty() {
                hosts.entry(None).insert(&compiled.pattern, entries.len());
            }
            for host in &compiled.hosts {
                hosts.entry(Some(host)).insert(&compiled.pattern, entries.len());
            }
            entries.push(Entry { known: Arc::new(Known { rule, compiled }), target });
        }
        for trie in hosts.values_mut() {
            trie.try_each(&mut |rules| settle(&entries, rules))?;
            let steps = trie.max_steps();
            if steps > Self::MAX_STEPS {
                return Err(RulesError::Tangled { steps });
            }
        }
        Ok(Self { entries, hosts, fallback: None, reading })
    }

    /// Where requests go that no rule matches. Those whose host or path is refused still go nowhere.
    #[must_use]
    pub fn fallback(mut self, target: T) -> Self {
        self.fallback = Some(target);
        self
    }

    /// The rules and their targets, as they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&Rule, &T)> {
        self.entries.iter().map(|entry| (&entry.known.rule, &entry.target))
    }

    /// Finds the target of a request: a step for each matched segment of the path. Allocates only if the path has
    /// percent-escapes, or the host capital letters.
    ///
    /// # Errors
    /// If no rule matches and there is no fallback, or if the host or the path is refused.
    #[inline]
    pub fn find<'r, 'q, B>(&'r self, request: &'q Request<B>) -> Result<Match<'r, 'q, T>, Unmatched> {
        let (uri, headers) = (request.uri(), request.headers());
        let host = Host::of(uri, headers).map_err(|BadHost| Unmatched::BadHost)?;
        let path = self.reading.read(uri.path())?;
        let accepts = |rule: usize| {
            let conditions =
                |entry: &Entry<T>| entry.known.compiled.conditions.hold(request.method(), headers);
            self.entries.get(rule).is_some_and(conditions)
        };
        let trie = self.hosts.find(host.as_ref());
        let found = path.strip_prefix('/').and_then(|rest| trie?.find(Some(rest), &accepts, &mut 0));
        match found.and_then(|rule| self.entries.get(rule)) {
            Some(entry) => Ok(Match { target: &entry.target, known: Some(&entry.known), path }),
            None => match &self.fallback {
                Some(target) => Ok(Match { target, known: None, path }),
                None => Err(Unmatched::NoRoute),
            },
        }
    }
}

/// Puts rules with the same pattern in the order in which they are tried, if there is one.
fn settle<T>(entries: &[Entry<T>], rules: &mut [usize]) -> Result<(), RulesError> {
    let conditions = |rule: usize| &entries[rule].known.compiled.conditions;
    rules.sort_by_key(|&rule| Reverse(conditions(rule).rank()));
    for (index, &second) in rules.iter().enumerate() {
        for &first in &rules[..index] {
            let (one, other) = (conditions(first), conditions(second));
            if one.rival(other) && !rules.iter().any(|&rule| conditions(rule).settle(one, other)) {
                let [first, second] = [first.min(second), first.max(second)];
                let rule = |index: usize| Box::new(entries[index].known.rule.clone());
                return Err(RulesError::Ambiguous { first: rule(first), second: rule(second) });
            }
        }
    }
    Ok(())
}

impl<T: fmt::Debug> fmt::Debug for Routes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.iter().map(|(rule, target)| (rule.to_string(), target));
        f.debug_map().entries(rules).finish()
    }
}

/// What was found for a request.
#[derive(Clone)]
pub struct Match<'r, 'q, T> {
    target: &'r T,
    known: Option<&'r Arc<Known>>,
    path: Cow<'q, str>,
}

impl<'r, T> Match<'r, '_, T> {
    /// Where the request goes.
    pub fn target(&self) -> &'r T {
        self.target
    }

    /// The rule that matched, or none if this is the fallback.
    pub fn rule(&self) -> Option<&'r Rule> {
        self.known.map(|known| &known.rule)
    }

    /// What the path has in place of a parameter. Decoded, unless the table is [verbatim](Routes::verbatim).
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All parameters and their values, from the left to the right.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        self.known.into_iter().flat_map(|known| known.compiled.pattern.params(&self.path))
    }

    /// The path and query that the target is asked for, if the rule rewrites them.
    pub(super) fn rewritten(&self, original: &PathAndQuery) -> Option<Result<PathAndQuery, BadPath>> {
        let Compiled { rewrite, pattern, .. } = &self.known?.compiled;
        let mut path = rewrite.clone()?;
        // Of the path as it was sent, whose segments are the same: a slash that is escaped is refused.
        if let Some(rest) = after(original.path(), pattern.segments.len()) {
            path.push('/');
            path.push_str(rest);
        }
        if path.is_empty() {
            path.push('/');
        }
        if let Some(query) = original.query() {
            path.push('?');
            path.push_str(query);
        }
        Some(PathAndQuery::try_from(path).map_err(|_| BadPath::TooLong))
    }

    /// This, to be kept; nothing for the fallback.
    pub(super) fn to_matched(&self) -> Option<Matched> {
        let known = Arc::clone(self.known?);
        let path = if known.compiled.pattern.has_params() { (*self.path).into() } else { Box::default() };
        Some(Matched { known, path })
    }
}

impl<T: fmt::Debug> fmt::Debug for Match<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Match")
            .field("target", &self.target)
            .field("rule", &self.rule().map(Rule::to_string))
            .field("path", &self.path)
            .finish()
    }
}

/// The rule that a request matched, and its parameters. An extension that [`Route`](super::Route) puts into requests.
///
/// ```
/// use buttress::route::Matched;
/// use http::Request;
///
/// # fn handle(request: &Request<()>) -> Option<String> {
/// let matched = request.extensions().get::<Matched>()?;
/// let user = matched.param("id")?;
/// Some(format!("{} for user {user}", matched.rule().pattern()))
/// # }
/// ```
#[derive(Clone)]
pub struct Matched {
    known: Arc<Known>,
    /// Empty if there are no parameters.
    path: Box<str>,
}

impl Matched {
    /// The rule.
    pub fn rule(&self) -> &Rule {
        &self.known.rule
    }

    /// What the path has in place of a parameter. Decoded, unless the table is [verbatim](Routes::verbatim).
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All parameters and their values, from the left to the right.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        self.known.compiled.pattern.params(&self.path)
    }
}

impl fmt::Debug for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params: Vec<_> = self.params().collect();
        f.debug_struct("Matched").field("rule", &self.rule().to_string()).field("params", &params).finish()
    }
}
