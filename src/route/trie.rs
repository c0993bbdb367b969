//! The path patterns of one host, as a tree.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64;

use super::path::split;
use super::pattern::{End, Pattern, Segment};

/// A map by text. The keys come from rules, so nobody can make them collide.
pub(super) type TextMap<V> = HashMap<Box<str>, V, BuildHasherDefault<TextHasher>>;

/// A segment and all that may follow it. Searches and drops recurse, as deep as the longest pattern.
#[derive(Debug, Default)]
pub(super) struct Trie {
    literals: TextMap<Trie>,
    param: Option<Box<Trie>>,
    exact: Rules,
    tail: Rules,
    prefix: Rules,
}

/// The rules with one pattern, by index; the first that accepts a request gets it.
type Rules = Vec<usize>;

impl Trie {
    pub(super) fn insert(&mut self, pattern: &Pattern, rule: usize) {
        let mut node = self;
        for segment in &pattern.segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Segment::Param(_) => node.param.get_or_insert_default(),
            };
        }
        match pattern.end {
            End::Exact => node.exact.push(rule),
            End::Tail(_) => node.tail.push(rule),
            End::Prefix => node.prefix.push(rule),
        }
    }

    /// The best rule that accepts the request, among those that match what follows the first slash of its path. Adds
    /// the steps it takes to `steps`.
    pub(super) fn find(
        &self,
        rest: Option<&str>,
        accepts: &impl Fn(usize) -> bool,
        steps: &mut usize,
    ) -> Option<usize> {
        *steps += 1;
        let first = |rules: &Rules| rules.iter().copied().find(|&rule| accepts(rule));
        let Some(rest) = rest else {
            return first(&self.exact).or_else(|| first(&self.prefix));
        };
        let (segment, after) = split(rest);
        // Most are leaves, or branch in one way only.
        let literal = if self.literals.is_empty() { None } else { self.literals.get(segment) };
        if let Some(found) = literal.and_then(|node| node.find(after, accepts, steps)) {
            return Some(found);
        }
        if let Some(node) = self.param.as_ref().filter(|_| !segment.is_empty())
            && let Some(found) = node.find(after, accepts, steps)
        {
            return Some(found);
        }
        let tail = if rest.is_empty() { None } else { first(&self.tail) };
        tail.or_else(|| first(&self.prefix))
    }

    /// How many steps no search exceeds: as if the most expensive of the literals led nowhere, and then the parameter.
    pub(super) fn max_steps(&self) -> usize {
        let literal = self.literals.values().map(Self::max_steps).max().unwrap_or(0);
        let param = self.param.as_ref().map_or(0, |node| node.max_steps());
        literal.saturating_add(param).saturating_add(1)
    }

    /// Hands out the rules of each pattern.
    pub(super) fn try_each<E>(
        &mut self,
        visit: &mut impl FnMut(&mut [usize]) -> Result<(), E>,
    ) -> Result<(), E> {
        for rules in [&mut self.exact, &mut self.tail, &mut self.prefix] {
            visit(rules)?;
        }
        self.literals.values_mut().chain(self.param.as_deref_mut()).try_for_each(|node| node.try_each(visit))
    }
}

/// XXH3 of one text.
#[derive(Default)]
pub(super) struct TextHasher(u64);

impl Hasher for TextHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= xxh3_64(bytes);
    }

    fn write_u8(&mut self, _: u8) {
        // The mark at the end of a text, which keeps several texts apart. There is only one.
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::path::Reading;

    fn trie<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Trie {
        let mut trie = Trie::default();
        for (rule, pattern) in patterns.into_iter().enumerate() {
            let pattern = match pattern.strip_suffix("/..") {
                Some("") => Pattern::prefix("/", Reading::Canonical),
                Some(prefix) => Pattern::prefix(prefix, Reading::Canonical),
                None => Pattern::path(pattern, Reading::Canonical),
            };
            trie.insert(&pattern.unwrap(), rule);
        }
        trie
    }

    fn find<'a>(trie: &Trie, path: &str, patterns: &[&'a str]) -> Option<&'a str> {
        let found = trie.find(path.strip_prefix('/'), &|_| true, &mut 0);
        found.map(|rule| patterns[rule])
    }

    fn steps(trie: &Trie, path: &str) -> usize {
        let mut steps = 0;
        trie.find(path.strip_prefix('/'), &|_| true, &mut steps);
        steps
    }

    #[test]
    fn the_pattern_that_says_more_wins() {
        // A prefix is written with two dots at its end.
        let patterns = [
            "/..",
            "/",
            "/api/..",
            "/api",
            "/api/{*rest}",
            "/api/{id}",
            "/api/users",
            "/api/users/..",
            "/api/{id}/orders",
            "/api/users/orders/",
            "/{tenant}/orders",
            "/static/..",
            "/{a}/b/c",
            "/x/{b}/{c}",
        ];
        let trie = trie(patterns);
        for (path, expected) in [
            ("/", "/"),
            ("/other", "/.."),
            ("/apix", "/.."),
            ("/apix/users", "/.."),
            ("/api", "/api"),
            ("/api/", "/api/.."),
            ("/api/7", "/api/{id}"),
            ("/api/7/", "/api/{*rest}"),
            ("/api/7/x", "/api/{*rest}"),
            ("/api/users", "/api/users"),
            ("/api/users/", "/api/users/.."),
            ("/api/users/7", "/api/users/.."),
            // Further left counts for more.
            ("/api/users/orders", "/api/users/.."),
            ("/api/users/orders/", "/api/users/orders/"),
            ("/api/7/orders", "/api/{id}/orders"),
            ("/api/orders", "/api/{id}"),
            ("/acme/orders", "/{tenant}/orders"),
            ("/static/orders", "/static/.."),
            ("/x/b/c", "/x/{b}/{c}"),
            ("/y/b/c", "/{a}/b/c"),
            ("/x/b", "/.."),
            // A parameter is never empty.
            ("/x/b/", "/.."),
        ] {
            assert_eq!(find(&trie, path, &patterns), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_prefix_matches_whole_segments() {
        let patterns = ["/a/b/.."];
        let trie = trie(patterns);
        for path in ["/a/b", "/a/b/", "/a/b/c", "/a/b/c/d"] {
            assert!(find(&trie, path, &patterns).is_some(), "{path}");
        }
        for path in ["/", "/a", "/a/", "/a/bc", "/a/b.c", "/A/b", "*", ""] {
            assert!(find(&trie, path, &patterns).is_none(), "{path}");
        }
    }

    #[test]
    fn a_tail_has_something_in_it() {
        let patterns = ["/a/{*rest}"];
        let trie = trie(patterns);
        assert_eq!(find(&trie, "/a", &patterns), None);
        assert_eq!(find(&trie, "/a/", &patterns), None);
        assert!(find(&trie, "/a/b/", &patterns).is_some());
    }

    #[test]
    fn a_search_takes_as_many_steps_with_ten_rules_as_with_ten_thousand() {
        let table = |rules: usize| {
            let patterns: Vec<_> =
                (0..rules).map(|i| format!("/service-{i}/{{id}}/items/{{item}}")).collect();
            trie(patterns.iter().map(String::as_str))
        };
        let [small, large] = [10, 10_000].map(table);
        for (path, expected) in
            [("/service-7/1/items/2", 5), ("/service-7/1/other/2", 3), ("/service-x/1/items/2", 1), ("/", 1)]
        {
            assert_eq!(steps(&small, path), expected);
            assert_eq!(steps(&large, path), expected);
        }
        // Nor does the length of the path count.
        let long = format!("/service-7{}", "/a".repeat(10_000));
        assert_eq!(steps(&large, &long), 3);
        assert_eq!(large.max_steps(), 5);
    }

    /// Every mix of a literal and a parameter, and none that ends where the path does.
    #[test]
    fn the_worst_path_takes_no_more_steps_than_foretold() {
        for depth in 1..=12_u32 {
            let patterns: Vec<_> = (0..1_u32 << depth)
                .map(|mix| {
                    let segment = |level| {
                        if mix >> level & 1 == 0 { "/a".to_owned() } else { format!("/{{p{level}}}") }
                    };
                    (0..depth).map(segment).collect::<String>() + "/end"
                })
                .collect();
            let trie = trie(patterns.iter().map(String::as_str));
            let nodes = (2 << depth) - 1 + (1 << depth);
            assert_eq!(trie.max_steps(), nodes, "every node once");
            let path = "/a".repeat(depth as usize) + "/other";
            assert_eq!(steps(&trie, &path), (2 << depth) - 1);
        }
    }
}
