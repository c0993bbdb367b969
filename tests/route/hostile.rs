//! Requests that are made to get around rules.

use buttress::route::{Routes, Rule, Unmatched};
use http::{HeaderValue, Request, Uri};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{found, get, table};

/// Pieces of which paths are made that look harmless to one server and not to another.
const PIECES: [&str; 24] = [
    "/", "/", "admin", "admin", "ADMIN", "x", ".", "..", ";", ";y", "\\", "%2f", "%2F", "%5c", "%2e",
    "%2E%2e", "%61dmin", "%3b", "%3B", "%00", "%25", "%252e", "%c0%ae", "a%64min",
];

/// What a server may do with a path before it looks for its handler, in the order in which it does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Decode,
    DropParameters,
    TurnBackslashes,
    MergeSlashes,
    ResolveDots,
    CutAtControl,
}

fn apply(step: Step, path: &str) -> String {
    match step {
        Step::Decode => decode(path),
        Step::DropParameters => {
            let cut = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
            path.split('/').map(cut).collect::<Vec<_>>().join("/")
        }
        Step::TurnBackslashes => path.replace('\\', "/"),
        Step::MergeSlashes => {
            let mut merged = String::new();
            for c in path.chars() {
                if c != '/' || !merged.ends_with('/') {
                    merged.push(c);
                }
            }
            merged
        }
        Step::ResolveDots => {
            let mut kept: Vec<&str> = Vec::new();
            for segment in path.split('/').skip(1) {
                match segment {
                    "." => {}
                    ".." => drop(kept.pop()),
                    other => kept.push(other),
                }
            }
            format!("/{}", kept.join("/"))
        }
        Step::CutAtControl => path.split(|c: char| c.is_control()).next().unwrap_or_default().to_owned(),
    }
}

/// Decodes all there is to decode, and takes overlong forms for what they stand for.
fn decode(path: &str) -> String {
    let path = path.replace("%c0%ae", ".");
    let mut decoded = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let digits =
            after.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        if let Some(byte) = digits.filter(|_| *first == b'%') {
            decoded.push(byte);
            rest = &after[2..];
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn protected(path: &str) -> bool {
    path == "/admin" || path.starts_with("/admin/")
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let all = vec![
        Step::Decode,
        Step::DropParameters,
        Step::TurnBackslashes,
        Step::MergeSlashes,
        Step::ResolveDots,
        Step::CutAtControl,
    ];
    Just(all.clone()).prop_shuffle().prop_flat_map(|all| {
        let len = all.len();
        proptest::sample::subsequence(all, 0..=len)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// No server that takes some of these steps, in any order, sees `/admin` where the router saw something else.
    #[test]
    fn no_request_slips_past_a_rule(pieces in vec(select(PIECES.to_vec()), 0..8), steps in steps()) {
        let path = format!("/{}", pieces.concat());
        let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
        let routes = Routes::new([(Rule::prefix("/admin"), true), (Rule::prefix("/"), false)]).unwrap();
        let request = Request::get(uri).body(()).unwrap();
        if let Ok(found) = routes.find(&request) && !found.target() {
            let seen = steps.iter().fold(path.clone(), |path, &step| apply(step, &path));
            prop_assert!(!protected(&seen), "{path} is {seen} after {steps:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn random_requests_and_rules_are_no_trouble(
        path in "[/{}*a-c%2.;é\\PC]{0,24}",
        host in vec(any::<u8>(), 0..16),
        pattern in "/?[/{}*a-c%2.;\\PC]{0,24}",
        pattern_host in "[*.:a-c0-9\\[\\]\\PC]{0,12}",
    ) {
        for build in [Routes::new, Routes::verbatim] {
            let rules = [
                (Rule::path(pattern.clone()).host(pattern_host.clone()), 0),
                (Rule::prefix(pattern.clone()).rewrite(pattern.clone()), 1),
                (Rule::path(pattern.clone()).header(pattern_host.clone(), pattern.clone()), 2),
            ];
            for rule in rules.clone() {
                drop(build(vec![rule]).map_err(|error| error.to_string()));
            }
            let plain = [(Rule::path("/{a}/{*b}"), 0), (Rule::prefix("/").host("*.a"), 1)];
            let mut tables = vec![build(plain.to_vec()).unwrap()];
            tables.extend(build(vec![rules[0].clone()]));
            for routes in &tables {
                let Ok(mut request) = Request::get(path.as_str()).body(()) else { continue };
                if let Ok(host) = HeaderValue::from_bytes(&host) {
                    request.headers_mut().insert("host", host);
                }
                if let Ok(found) = routes.find(&request) {
                    prop_assert!(found.params().all(|(_, value)| !value.is_empty()));
                }
            }
        }
    }
}

#[test]
fn the_same_path_in_other_words_is_the_same_path() {
    let routes =
        table([Rule::prefix("/"), Rule::prefix("/admin"), Rule::path("/users/@me"), Rule::path("/café")]);
    for (path, expected) in [
        ("/%61dmin", "/admin/*"),
        ("/admi%6E/x", "/admin/*"),
        ("/users/%40me", "/users/@me"),
        ("/caf%c3%a9", "/café"),
        ("/caf%C3%A9", "/café"),
        ("/Admin", "/*"),
        ("/%2561dmin", "/*"),
    ] {
        assert_eq!(found(&routes, &get(path)).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn long_hosts_and_paths_cost_no_more_than_reading_them() {
    let routes = table([Rule::prefix("/a").host("*.a"), Rule::path("/{x}/{*rest}")]);
    let request = Request::get("/a".repeat(30_000)).header("host", "a.".repeat(30_000)).body(()).unwrap();
    assert_eq!(found(&routes, &request), Err(Unmatched::BadHost));
    let request = Request::get("/a".repeat(30_000)).header("host", "a.".repeat(120) + "a").body(()).unwrap();
    assert_eq!(found(&routes, &request).as_deref(), Ok("*.a/a/*"));
}
