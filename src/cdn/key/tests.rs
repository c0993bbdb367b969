use http::{HeaderValue, Request};
use proptest::prelude::*;

use super::*;

fn request(uri: &str, fields: &[(&'static str, &str)]) -> request::Parts {
    let mut request = Request::get(uri).body(()).unwrap().into_parts().0;
    for (name, value) in fields {
        request.headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    request
}

fn key_with(rules: &CacheKey, uri: &str, fields: &[(&'static str, &str)]) -> String {
    let key = rules.of(&request(uri, fields)).unwrap();
    String::from_utf8(key.as_bytes().to_vec()).unwrap()
}

fn key(uri: &str, fields: &[(&'static str, &str)]) -> String {
    key_with(&CacheKey::new(), uri, fields)
}

#[test]
fn scheme_host_path_and_query_make_the_key() {
    assert_eq!(key("https://example.com/a?b=1", &[]), "https://example.com/a?b=1");
    assert_eq!(key("/a?b", &[("host", "example.com")]), "http://example.com/a?b");
    assert_eq!(key("/", &[]), "http:///", "in process there may be no host");
    let https = CacheKey::new().scheme(Scheme::HTTPS);
    assert_eq!(key_with(&https, "/", &[("host", "a:443")]), "https://a/");
    for (one, other) in [("/a", "/A"), ("/a", "/a?"), ("/a", "/a/"), ("/%61", "/a"), ("/a?b=1", "/a?b=2")] {
        assert_ne!(key(one, &[]), key(other, &[]));
    }
    assert_ne!(key("/", &[("host", "a")]), key("/", &[("host", "b")]), "never the path alone");
    assert_ne!(key("http://a/", &[]), key("https://a/", &[]));
}

#[test]
fn hosts_are_compared_without_case_and_without_the_usual_port() {
    for (uri, host) in
        [("HTTP://Example.COM:80/", None), ("/", Some("EXAMPLE.com")), ("/", Some("example.com:"))]
    {
        let fields: Vec<_> = host.map(|host| ("host", host)).into_iter().collect();
        assert_eq!(key(uri, &fields), "http://example.com/");
    }
    assert_eq!(key("http://example.com:443/", &[]), "http://example.com:443/");
    assert_eq!(key("https://example.com:80/", &[]), "https://example.com:80/");
    assert_eq!(key("http://[::1]:80/", &[]), "http://[::1]/");
}

#[test]
fn an_ambiguous_host_gives_no_key() {
    let cases: [(&str, &[(&str, &str)]); 6] = [
        ("/", &[("host", "a"), ("host", "b")]),
        ("/", &[("host", "a"), ("host", "a")]),
        ("http://a/", &[("host", "b")]),
        ("/", &[("host", "a/b")]),
        ("/", &[("host", "user@a")]),
        ("/", &[("host", "a b")]),
    ];
    for (uri, fields) in cases {
        assert_eq!(CacheKey::new().of(&request(uri, fields)), Err(Unkeyed::Host), "{fields:?}");
    }
    assert_eq!(key("http://a/", &[("host", "A:80")]), "http://a/");
}

#[test]
fn keys_are_bounded() {
    let rules = CacheKey::new().longest(32);
    let long = format!("/{}", "a".repeat(30));
    assert_eq!(rules.of(&request(&long, &[])), Err(Unkeyed::TooLong));
    assert_eq!(rules.of(&request("/", &[("host", &"a".repeat(30))])), Err(Unkeyed::TooLong));
    let rules = rules.cookie("c");
    assert!(rules.of(&request("/", &[("cookie", "c=1; d=2222222222222222222222222222222222222")])).is_ok());
    let long = rules.of(&request("/", &[("cookie", "c=1111111111111111111111111111111111111111")]));
    assert_eq!(long, Err(Unkeyed::TooLong));
}

#[test]
fn fields_that_origins_may_heed_unasked_are_in_the_key() {
    let plain = key("/", &[("host", "a")]);
    for name in TREACHEROUS {
        assert_ne!(key("/", &[("host", "a"), (name, "evil")]), plain, "{name}");
    }
    for value in ["host=evil", "for=1.2.3.4;host=evil", "for=\"a, Proto=gopher", "for=1 ;  HOST=evil"] {
        assert_ne!(key("/", &[("host", "a"), ("forwarded", value)]), plain, "{value}");
    }
    let harmless =
        [("host", "a"), ("forwarded", "for=1.2.3.4"), ("x-forwarded-for", "1.2.3.4"), ("x-request-id", "7")];
    assert_eq!(key("/", &harmless), plain);
    // The order of the fields makes no difference.
    let (one, other) = (("x-host", "1"), ("x-forwarded-host", "2"));
    assert_eq!(key("/", &[one, other]), key("/", &[other, one]));
}

#[test]
fn fields_that_repeat_the_url_make_no_difference() {
    let plain = key("/", &[("host", "a.test")]);
    let repeated = [
        ("host", "a.test"),
        ("x-forwarded-host", "A.test:80"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "1.2.3.4"),
    ];
    assert_eq!(key("/", &repeated), plain);
    for other in
        [("x-forwarded-host", "b.test"), ("x-forwarded-host", "a.test:8080"), ("x-forwarded-proto", "https")]
    {
        assert_ne!(key("/", &[("host", "a.test"), other]), plain, "{other:?}");
    }
}

#[test]
fn chosen_fields_and_cookies_are_in_the_key_and_cannot_pretend() {
    let rules = CacheKey::new().header(HeaderName::from_static("x-tenant")).cookie("ab").cookie("lang");
    let get = |fields: &[(&'static str, &str)]| key_with(&rules, "/", fields);
    assert_eq!(get(&[("x-tenant", "1")]), "http:///\nx-tenant:1");
    assert_ne!(get(&[("x-tenant", "1"), ("x-tenant", "2")]), get(&[("x-tenant", "12")]));
    assert_ne!(get(&[("x-tenant", "")]), get(&[]), "empty is not absent");
    assert_eq!(get(&[("cookie", "x=1; ab=2;lang=de")]), "http:///\ncookie ab=2\ncookie lang=de");
    assert_eq!(get(&[("cookie", "ab=2"), ("cookie", "y=2; lang=de")]), get(&[("cookie", "ab=2; lang=de")]));
    assert_ne!(get(&[("cookie", "ab=1; ab=2")]), get(&[("cookie", "ab=2; ab=1")]), "who reads which?");
    assert_ne!(get(&[("x-tenant", "cookie ab=2")]), get(&[("cookie", "ab=2")]));
    assert_eq!(get(&[("cookie", "AB=1; xab=1; ")]), "http:///");
}

#[test]
fn the_order_of_parameters_is_that_of_their_names() {
    let rules = CacheKey::new().sort_query();
    let query = |query: &str| key_with(&rules, &format!("/?{query}"), &[]);
    assert_eq!(query("b=1&a=2"), "http:///?a=2&b=1");
    assert_eq!(query("b=1&a=2&a=1"), query("a=2&b=1&a=1"));
    assert_ne!(query("a=1&a=2"), query("a=2&a=1"), "which of them counts is the origin's to say");
    // What may be the same name keeps its order.
    for (one, other) in [("a=1&%61=2", "%61=2&a=1"), ("a=1&A=2", "A=2&a=1"), ("a=1&a[]=2", "a[]=2&a=1")] {
        assert_ne!(query(one), query(other));
    }
    assert_ne!(query("b;a=1&a=2"), query("a=2&b;a=1"));
}

#[test]
fn ignored_parameters_are_left_out_and_nothing_that_hides_behind_them() {
    let rules = CacheKey::new().ignore_query(["utm_*", "fbclid"]);
    let query = |query: &str| key_with(&rules, &format!("/?{query}"), &[]);
    assert_eq!(query("utm_source=a&id=1&fbclid=2"), "http:///?id=1");
    assert_eq!(query("fbclid"), "http:///");
    assert_eq!(query("%66bclid=1&utm%5Fx=1"), "http:///");
    assert_eq!(query("fbclid=1;id=evil"), "http:///?fbclid=1;id=evil");
    assert_eq!(query("fbclid=1;utm_x=2"), "http:///");
    assert_eq!(query("FBCLID=1&fbclid2=3"), "http:///?FBCLID=1&fbclid2=3");
}

#[test]
fn of_chosen_parameters_none_is_left_out_that_an_origin_may_take_for_one() {
    let rules = CacheKey::new().only_query(["id", "user_name", "f_*"]);
    let query = |query: &str| key_with(&rules, &format!("/?{query}"), &[]);
    assert_eq!(query("a=1&id=2&b=3"), "http:///?id=2");
    assert_eq!(query("a=1&&b"), "http:///");
    for hidden in [
        "%69d=1",
        "ID=1",
        "id[]=1",
        "id%5B0%5D=1",
        "a=1;id=2",
        "+id=1",
        "%20id=1",
        "id%00x=1",
        "user.name=1",
        "user+name=1",
        "F_x=1",
        "%66_=1",
    ] {
        assert_eq!(query(hidden), format!("http:///?{hidden}"));
    }
    let none = CacheKey::new().only_query(<[&str; 0]>::default());
    assert_eq!(key_with(&none, "/?a=1&b", &[]), "http:///");
}

#[test]
fn the_key_of_a_url_is_that_of_its_requests_without_their_fields() {
    let rules = CacheKey::new().sort_query().cookie("a");
    let wide = rules.of(&request("/x?b&a", &[("host", "H"), ("cookie", "a=1")])).unwrap();
    let narrow = rules.of_uri(&"http://h:80/x?a&b".parse().unwrap(), &HeaderMap::new()).unwrap();
    assert!(wide.is_wide() && !narrow.is_wide());
    assert_eq!(wide.narrow(), narrow);
    assert_eq!(wide.url(), narrow.as_bytes());
    assert_eq!(wide.path(), b"/x?a&b");
    assert_eq!(narrow.hash(), wide.narrow().hash());
}

#[test]
fn prefixes_are_written_as_keys_are() {
    for (prefix, expected) in [
        ("HTTPS://Example.com:443/A", "https://example.com/A"),
        ("http://example.com", "http://example.com/"),
        ("http://example.com?a", "http://example.com/?a"),
        ("/Images", "/Images"),
    ] {
        assert_eq!(CacheKey::prefix(prefix), expected);
    }
}

fn any_rules() -> impl Strategy<Value = CacheKey> {
    let rules = [
        CacheKey::new(),
        CacheKey::new().sort_query(),
        CacheKey::new().sort_query().only_query(["a", "b*"]),
        CacheKey::new().ignore_query(["a", "b*"]).cookie("a").header(HOST),
    ];
    proptest::sample::select(rules.to_vec())
}

proptest! {
    #[test]
    fn no_request_panics_and_no_key_is_longer_than_allowed(
        rules in any_rules(),
        query in "[abAB=&;%\\[\\]+16._*]{0,40}",
        host in proptest::collection::vec(32..=255_u8, 0..20),
        field in proptest::collection::vec(32..=255_u8, 0..20),
        longest in 0..80_usize,
    ) {
        let mut parts = request(&format!("/p?{query}"), &[]);
        for name in ["forwarded", "cookie", "x-host"] {
            parts.headers.insert(name, HeaderValue::from_bytes(&field).unwrap_or(HeaderValue::from_static("a=1")));
        }
        if let Ok(host) = HeaderValue::from_bytes(&host) {
            parts.headers.insert(HOST, host);
        }
        if let Ok(key) = rules.longest(longest).of(&parts) {
            prop_assert!(key.as_bytes().len() <= longest);
            prop_assert!(key.url().ends_with(key.path()));
            prop_assert!(!key.url().contains(&b'\n'));
        }
    }

    /// For the most careful of origins, which compares names byte by byte and the values of each in order.
    #[test]
    fn queries_of_one_key_mean_the_same_to_an_origin(
        one in "([ab]=[12]&){0,3}[ab]",
        other in "([ab]=[12]&){0,3}[ab]",
    ) {
        let rules = CacheKey::new().sort_query();
        let meaning = |query: &str| {
            let mut names: Vec<(String, String)> = query
                .split('&')
                .map(|it| it.split_once('=').map_or((it.into(), String::new()), |(name, value)| (name.into(), value.into())))
                .collect();
            names.sort_by(|a, b| a.0.cmp(&b.0));
            names
        };
        let same = key_with(&rules, &format!("/?{one}"), &[]) == key_with(&rules, &format!("/?{other}"), &[]);
        prop_assert_eq!(same, meaning(&one) == meaning(&other));
    }
}
