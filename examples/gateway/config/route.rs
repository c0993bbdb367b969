//! Which cluster a request is for.

use std::{collections::BTreeMap, ops::Range};

use buttress::route::{Routes, Rule, RulesError};
use hyper::Method;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{
    problem::{Mistake, line_of},
    upstream::default_cluster,
    value::{parsed_list, some_parsed},
};
use crate::priority::Rank;

/// A rule: all that it says must hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    #[serde(default)]
    hosts: Vec<String>,
    path: Option<String>,
    prefix: Option<String>,
    #[serde(default, deserialize_with = "parsed_list")]
    methods: Vec<Method>,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    #[serde(default = "default_cluster")]
    pub(super) cluster: Spanned<String>,
    rewrite: Option<String>,
    #[serde(default, deserialize_with = "some_parsed")]
    priority: Option<Rank>,
}

/// What a header must be.
#[derive(Debug)]
enum Value {
    Any,
    Prefix(String),
    Exact(String),
}

impl Route {
    fn rule(&self) -> Rule {
        let rule = match (&self.path, &self.prefix) {
            (Some(path), _) => Rule::path(path),
            (None, Some(prefix)) => Rule::prefix(prefix),
            (None, None) => Rule::prefix("/"),
        };
        let rule = self.hosts.iter().fold(rule, Rule::host);
        let rule = self.methods.iter().cloned().fold(rule, Rule::method);
        let rule = self.headers.iter().fold(rule, |rule, (name, value)| match value {
            Value::Any => rule.header_present(name),
            Value::Prefix(prefix) => rule.header_prefix(name, prefix),
            Value::Exact(value) => rule.header(name, value),
        });
        match &self.rewrite {
            Some(path) => rule.rewrite(path),
            None => rule,
        }
    }
}

/// The table of these routes, each with what `target` finds for its cluster and its priority.
pub(super) fn table<T>(
    routes: &[Spanned<Route>],
    target: impl Fn(&str, Option<Rank>) -> T,
) -> Result<Routes<T>, RulesError> {
    Routes::new(routes.iter().map(|route| {
        let route = route.get_ref();
        (route.rule(), target(route.cluster.get_ref(), route.priority))
    }))
}

/// What is wrong with the routes, if anything.
pub(super) fn check(routes: &[Spanned<Route>], text: &str) -> Result<(), Mistake> {
    if let Some(route) = routes.iter().find(|route| {
        let Route { path, prefix, .. } = route.get_ref();
        path.is_some() && prefix.is_some()
    }) {
        return Err((Some(route.span()), "`path` and `prefix` exclude each other".to_owned()));
    }
    let Err(error) = table(routes, |_, _| ()) else { return Ok(()) };
    let spans = |wanted: &Rule| -> Vec<Range<usize>> {
        routes.iter().filter(|route| route.get_ref().rule() == *wanted).map(Spanned::span).collect()
    };
    Err(match &error {
        RulesError::Malformed { rule, fault } => (spans(rule).first().cloned(), fault.to_string()),
        RulesError::Ambiguous { first, second } => {
            // They may be the same, word by word.
            let mut both = [spans(first), spans(second)].concat();
            both.sort_by_key(|span| span.start);
            let line = both.first().map_or(0, |span| line_of(text, span.start));
            let message = format!(
                "a request could match this route and that of line {line}: ask for more in one of them, or \
                 add a route that asks for what both ask for"
            );
            (both.last().cloned(), message)
        }
        other => (None, other.to_string()),
    })
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Ok(match text.strip_suffix('*') {
            Some("") => Self::Any,
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Exact(text),
        })
    }
}
