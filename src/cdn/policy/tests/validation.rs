//! Validation and updates (RFC 9111, sections 3.2 and 4.3).

use super::*;

#[test]
fn rfc9111_section_4_3_1_validators_take_the_place_of_the_clients_conditions() {
    let scene = Scene::new();
    let modified = scene.date(-600);
    let asks = [
        ("if-none-match", "\"theirs\""),
        ("if-modified-since", "x"),
        ("if-range", "\"x\""),
        ("range", "bytes=0-1"),
        ("abc", "123"),
    ];
    let conditional = |pairs: Fields| {
        let stored = scene.stored(&[&[("cache-control", "max-age=60")], pairs].concat());
        let mut headers = fields(&asks);
        (stored.make_conditional(&mut headers), headers)
    };
    let (made, headers) = conditional(&[("etag", "W/\"1\""), ("last-modified", &modified)]);
    assert!(made);
    assert_eq!(
        (text(&headers, "if-none-match"), text(&headers, "if-modified-since")),
        (Some("W/\"1\""), Some(&*modified))
    );
    assert_eq!(
        (text(&headers, "if-range"), text(&headers, "range"), text(&headers, "abc")),
        (None, None, Some("123"))
    );
    let (made, headers) = conditional(&[("last-modified", &modified)]);
    assert!(made && !headers.contains_key("if-none-match"));
    let (made, headers) = conditional(&[("etag", "unquoted"), ("last-modified", "not a date")]);
    assert!(made && !headers.contains_key("if-modified-since"));
    assert_eq!(text(&headers, "if-none-match"), Some("unquoted"));
    for none in [&[][..], &[("last-modified", "not a date")]] {
        let (made, headers) = conditional(none);
        assert!(!made);
        assert_eq!(headers, fields(&asks));
    }
}

#[test]
fn rfc9111_section_4_3_4_a_304_is_about_what_it_names() {
    let scene = Scene::new();
    let (old, other) = (scene.date(-600), scene.date(-500));
    let is_about = |stored: Fields, pairs: Fields| {
        let stored = scene.stored(&[&[("cache-control", "max-age=60")], stored].concat());
        stored.validated_by(&response(304, pairs))
    };
    let tag = ("etag", "\"1\"");
    assert!(is_about(&[tag], &[tag]) && is_about(&[("etag", "W/\"1\"")], &[("etag", "W/\"1\"")]));
    assert!(is_about(&[tag], &[]) && is_about(&[("last-modified", &old)], &[("last-modified", &old)]));
    assert!(is_about(&[tag, ("last-modified", &old)], &[tag, ("last-modified", &other)]));
    assert!(is_about(&[tag], &[("etag", "W/\"1\"")]) && !is_about(&[("etag", "W/\"1\"")], &[tag]));
    assert!(!is_about(&[tag], &[("etag", "\"2\"")]) && !is_about(&[("last-modified", &old)], &[tag]));
    assert!(!is_about(&[("last-modified", &old)], &[("last-modified", &other)]));
    let stored = scene.stored(&[tag]);
    assert!(!stored.validated_by(&response(200, &[tag])));
}

#[test]
fn rfc9111_section_3_2_a_304_replaces_fields_but_those_of_the_content() {
    let scene = Scene::new();
    let stored = scene.stored(&[
        ("cache-control", "max-age=2"),
        ("etag", "\"1\""),
        ("x", "a"),
        ("x", "b"),
        ("kept", "1"),
        ("content-length", "36"),
        ("content-encoding", "gzip"),
        ("content-type", "text/plain"),
        ("content-foo", "a"),
        ("set-cookie", "a=b"),
        ("content-range", "a"),
        ("age", "1"),
    ]);
    scene.wait(3);
    let refreshed = scene.refresh(
        &stored,
        &[],
        &[
            ("cache-control", "max-age=3600"),
            ("etag", "\"1\""),
            ("x", "c"),
            ("content-length", "10"),
            ("content-encoding", "br"),
            ("content-type", "text/html"),
            ("content-foo", "b"),
            ("new", "1"),
            ("new", "2"),
            ("set-cookie", "a=c"),
            ("content-range", "b"),
            ("connection", "hop"),
            ("hop", "1"),
            ("te", "x"),
        ],
    );
    assert_eq!(refreshed.keep, Keep::Replace);
    let (status, head) = refreshed.stored.head(0);
    assert_eq!(status, 200);
    for (name, expected) in [
        ("cache-control", "max-age=3600"),
        ("x", "c"),
        ("kept", "1"),
        ("content-length", "36"),
        ("content-encoding", "gzip"),
        ("content-type", "text/html"),
        ("content-foo", "b"),
        ("set-cookie", "a=c"),
        ("content-range", "a"),
        ("date", &*scene.date(0)),
    ] {
        assert_eq!(text(&head, name), Some(expected), "{name}");
    }
    assert_eq!(head.get_all("new").iter().count(), 2);
    assert!(!head.contains_key("hop") && !head.contains_key("connection") && !head.contains_key("te"));
    assert_eq!(scene.reuse(&refreshed.stored, &[]), Reuse::Fresh { age: 0 });
    assert_eq!(refreshed.stored.length(), Some(36));
}

#[test]
fn rfc9111_section_4_3_4_a_304_is_as_old_as_it_says_itself() {
    let scene = Scene::new();
    let dated = scene.date(0);
    let stored =
        scene.stored(&[("cache-control", "max-age=60"), ("etag", "\"1\""), ("age", "50"), ("date", &dated)]);
    scene.wait(100);
    let refreshed = scene.refresh(&stored, &[], &[]).stored;
    assert_eq!((refreshed.age(scene.now()), text(&refreshed.head(0).1, "date")), (0, Some(&*scene.date(0))));
    let refreshed = scene.refresh(&stored, &[], &[("age", "7")]).stored;
    assert_eq!(refreshed.age(scene.now()), 7);
    let refreshed = scene.refresh(&stored, &[], &[("date", &scene.date(-9))]).stored;
    assert_eq!(refreshed.age(scene.now()), 9);
}

#[test]
fn rfc9111_section_4_3_4_what_a_304_forbids_is_kept_no_longer() {
    let scene = Scene::new();
    let stored =
        scene.stored(&[("cache-control", "max-age=60"), ("etag", "\"1\""), ("x", "1"), ("connection", "x")]);
    for (field, why) in [
        (("cache-control", "no-store"), Unstorable::NoStore),
        (("cache-control", "private"), Unstorable::Private),
        (("vary", "*"), Unstorable::Vary),
        (("cdn-cache-control", "no-store"), Unstorable::NoStore),
    ] {
        let refreshed = scene.refresh(&stored, &[], &[field]);
        assert_eq!(refreshed.keep, Keep::Remove(why), "{field:?}");
        // This request gets it all the same, with what the 304 said.
        assert_eq!(text(&refreshed.stored.head(0).1, field.0), Some(field.1));
    }
}

#[test]
fn a_304_with_a_cookie_changes_nothing_for_others_where_the_time_is_guessed() {
    let scene = Scene::new();
    let guessed = scene.stored(&[("last-modified", &scene.date(-600)), ("etag", "\"1\"")]);
    let refreshed = scene.refresh(&guessed, &[], &[("set-cookie", "a=b")]);
    assert_eq!(refreshed.keep, Keep::Leave);
    assert!(refreshed.stored.head(0).1.contains_key("set-cookie"));
}

#[test]
fn rfc9111_section_3_5_a_304_to_credentials_changes_nothing_for_others() {
    let scene = Scene::new();
    let stored = scene.stored(&[("cache-control", "max-age=60"), ("etag", "\"1\"")]);
    let credentials = [("authorization", "x")];
    let refreshed = scene.refresh(&stored, &credentials, &[("set-cookie", "a=b")]);
    assert_eq!(refreshed.keep, Keep::Leave);
    assert!(refreshed.stored.head(0).1.contains_key("set-cookie"));
    assert_eq!(
        scene.refresh(&stored, &credentials, &[("cache-control", "max-age=60, public")]).keep,
        Keep::Replace
    );
    assert_eq!(scene.refresh(&stored, &[("cache-control", "no-store")], &[]).keep, Keep::Leave);
}

#[test]
fn rfc9111_section_4_1_a_validated_variant_stays_the_one_it_is() {
    let scene = Scene::new();
    let stored = scene
        .store(
            &get(&[("foo", "1")]),
            &ok(&[("cache-control", "max-age=2"), ("etag", "\"1\""), ("vary", "foo")]),
        )
        .unwrap();
    let refreshed = scene.refresh(&stored, &[("foo", "1")], &[]).stored;
    assert!(refreshed.selects(&fields(&[("foo", "1")])) && !refreshed.selects(&fields(&[("foo", "2")])));
    let refreshed = scene.refresh(&stored, &[("foo", "1"), ("bar", "2")], &[("vary", "bar")]).stored;
    assert!(refreshed.selects(&fields(&[("bar", "2")])) && !refreshed.selects(&fields(&[("bar", "3")])));
}

#[test]
fn rfc9111_section_4_3_5_head_updates_what_it_agrees_with() {
    let scene = Scene::new();
    let modified = scene.date(-600);
    let stored = scene.stored(&[
        ("cache-control", "max-age=2"),
        ("etag", "\"1\""),
        ("last-modified", &modified),
        ("content-length", "7"),
        ("a", "1"),
    ]);
    let head = |status, pairs: Fields| {
        let asks = request("HEAD", "http://a.example/path?query", &[]);
        scene.policy.refresh_by_head(&stored, &asks, &response(status, pairs), scene.now(), scene.now())
    };
    scene.wait(5);
    for pairs in [
        &[("cache-control", "max-age=60"), ("a", "2")][..],
        &[("cache-control", "max-age=60"), ("a", "2"), ("etag", "\"1\""), ("content-length", "7")],
    ] {
        let HeadUpdate::Updated(updated) = head(200, pairs) else { panic!("{pairs:?}") };
        assert_eq!(scene.reuse(&updated, &[]), Reuse::Fresh { age: 0 });
        assert_eq!(text(&updated.head(0).1, "a"), Some("2"));
        assert_eq!(text(&updated.head(0).1, "content-length"), Some("7"));
    }
    for pairs in [
        ("etag", "\"2\""),
        ("last-modified", "x"),
        ("content-length", "8"),
        ("content-length", "x"),
        ("cache-control", "no-store"),
    ] {
        assert!(matches!(head(200, &[pairs]), HeadUpdate::Invalid), "{pairs:?}");
    }
    for status in [404, 410, 304, 500, 203] {
        assert!(matches!(head(status, &[]), HeadUpdate::Unrelated), "{status}");
    }
}

#[test]
fn a_head_that_grows_with_each_304_is_dropped_in_time() {
    let scene = Scene::new();
    let mut stored = scene.stored(&[("cache-control", "max-age=60"), ("etag", "\"1\"")]);
    let long = "x".repeat(1000);
    for n in 0..100 {
        let refreshed = scene.refresh(&stored, &[], &[(&format!("x-{n}"), &long)]);
        if refreshed.keep == Keep::Remove(Unstorable::HeadTooLarge) {
            assert!(n > 60);
            return;
        }
        stored = refreshed.stored;
    }
    panic!("it grows without bounds");
}

#[test]
fn a_cookie_in_a_304_is_for_whoever_asked_unless_it_says_how_long_it_is_fresh() {
    let scene = Scene::new();
    let fresh = ("cache-control", "max-age=60");
    let stored = scene.stored(&[fresh, ("etag", "\"1\"")]);
    let cookie = ("set-cookie", "session=theirs");
    let refreshed = scene.refresh(&stored, &[], &[cookie]);
    assert_eq!(refreshed.keep, Keep::Leave);
    assert_eq!(refreshed.stored.header(&http::header::SET_COOKIE).unwrap(), "session=theirs");
    assert_eq!(scene.refresh(&stored, &[], &[cookie, fresh]).keep, Keep::Replace);
    let unkept = scene.stored(&[("cache-control", "max-age=60, private=\"set-cookie\""), ("etag", "\"1\"")]);
    let refreshed = scene.refresh(&unkept, &[], &[cookie]);
    assert_eq!(refreshed.keep, Keep::Replace);
    assert!(refreshed.stored.header(&http::header::SET_COOKIE).is_none());
}
