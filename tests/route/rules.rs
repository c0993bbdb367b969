//! Which rule wins, and which rules are refused.

use buttress::route::{BadPath, Fault, Routes, Rule, RulesError, Unmatched};
use http::{Method, Request};

use super::{found, get, table};

fn ambiguous(rules: impl IntoIterator<Item = Rule>) -> Option<(String, String)> {
    match Routes::new(rules.into_iter().map(|rule| (rule, ()))) {
        Ok(_) => None,
        Err(RulesError::Ambiguous { first, second }) => Some((first.to_string(), second.to_string())),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_host_is_settled_first() {
    let routes = table([
        Rule::prefix("/"),
        Rule::path("/status"),
        Rule::prefix("/").host("*.example.com"),
        Rule::prefix("/shop").host("shop.example.com"),
    ]);
    for (uri, expected) in [
        ("http://other/status", "/status"),
        ("http://other/shop", "/*"),
        ("http://example.com/", "/*"),
        ("http://www.example.com/status", "*.example.com/*"),
        ("http://shop.example.com:8080/shop/7", "shop.example.com/shop/*"),
    ] {
        assert_eq!(found(&routes, &get(uri)).as_deref(), Ok(expected), "{uri}");
    }
    // It has rules of its own, so those of the wildcard and of all hosts do not count for it.
    assert_eq!(found(&routes, &get("http://shop.example.com/status")), Err(Unmatched::NoRoute));
    let routes = routes.fallback("fallback".to_owned());
    let request = get("http://shop.example.com/status");
    let fallback = routes.find(&request).unwrap();
    assert_eq!((fallback.target().as_str(), fallback.rule()), ("fallback", None));
    assert_eq!(fallback.params().count(), 0);
}

#[test]
fn without_a_host_only_rules_for_all_hosts_count() {
    let routes = table([Rule::prefix("/"), Rule::prefix("/").host("a")]);
    assert_eq!(found(&routes, &get("/")).as_deref(), Ok("/*"));
    let request = Request::get("/").header("host", "A.:80").body(()).unwrap();
    assert_eq!(found(&routes, &request).as_deref(), Ok("a/*"));
}

#[test]
fn a_host_that_cannot_be_told_is_refused_even_with_a_fallback() {
    let routes = table([Rule::prefix("/")]).fallback("fallback".to_owned());
    let twice = Request::get("/").header("host", "a").header("host", "b").body(()).unwrap();
    assert_eq!(found(&routes, &twice), Err(Unmatched::BadHost));
    let odd = Request::get("/").header("host", "a/b").body(()).unwrap();
    assert_eq!(found(&routes, &odd), Err(Unmatched::BadHost));
    assert_eq!(found(&routes, &get("/a/../b")), Err(Unmatched::BadPath(BadPath::DotSegment)));
}

#[test]
fn the_path_counts_for_more_than_conditions() {
    let routes = table([
        Rule::prefix("/").header("x-canary", "yes").method(Method::GET),
        Rule::prefix("/api"),
        Rule::path("/api/{id}").method(Method::POST),
    ]);
    let request = Request::get("/api/7").header("x-canary", "yes").body(()).unwrap();
    assert_eq!(found(&routes, &request).as_deref(), Ok("/api/*"), "the template asks for another method");
    let request = Request::post("/api/7").header("x-canary", "yes").body(()).unwrap();
    assert_eq!(found(&routes, &request).as_deref(), Ok("POST /api/{id}"));
    let request = Request::get("/web").header("x-canary", "yes").body(()).unwrap();
    assert_eq!(found(&routes, &request).as_deref(), Ok("GET /* [x-canary: yes]"));
    assert_eq!(found(&routes, &get("/web")), Err(Unmatched::NoRoute));
}

#[test]
fn more_conditions_win_and_then_stricter_ones() {
    let rule = || Rule::path("/");
    let routes = table([
        rule(),
        rule().header_present("x"),
        rule().header_prefix("x", "a"),
        rule().header_prefix("x", "ab"),
        rule().header("x", "abc"),
        rule().header_present("x").method(Method::GET).method(Method::HEAD),
        rule().header_present("x").method(Method::GET),
    ]);
    let of = |method: Method, value: Option<&str>| {
        let request =
            value.into_iter().fold(Request::builder().method(method).uri("/"), |r, v| r.header("X", v));
        found(&routes, &request.body(()).unwrap()).unwrap()
    };
    assert_eq!(of(Method::PUT, None), "/");
    assert_eq!(of(Method::PUT, Some("z")), "/ [x]");
    assert_eq!(of(Method::PUT, Some("az")), "/ [x: a*]");
    assert_eq!(of(Method::PUT, Some("abz")), "/ [x: ab*]");
    assert_eq!(of(Method::PUT, Some("abc")), "/ [x: abc]");
    assert_eq!(of(Method::GET, Some("abc")), "GET / [x]");
    assert_eq!(of(Method::HEAD, Some("abc")), "GET,HEAD / [x]");
}

#[test]
fn a_header_in_several_lines_has_no_value() {
    let routes = table([
        Rule::path("/").header("x", "a"),
        Rule::path("/").header("x", "b"),
        Rule::path("/").header_present("x"),
    ]);
    let request = Request::get("/").header("x", "a").header("x", "b").body(()).unwrap();
    assert_eq!(found(&routes, &request).as_deref(), Ok("/ [x]"));
}

#[test]
fn rules_that_never_meet_stand_beside_each_other() {
    let rule = || Rule::path("/a");
    assert_eq!(ambiguous([rule().method(Method::GET), rule().method(Method::POST)]), None);
    assert_eq!(ambiguous([rule().header("x", "a"), rule().header("x", "b")]), None);
    assert_eq!(ambiguous([rule().header_prefix("x", "a"), rule().header_prefix("x", "b")]), None);
    assert_eq!(ambiguous([rule().host("a"), rule().host("b")]), None);
    assert_eq!(ambiguous([rule().host("a"), rule().host("a:80")]), None);
    assert_eq!(ambiguous([rule(), Rule::path("/a/")]), None);
    assert_eq!(ambiguous([rule().host("a").host("A.")]), None, "the same host twice is the same rule");
}

#[test]
fn rules_that_are_meant_equally_are_refused_by_name() {
    let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
    assert_eq!(ambiguous([Rule::path("/a"), Rule::path("/a")]), pair("/a", "/a"));
    assert_eq!(ambiguous([Rule::path("/a"), Rule::path("/%61")]), pair("/a", "/%61"));
    assert_eq!(ambiguous([Rule::path("/{a}"), Rule::path("/{b}")]), pair("/{a}", "/{b}"));
    assert_eq!(ambiguous([Rule::path("/{*a}"), Rule::path("/{*b}")]), pair("/{*a}", "/{*b}"));
    assert_eq!(
        ambiguous([Rule::path("/").host("a").host("b"), Rule::path("/"), Rule::path("/").host("B.")]),
        pair("a,b/", "B./")
    );
    let rule = || Rule::prefix("/a");
    assert_eq!(
        ambiguous([rule().method(Method::GET), rule().header("x", "a")]),
        pair("GET /a/*", "/a/* [x: a]")
    );
    assert_eq!(
        ambiguous([
            rule().method(Method::GET).method(Method::PUT),
            rule().method(Method::PUT).method(Method::POST)
        ]),
        pair("GET,PUT /a/*", "PUT,POST /a/*")
    );
}

#[test]
fn a_third_rule_settles_an_ambiguity() {
    let rule = || Rule::prefix("/");
    let canary = rule().header("x-canary", "yes");
    let beta = rule().header_prefix("x-beta", "1");
    assert!(ambiguous([canary.clone(), beta.clone()]).is_some());
    let both = || rule().header("x-canary", "yes");
    assert_eq!(ambiguous([canary.clone(), beta.clone(), both().header_prefix("x-beta", "1")]), None);
    assert_eq!(ambiguous([canary.clone(), beta.clone(), both().header_present("x-beta")]), None);
    // It must take all of the requests that match both.
    for narrower in [both().header("x-beta", "1"), both().header_prefix("x-beta", "1").method(Method::GET)] {
        assert!(ambiguous([canary.clone(), beta.clone(), narrower]).is_some());
    }
    // As many conditions do, if they ask for more of the same.
    let methods = |methods: &[Method]| methods.iter().cloned().fold(rule(), Rule::method);
    let [read, write] = [&[Method::GET, Method::POST], &[Method::POST, Method::PUT]].map(|m| methods(m));
    assert!(ambiguous([read.clone(), write.clone()]).is_some());
    assert_eq!(ambiguous([read, write, methods(&[Method::POST])]), None);
    let one = || rule().header("x-a", "1").header_prefix("x-b", "1");
    let other = || rule().header_prefix("x-a", "1").header("x-b", "1");
    assert!(ambiguous([one(), other()]).is_some());
    assert_eq!(ambiguous([one(), other(), rule().header("x-a", "1").header("x-b", "1")]), None);

    let request = Request::get("/").header("x-canary", "yes").header("x-beta", "17").body(()).unwrap();
    let routes = table([canary, beta, both().header_prefix("x-beta", "1")]);
    assert_eq!(found(&routes, &request).as_deref(), Ok("/* [x-canary: yes] [x-beta: 1*]"));
}

#[test]
fn malformed_rules_are_refused_with_the_reason() {
    let text = |text: &str| text.to_owned();
    for (rule, fault) in [
        (Rule::path("a"), Fault::NoLeadingSlash),
        (Rule::prefix("/a/"), Fault::TrailingSlash),
        (Rule::path("/a//b"), Fault::EmptySegment),
        (Rule::path("/a/..").host("a"), Fault::Path(BadPath::DotSegment)),
        (Rule::path("/{a}/{a}"), Fault::DuplicateParameter(text("a"))),
        (Rule::path("/").host("*"), Fault::Host(text("*"))),
        (Rule::path("/").host("a").host("b/c"), Fault::Host(text("b/c"))),
        (Rule::path("/").header("x y", "a"), Fault::Header(text("x y"))),
        (Rule::path("/").header("Host", "a"), Fault::Header(text("Host"))),
        (Rule::path("/").header("x", "a\nb"), Fault::HeaderValue(text("x"))),
        (Rule::path("/").header("x", " a"), Fault::HeaderValue(text("x"))),
        (Rule::path("/").header_prefix("x", " a"), Fault::HeaderValue(text("x"))),
        (Rule::path("/").header("x", "a").header_present("X"), Fault::DuplicateHeader(text("X"))),
        (Rule::path("/a").rewrite("/b"), Fault::Rewrite(text("/b"))),
        (Rule::prefix("/a").rewrite("b"), Fault::Rewrite(text("b"))),
        (Rule::prefix("/a").rewrite(""), Fault::Rewrite(text(""))),
        (Rule::prefix("/a").rewrite("/b?c"), Fault::Rewrite(text("/b?c"))),
        (Rule::prefix("/a").rewrite("/b/../c"), Fault::Rewrite(text("/b/../c"))),
        (Rule::prefix("/a").rewrite("//b"), Fault::Rewrite(text("//b"))),
    ] {
        let error = Routes::new([(rule.clone(), ())]).unwrap_err();
        assert_eq!(error, RulesError::Malformed { rule: Box::new(rule), fault });
    }
    let error = Routes::new([(Rule::path("/{a}.json").host("a"), ())]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "rule `a/{a}.json`: `{a}.json` is no parameter: write `{name}` for a whole segment, or `{*name}` for the rest \
         of a path"
    );
}

#[test]
fn a_table_that_could_take_too_long_is_refused() {
    let mixes = |depth: u32| {
        (0..1_u32 << depth).map(move |mix| {
            let segment =
                |level| if mix >> level & 1 == 0 { "/a".to_owned() } else { format!("/{{p{level}}}") };
            (Rule::path((0..depth).map(segment).collect::<String>()), ())
        })
    };
    assert!(Routes::new(mixes(9)).is_ok());
    let error = Routes::new(mixes(10)).unwrap_err();
    assert_eq!(error, RulesError::Tangled { steps: 2047 });
    assert!(error.to_string().contains("1024 are allowed"), "{error}");
    // Many rules side by side are no trouble, nor are parameters below them.
    let wide = (0..5000).map(|i| (Rule::path(format!("/{{a}}/x{i}/{{b}}/y/{{*c}}")), ()));
    assert!(Routes::new(wide).is_ok());
}

#[test]
fn parameters_are_decoded_and_named() {
    let routes = table([Rule::path("/users/{id}/files/{*file}"), Rule::prefix("/t/{tenant}")]);
    let request = get("/users/J%c3%B6rg%20B/files/a/b%3Fc/?x=1");
    let matched = routes.find(&request).unwrap();
    assert_eq!(matched.params().collect::<Vec<_>>(), [("id", "Jörg B"), ("file", "a/b?c/")]);
    assert_eq!(matched.param("id"), Some("Jörg B"));
    assert_eq!(matched.param("name"), None);
    assert_eq!(matched.rule().unwrap().pattern(), "/users/{id}/files/{*file}");
    let request = get("/t/acme/x");
    assert_eq!(routes.find(&request).unwrap().param("tenant"), Some("acme"));
}

#[test]
fn verbatim_tables_compare_bytes() {
    let rules = [Rule::path("/@scope%2Fname"), Rule::path("/a;b"), Rule::path("/{name}"), Rule::prefix("/")];
    let routes = Routes::verbatim(rules.map(|rule| (rule.clone(), rule.to_string()))).unwrap();
    for (path, expected) in [
        ("/@scope%2Fname", "/@scope%2Fname"),
        ("/@scope%2fname", "/{name}"),
        ("/a;b", "/a;b"),
        ("/%61;b", "/{name}"),
        ("/..", "/{name}"),
        ("//a", "/*"),
        ("/%zz/", "/*"),
    ] {
        assert_eq!(found(&routes, &get(path)).as_deref(), Ok(expected), "{path}");
    }
    assert_eq!(routes.find(&get("/%c3%a9")).unwrap().param("name"), Some("%c3%a9"));
}

#[test]
fn a_target_without_a_path_matches_nothing() {
    let routes = table([Rule::prefix("/"), Rule::path("/{*rest}")]);
    let asterisk = Request::options("*").body(()).unwrap();
    assert_eq!(found(&routes, &asterisk), Err(Unmatched::NoRoute));
    let connect = Request::connect("example.com:443").body(()).unwrap();
    assert_eq!(found(&routes, &connect), Err(Unmatched::NoRoute));
    assert_eq!(found(&routes, &get("http://example.com")).as_deref(), Ok("/*"));
}

#[test]
fn a_table_lists_its_rules() {
    let routes = table([Rule::path("/b"), Rule::path("/a")]);
    assert_eq!(routes.iter().map(|(rule, _)| rule.pattern()).collect::<Vec<_>>(), ["/b", "/a"]);
    assert_eq!(format!("{routes:?}"), r#"{"/b": "/b", "/a": "/a"}"#);
    assert!(Routes::<()>::new([]).is_ok());
}
