//! Storing responses (RFC 9111, section 3).

use super::*;

#[test]
fn rfc9111_section_3_answers_to_get_are_stored_and_few_others() {
    let scene = Scene::new();
    let fresh = ok(&[("cache-control", "max-age=60")]);
    for method in ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "POST", "QUERY", "get"] {
        let refused = scene.store(&request(method, "http://a/", &[]), &fresh).unwrap_err();
        assert_eq!(refused, Unstorable::Method, "{method}");
    }
    assert!(scene.store(&get(&[]), &fresh).is_ok());
}

#[test]
fn rfc9110_section_9_3_3_an_answer_to_post_about_its_target_serves_later_gets() {
    let scene = Scene::new();
    let store = |uri, location, control, status| {
        let response = response(status, &[("content-location", location), ("cache-control", control)]);
        scene.store(&request("POST", uri, &[("content-length", "5"), ("host", "a.example")]), &response)
    };
    for location in [
        "/path",
        "",
        "path",
        "./path",
        "../path",
        "http://a.example/path",
        "//A.example:80/path",
        "/path#part",
    ] {
        let stored = store("http://a.example/path", location, "max-age=60", 200);
        assert!(stored.is_ok(), "{location}");
    }
    assert!(store("/path", "http://a.example/path", "max-age=60", 200).is_ok());
    for location in [
        "/path?query",
        "/other",
        "http://b.example/path",
        "https://a.example/path",
        "http://a.example:81/path",
        "/path/",
    ] {
        assert_eq!(
            store("http://a.example/path", location, "max-age=60", 200).unwrap_err(),
            Unstorable::Method,
            "{location}"
        );
    }
    assert_eq!(store("/path", "/path", "public", 200).unwrap_err(), Unstorable::Method);
    assert_eq!(store("/path", "/path", "max-age=60", 201).unwrap_err(), Unstorable::Method);
    let without = ok(&[("cache-control", "max-age=60")]);
    assert_eq!(scene.store(&request("POST", "/path", &[]), &without).unwrap_err(), Unstorable::Method);
    let twice =
        ok(&[("cache-control", "max-age=60"), ("content-location", "/path"), ("content-location", "/other")]);
    assert_eq!(scene.store(&request("POST", "/path", &[]), &twice).unwrap_err(), Unstorable::Method);
}

#[test]
fn rfc9111_section_3_any_final_status_is_stored_if_the_response_says_so() {
    let scene = Scene::new();
    for status in [
        200, 201, 202, 203, 204, 299, 300, 301, 302, 303, 307, 308, 400, 403, 404, 410, 451, 499, 500, 502,
        503, 504, 599, 999,
    ] {
        for control in ["max-age=60", "s-maxage=60"] {
            assert!(scene.is_hit(&response(status, &[("cache-control", control)])), "{status} {control}");
        }
        assert!(scene.is_hit(&response(status, &[("expires", &scene.date(60))])), "{status}");
        let stale = response(status, &[("expires", &scene.date(-60)), ("last-modified", &scene.date(-6000))]);
        assert!(!scene.is_hit(&stale), "{status}");
    }
}

#[test]
fn rfc9111_section_3_statuses_that_tell_of_one_request_are_never_stored() {
    let scene = Scene::new();
    // RFC 6585 forbids to store 428, 429, 431 and 511.
    for status in [100, 101, 102, 103, 199, 304, 407, 408, 412, 416, 417, 421, 425, 428, 429, 431, 511] {
        let refused = scene.store(&get(&[]), &response(status, &[("cache-control", "max-age=60, public")]));
        assert_eq!(refused.unwrap_err(), Unstorable::Status, "{status}");
    }
}

#[test]
fn rfc9111_section_4_2_2_only_some_statuses_are_cacheable_by_themselves() {
    let scene = Scene::new();
    let modified = scene.date(-86_400);
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451, 501] {
        assert!(scene.is_hit(&response(status, &[("last-modified", &modified)])), "{status}");
    }
    for status in [201, 202, 302, 303, 307, 400, 401, 403, 500, 502, 503, 504, 599] {
        let plain =
            scene.store(&get(&[]), &response(status, &[("last-modified", &modified), ("etag", "\"1\"")]));
        assert_eq!(plain.unwrap_err(), Unstorable::NoFreshness, "{status}");
        let public = response(status, &[("last-modified", &modified), ("cache-control", "public")]);
        assert!(scene.is_hit(&public), "{status}");
    }
}

#[test]
fn rfc9111_section_5_2_2_5_no_store_wins_over_everything() {
    let scene = Scene::new();
    let expires = scene.date(60);
    for control in [
        "no-store",
        "NO-STORE",
        "max-age=60, no-store",
        "no-store, public, s-maxage=60",
        "x=\"a, no-store",
        "no-store=1",
    ] {
        assert_eq!(
            scene.refused(&[("cache-control", control), ("expires", &expires)]),
            Unstorable::NoStore,
            "{control}"
        );
    }
    assert_eq!(
        scene.refused(&[("cache-control", "max-age=60"), ("cache-control", "No-Store")]),
        Unstorable::NoStore
    );
    assert_eq!(scene.refused(&[("cache-control", "\u{e4}=1, no-store, max-age=60")]), Unstorable::NoStore);
}

#[test]
fn rfc9111_section_5_2_2_7_what_is_private_is_not_stored() {
    let scene = Scene::new();
    for control in [
        "private, max-age=60",
        "max-age=60, Private",
        "public, private, s-maxage=60",
        "private=\"\", max-age=60",
    ] {
        assert_eq!(scene.refused(&[("cache-control", control)]), Unstorable::Private, "{control}");
    }
    let stored = scene.stored(&[
        ("cache-control", "max-age=60, private=\"X-User, x-b\""),
        ("x-user", "1"),
        ("x-b", "1"),
        ("x-c", "1"),
    ]);
    let (_, head) = stored.head(0);
    assert!(!head.contains_key("x-user") && !head.contains_key("x-b") && head.contains_key("x-c"));
}

#[test]
fn rfc9111_section_5_2_2_4_fields_that_no_cache_names_are_not_kept() {
    let scene = Scene::new();
    let stored = scene.stored(&[
        ("cache-control", "no-cache=\"a, b\""),
        ("cache-control", "max-age=3600"),
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
    ]);
    assert!(matches!(scene.reuse(&stored, &[]), Reuse::Fresh { .. }));
    let (_, head) = stored.head(0);
    assert_eq!((text(&head, "a"), text(&head, "b"), text(&head, "c")), (None, None, Some("3")));
}

#[test]
fn rfc9111_section_5_2_2_3_must_understand_takes_the_place_of_no_store() {
    let scene = Scene::new();
    let control = [("cache-control", "max-age=3600, no-store, must-understand")];
    assert!(scene.is_hit(&response(200, &control)) && scene.is_hit(&response(404, &control)));
    for status in [299, 499, 599] {
        assert_eq!(
            scene.store(&get(&[]), &response(status, &control)).unwrap_err(),
            Unstorable::Status,
            "{status}"
        );
    }
    // Without no-store it asks the same.
    let alone = response(599, &[("cache-control", "max-age=3600, must-understand")]);
    assert_eq!(scene.store(&get(&[]), &alone).unwrap_err(), Unstorable::Status);
    assert_eq!(scene.refused(&[("cache-control", "no-store, must-understand=1")]), Unstorable::NoStore);
    assert_eq!(
        scene.refused(&[("cache-control", "no-store, must-understand, private, max-age=9")]),
        Unstorable::Private
    );
}

#[test]
fn rfc9111_section_3_5_what_was_asked_for_with_credentials_is_shared_only_if_it_says_so() {
    let scene = Scene::new();
    let store =
        |control| scene.store(&get(&[("authorization", "Basic eA==")]), &ok(&[("cache-control", control)]));
    for control in ["max-age=60, public", "max-age=60, must-revalidate", "s-maxage=60"] {
        assert!(store(control).is_ok(), "{control}");
    }
    for control in [
        "max-age=60",
        "max-age=60, proxy-revalidate",
        "max-age=60, s-maxage=x",
        "max-age=60, public=1",
        "max-age=60, x=\"public\"",
    ] {
        assert_eq!(store(control).unwrap_err(), Unstorable::Authorization, "{control}");
    }
}

#[test]
fn rfc9111_section_7_3_cookies_are_stored_only_where_the_origin_gives_a_time() {
    let store = |set_cookie, pairs: Fields| {
        let scene = Scene::with(Policy::new().set_cookie(set_cookie).fallback_ttl(Duration::from_secs(60)));
        let pairs = [
            pairs,
            &[
                ("set-cookie", "a=b"),
                ("set-cookie", "c=d"),
                ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ],
        ]
        .concat();
        scene.store(&get(&[]), &ok(&pairs)).map(|stored| stored.headers.get_all("set-cookie").iter().count())
    };
    let explicit = [("cache-control", "max-age=60")];
    assert_eq!(store(SetCookie::Explicit, &explicit), Ok(2));
    assert_eq!(store(SetCookie::Explicit, &[]), Err(Unstorable::SetCookie));
    assert_eq!(store(SetCookie::Explicit, &[("cache-control", "public")]), Err(Unstorable::SetCookie));
    assert_eq!(store(SetCookie::Refuse, &explicit), Err(Unstorable::SetCookie));
    assert_eq!(store(SetCookie::Strip, &explicit), Ok(0));
    assert_eq!(store(SetCookie::Explicit, &[("cache-control", "max-age=60, private=\"set-cookie\"")]), Ok(0));
}

#[test]
fn rfc9111_section_5_2_1_5_no_store_of_a_request_keeps_its_response_out() {
    let asks = get(&[("cache-control", "no-store")]);
    let fresh = ok(&[("cache-control", "max-age=60")]);
    assert_eq!(Scene::new().store(&asks, &fresh).unwrap_err(), Unstorable::RequestNoStore);
    assert!(Scene::with(Policy::new().client_directives(false)).store(&asks, &fresh).is_ok());
}

#[test]
fn rfc9111_section_4_1_what_varies_on_everything_is_not_stored() {
    let scene = Scene::new();
    for vary in ["*", "foo, *", ", *", "*, *", "foo bar"] {
        assert_eq!(
            scene.refused(&[("cache-control", "max-age=60"), ("vary", vary)]),
            Unstorable::Vary,
            "{vary}"
        );
    }
}

#[test]
fn rfc9111_section_3_what_is_of_no_use_is_not_stored() {
    let scene = Scene::new();
    for pairs in [
        &[][..],
        &[("cache-control", "no-cache")],
        &[("cache-control", "max-age=0")],
        &[("cache-control", "no-cache, max-age=60")],
        &[("cache-control", "public")],
        &[("expires", "0")],
        &[("pragma", "no-cache")],
        &[("last-modified", "yesterday")],
        &[("cache-control", "must-revalidate, max-age=60"), ("age", "70")],
    ] {
        assert_eq!(scene.refused(pairs), Unstorable::NoFreshness, "{pairs:?}");
    }
    for pairs in [
        &[("cache-control", "no-cache"), ("etag", "\"1\"")][..],
        &[("etag", "\"1\"")],
        &[("cache-control", "max-age=0, stale-while-revalidate=9")],
        &[("cache-control", "max-age=60"), ("age", "70")],
        &[("cache-control", "max-age=0"), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
    ] {
        assert!(scene.store(&get(&[]), &ok(pairs)).is_ok(), "{pairs:?}");
    }
}

#[test]
fn rfc9111_section_3_1_fields_for_one_hop_are_not_stored() {
    let scene = Scene::new();
    let stored = scene.stored(&[
        ("cache-control", "max-age=60"),
        ("connection", "a, B"),
        ("a", "1"),
        ("b", "1"),
        ("c", "1"),
        ("keep-alive", "x"),
        ("proxy-authenticate", "x"),
        ("proxy-authentication-info", "x"),
        ("proxy-authorization", "x"),
        ("proxy-connection", "x"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "x"),
        ("set-cookie2", "x"),
        ("content-range", "random"),
        ("link", "1"),
        ("link", "2"),
    ]);
    let (_, head) = stored.head(7);
    let mut names: Vec<_> = head.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["age", "c", "cache-control", "content-range", "date", "link", "set-cookie2"]);
    assert_eq!(head.get_all("link").iter().count(), 2);
    assert_eq!(text(&head, "age"), Some("7"));
}

#[test]
fn rfc9110_section_6_6_1_a_response_without_a_date_gets_that_of_its_receipt() {
    let scene = Scene::new();
    let now = scene.date(0);
    assert_eq!(text(&scene.stored(&[("cache-control", "max-age=60")]).head(0).1, "date"), Some(&*now));
    assert_eq!(
        text(&scene.stored(&[("cache-control", "max-age=60"), ("date", "foo")]).head(0).1, "date"),
        Some(&*now)
    );
    let dated = scene.date(-5);
    let stored = scene.stored(&[("cache-control", "max-age=60"), ("date", &dated)]);
    scene.wait(9);
    assert_eq!(text(&stored.head(14).1, "date"), Some(&*dated));
}

#[test]
fn requests_that_may_be_something_else_poison_nothing() {
    let scene = Scene::new();
    let fresh = ok(&[("cache-control", "max-age=60")]);
    for field in [
        ("x-http-method-override", "DELETE"),
        ("x-method-override", "PUT"),
        ("x-http-method", "HEAD"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("content-length", "5"),
        ("content-length", "00"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(scene.store(&get(&[field]), &fresh).unwrap_err(), Unstorable::UnkeyedInput, "{field:?}");
    }
    assert!(scene.store(&get(&[("content-length", "0")]), &fresh).is_ok());
}

#[test]
fn rfc9211_section_2_what_the_cache_did_is_told_behind_what_others_did() {
    let scene = Scene::new();
    let told = |pairs: Fields| {
        let stored = scene.stored(&[&[("cache-control", "max-age=60")], pairs].concat());
        let (_, head) = stored.head_with(7, HeaderValue::from_static("us; hit"));
        assert_eq!(text(&head, "age"), Some("7"));
        let name = HeaderName::from_static("cache-status");
        assert_eq!(stored.head(7).1.get_all(&name).iter().count(), pairs.len());
        assert_eq!(stored.header(&name).is_some(), !pairs.is_empty());
        head.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(told(&[]), ["us; hit"]);
    assert_eq!(
        told(&[("cache-status", "a; hit"), ("cache-status", "b; hit")]),
        ["a; hit", "b; hit", "us; hit"]
    );
    let stored = scene.stored(&[("cache-control", "max-age=60"), ("etag", "\"1\"")]);
    let refreshed = scene.refresh(&stored, &[], &[]).stored;
    for (_, head) in [
        refreshed.head(0),
        refreshed.not_modified(0),
        refreshed.part_head(&(0..1), None, 0),
        refreshed.unsatisfiable_head(1, 0),
    ] {
        assert_eq!(text(&head, "cache-status"), None);
    }
}

#[test]
fn rfc9112_section_6_3_what_is_framed_in_two_ways_is_not_stored() {
    let scene = Scene::new();
    for framing in [
        &[("content-length", "5"), ("content-length", "6")][..],
        &[("content-length", "5"), ("transfer-encoding", "chunked")],
        &[("content-length", "+5")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", "X-GZIP;a")],
    ] {
        let pairs = [&[("cache-control", "max-age=60")], framing].concat();
        assert_eq!(scene.refused(&pairs), Unstorable::Framing, "{framing:?}");
    }
}

#[test]
fn heads_are_bounded() {
    let scene = Scene::with(Policy::new().max_head(1000));
    let long = "x".repeat(1000);
    assert_eq!(scene.refused(&[("cache-control", "max-age=60"), ("x", &long)]), Unstorable::HeadTooLarge);
}

#[test]
fn tags_are_read_from_both_fields_each_once() {
    let scene = Scene::new();
    let stored = scene.stored(&[
        ("cache-control", "max-age=60"),
        ("cache-tag", "b, a b,,c"),
        ("cache-tag", "a"),
        ("surrogate-key", "c d  e"),
        ("surrogate-key", ""),
    ]);
    let tags: Vec<_> = stored.tags().iter().map(|tag| std::str::from_utf8(tag).unwrap()).collect();
    assert_eq!(tags, ["a", "a b", "b", "c", "d", "e"]);
    let plain = scene.stored(&[("cache-control", "max-age=60")]);
    assert!(plain.tags().is_empty() && plain.weight() < stored.weight());
}

#[test]
fn every_reason_has_a_word() {
    for reason in [
        Unstorable::Method,
        Unstorable::Status,
        Unstorable::NoStore,
        Unstorable::Private,
        Unstorable::RequestNoStore,
        Unstorable::Authorization,
        Unstorable::SetCookie,
        Unstorable::Vary,
        Unstorable::NoFreshness,
        Unstorable::Partial,
        Unstorable::Framing,
        Unstorable::UnkeyedInput,
        Unstorable::HeadTooLarge,
    ] {
        assert_eq!(reason.to_string(), reason.as_str());
    }
}
