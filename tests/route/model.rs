//! The table beside a linear search that follows the documentation word by word.

use std::cmp::Ordering;

use buttress::route::{Routes, Rule, RulesError};
use http::{Method, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// A rule in parts.
#[derive(Clone, Debug)]
struct Spec {
    hosts: Vec<&'static str>,
    segments: Vec<&'static str>,
    end: End,
    methods: Vec<Method>,
    headers: Vec<(&'static str, Ask)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Exact,
    Slash,
    Tail,
    Prefix,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ask {
    Present,
    Prefix(&'static str),
    Exact(&'static str),
}

/// A request in parts.
#[derive(Clone, Debug)]
struct Asked {
    host: Option<&'static str>,
    path: String,
    method: Method,
    headers: [(&'static str, Option<&'static str>); 2],
}

const HOSTS: [&str; 6] = ["a.x", "*.x", "*.a.x", "b.a.x", "a.x:81", "*.x:81"];
const ASKED_HOSTS: [Option<&str>; 9] = [
    None,
    Some("x"),
    Some("a.x"),
    Some("A.X.:80"),
    Some("a.x:81"),
    Some("b.a.x"),
    Some("c.b.a.x"),
    Some("c.x:81"),
    Some("c.c.x"),
];
/// No rule asks for DELETE, nor for the values `1x`, `12x` and `3`: what is left when rules take single methods and
/// values away.
const METHODS: [Method; 3] = [Method::GET, Method::PUT, Method::DELETE];
const VALUES: [Option<&str>; 7] =
    [None, Some("1"), Some("12"), Some("1x"), Some("12x"), Some("2"), Some("3")];

impl Spec {
    fn path(&self) -> String {
        let name = |(index, segment): (usize, &&str)| match *segment {
            "{}" => format!("/{{p{index}}}"),
            text => format!("/{text}"),
        };
        let path: String = self.segments.iter().enumerate().map(name).collect();
        match self.end {
            End::Exact | End::Prefix if path.is_empty() => "/".to_owned(),
            End::Exact | End::Prefix => path,
            End::Slash => path + "/",
            End::Tail => path + "/{*rest}",
        }
    }

    fn rule(&self) -> Rule {
        let mut rule =
            if self.end == End::Prefix { Rule::prefix(self.path()) } else { Rule::path(self.path()) };
        rule = self.hosts.iter().fold(rule, |rule, host| rule.host(*host));
        rule = self.methods.iter().fold(rule, |rule, method| rule.method(method.clone()));
        self.headers.iter().fold(rule, |rule, (name, ask)| match *ask {
            Ask::Present => rule.header_present(*name),
            Ask::Prefix(prefix) => rule.header_prefix(*name, prefix),
            Ask::Exact(value) => rule.header(*name, value),
        })
    }

    /// What it says of the path, so that more compares as greater: 3 for a literal, 2 for a parameter, 1 and 0 for a
    /// tail and a prefix, 4 for the end.
    fn weight(&self) -> Vec<u8> {
        let mut weight: Vec<u8> =
            self.segments.iter().map(|&text| if text == "{}" { 2 } else { 3 }).collect();
        match self.end {
            End::Exact if weight.is_empty() => weight.extend([3, 4]),
            End::Exact => weight.push(4),
            End::Slash => weight.extend([3, 4]),
            End::Tail => weight.push(1),
            End::Prefix => weight.push(0),
        }
        weight
    }

    fn matches_path(&self, path: &str) -> bool {
        let parts: Vec<_> = path.split('/').skip(1).collect();
        let head = parts.len() >= self.segments.len()
            && self.segments.iter().zip(&parts).all(|(own, part)| match *own {
                "{}" => !part.is_empty(),
                text => text == *part,
            });
        if !head {
            return false;
        }
        let rest = &parts[self.segments.len()..];
        match self.end {
            // The path `/` has one segment, an empty one.
            End::Exact if self.segments.is_empty() => rest == [""],
            End::Exact => rest.is_empty(),
            End::Slash => rest == [""],
            End::Tail => !rest.is_empty() && rest != [""],
            End::Prefix => true,
        }
    }

    fn matches_conditions(&self, asked: &Asked) -> bool {
        let holds = |(name, ask): &(&str, Ask)| {
            let value = asked.headers.iter().find(|(other, _)| other == name).and_then(|(_, value)| *value);
            value.is_some_and(|value| match ask {
                Ask::Present => true,
                Ask::Prefix(prefix) => value.starts_with(prefix),
                Ask::Exact(exact) => value == *exact,
            })
        };
        (self.methods.is_empty() || self.methods.contains(&asked.method)) && self.headers.iter().all(holds)
    }

    fn conditions(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len()
    }

    /// Whether it asks for at least as much of the same.
    fn implies(&self, other: &Self) -> bool {
        let stricter = |(name, theirs): &(&str, Ask)| {
            self.headers.iter().any(|(own, ours)| {
                own == name
                    && match (ours, theirs) {
                        (_, Ask::Present) => true,
                        (Ask::Exact(value) | Ask::Prefix(value), Ask::Prefix(prefix)) => {
                            value.starts_with(prefix)
                        }
                        (ours, theirs) => ours == theirs,
                    }
            })
        };
        let methods = other.methods.is_empty()
            || (!self.methods.is_empty() && self.methods.iter().all(|method| other.methods.contains(method)));
        methods && other.headers.iter().all(stricter)
    }

    fn beats(&self, other: &Self) -> bool {
        match self.weight().cmp(&other.weight()).then(self.conditions().cmp(&other.conditions())) {
            Ordering::Greater => true,
            Ordering::Equal => self.implies(other) && !other.implies(self),
            Ordering::Less => false,
        }
    }
}

/// How specific a pattern is for a host, if it matches: name before wildcard, longer before shorter, port before none.
fn host_rank(pattern: &str, host: &str) -> Option<(bool, usize, bool)> {
    let split = |text: &str| {
        let (name, port) =
            text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port.to_owned())));
        (name.to_lowercase().trim_end_matches('.').to_owned(), port)
    };
    let ((pattern, wanted), (host, port)) = (split(pattern), split(host));
    if wanted.is_some() && wanted != port {
        return None;
    }
    match pattern.strip_prefix('*') {
        Some(suffix) => host.ends_with(suffix).then_some((false, suffix.len(), wanted.is_some())),
        None => (host == pattern).then_some((true, 0, wanted.is_some())),
    }
}

/// The rules that count for a host.
fn for_host<'a>(specs: &'a [Spec], host: Option<&str>) -> Vec<(usize, &'a Spec)> {
    let patterns = specs.iter().flat_map(|spec| &spec.hosts);
    let best = host.and_then(|host| {
        patterns.filter(|p| host_rank(p, host).is_some()).max_by_key(|p| host_rank(p, host))
    });
    let counts = |spec: &Spec| match best {
        Some(best) => spec.hosts.contains(best),
        None => spec.hosts.is_empty(),
    };
    specs.iter().enumerate().filter(|(_, spec)| counts(spec)).collect()
}

enum Naive {
    Nothing,
    Best(usize),
    Undecided,
}

fn naive(specs: &[Spec], asked: &Asked) -> Naive {
    let mut matching = for_host(specs, asked.host);
    matching.retain(|(_, spec)| spec.matches_path(&asked.path) && spec.matches_conditions(asked));
    let beats_all = |&&(index, spec): &&(usize, &Spec)| {
        matching.iter().all(|&(other, theirs)| other == index || spec.beats(theirs))
    };
    match matching.iter().find(beats_all) {
        Some(&(index, _)) => Naive::Best(index),
        None if matching.is_empty() => Naive::Nothing,
        None => Naive::Undecided,
    }
}

/// The same request as the service would see it; some letters may be escaped.
fn request(asked: &Asked, escape: bool) -> Request<()> {
    let path = if escape { asked.path.replace('a', "%61") } else { asked.path.clone() };
    let mut request = Request::builder().method(asked.method.clone()).uri(path);
    request = asked.host.into_iter().fold(request, |request, host| request.header("host", host));
    for (name, value) in asked.headers {
        request = value.into_iter().fold(request, |request, value| request.header(name, value));
    }
    request.body(()).unwrap()
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let ask = prop_oneof![
        Just(Ask::Present),
        select(vec!["1", "12"]).prop_map(Ask::Prefix),
        select(vec!["1", "12", "2"]).prop_map(Ask::Exact),
    ];
    let headers = (subsequence(vec!["x-a", "x-b"], 0..=2), vec(ask, 2))
        .prop_map(|(names, asks)| names.into_iter().zip(asks).collect::<Vec<_>>());
    let hosts = prop_oneof![2 => Just(vec![]), 1 => subsequence(HOSTS.to_vec(), 1..=2)];
    let methods = prop_oneof![3 => Just(vec![]), 1 => subsequence(METHODS[..2].to_vec(), 1..=2)];
    let end = select(vec![End::Exact, End::Slash, End::Tail, End::Prefix]);
    let spec = (hosts, vec(select(vec!["a", "b", "{}"]), 0..=3), end, methods, headers);
    let spec = spec.prop_map(|(hosts, segments, end, methods, headers)| Spec {
        hosts,
        segments,
        end,
        methods,
        headers,
    });
    vec(spec, 1..=12)
}

fn asked() -> impl Strategy<Value = Asked> {
    let path = (vec(select(vec!["a", "b", "c"]), 0..=4), any::<bool>()).prop_map(|(segments, slash)| {
        let path: String = segments.iter().flat_map(|segment| ["/", segment]).collect();
        if slash || path.is_empty() { path + "/" } else { path }
    });
    (
        select(ASKED_HOSTS.to_vec()),
        path,
        select(METHODS.to_vec()),
        select(VALUES.to_vec()),
        select(VALUES.to_vec()),
    )
        .prop_map(|(host, path, method, a, b)| Asked {
            host,
            path,
            method,
            headers: [("x-a", a), ("x-b", b)],
        })
}

/// Takes rules away until none are ambiguous, so that tables of many rules are tested too. Checks each refusal.
fn settle(specs: &mut Vec<Spec>) -> Routes<usize> {
    loop {
        match Routes::new(specs.iter().map(Spec::rule).zip(0..)) {
            Ok(routes) => return routes,
            Err(RulesError::Ambiguous { first, second }) => {
                let [first, second] = [first, second].map(|rule| {
                    specs
                        .iter()
                        .position(|spec| spec.rule() == *rule)
                        .expect("an error names rules that were given")
                });
                // Others may take all of their paths away, which is not looked for.
                let alike: Vec<_> =
                    specs.iter().filter(|spec| spec.weight() == specs[first].weight()).cloned().collect();
                // Nor whether others take their methods away one by one.
                if specs.iter().all(|spec| spec.methods.len() < 2) {
                    assert!(
                        undecided(&alike, &specs[first]),
                        "{first} and {second} of {specs:?} are refused in vain"
                    );
                }
                specs.remove(first.max(second));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Whether some request for the path of `spec` has no best rule.
fn undecided(specs: &[Spec], spec: &Spec) -> bool {
    let mut path: String = spec
        .path()
        .split('/')
        .skip(1)
        .map(|part| if part.starts_with('{') { "/c".into() } else { format!("/{part}") })
        .collect();
    if spec.end == End::Prefix && !spec.segments.is_empty() {
        path += "/c/c";
    }
    let paths = [path.clone(), path + "c"];
    let every = ASKED_HOSTS.iter().flat_map(|host| METHODS.iter().map(move |method| (host, method)));
    every.into_iter().any(|(&host, method)| {
        VALUES.iter().flat_map(|a| VALUES.iter().map(move |b| (*a, *b))).any(|(a, b)| {
            paths.iter().any(|path| {
                let headers = [("x-a", a), ("x-b", b)];
                let asked = Asked { host, path: path.clone(), method: method.clone(), headers };
                matches!(naive(specs, &asked), Naive::Undecided)
            })
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_table_finds_what_a_linear_search_finds(mut specs in specs(), asked in vec(asked(), 60), turn in 0..12_usize) {
        let routes = settle(&mut specs);
        // The same rules in another order.
        let turn = turn % specs.len();
        let turned = (0..specs.len()).map(|index| (index + turn) % specs.len());
        let turned = Routes::new(turned.map(|index| (specs[index].rule(), index))).unwrap();
        for (asked, escape) in asked.iter().zip([false, true].into_iter().cycle()) {
            let request = request(asked, escape);
            let expected = match naive(&specs, asked) {
                Naive::Nothing => None,
                Naive::Best(index) => Some(index),
                Naive::Undecided => panic!("{asked:?} has no best rule among {specs:?}"),
            };
            for routes in [&routes, &turned] {
                let found = routes.find(&request).ok().map(|found| *found.target());
                prop_assert_eq!(found, expected, "{:?} among {:?}", asked, specs);
            }
        }
    }
}

fn conditions() -> impl Strategy<Value = Vec<Spec>> {
    specs().prop_map(|specs| {
        let alike = |spec: Spec| Spec { hosts: vec![], segments: vec![], end: End::Prefix, ..spec };
        specs.into_iter().map(alike).take(5).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Rules that differ in nothing but their conditions are refused just when some request has no best rule.
    #[test]
    fn no_ambiguity_is_missed_and_none_is_made_up(specs in conditions()) {
        let is_refused = Routes::new(specs.iter().map(|spec| (spec.rule(), ()))).is_err();
        let is_undecided = undecided(&specs, &specs[0]);
        prop_assert!(is_refused || !is_undecided, "{specs:?} are taken");
        // Whether others take their methods away one by one is not looked for.
        if specs.iter().all(|spec| spec.methods.len() < 2) {
            prop_assert_eq!(is_refused, is_undecided, "{:?} are refused in vain", specs);
        }
    }
}
