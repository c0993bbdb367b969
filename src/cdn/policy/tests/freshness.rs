//! Freshness and age (RFC 9111, section 4.2; RFC 9213).

use super::*;

/// The freshness lifetime.
fn lifetime(scene: &Scene, pairs: Fields) -> u64 {
    // A validator, so that everything is of use.
    let pairs = [pairs, &[("etag", "\"1\"")]].concat();
    let stored = scene.stored(&pairs);
    stored.lifetime.as_secs()
}

#[test]
fn rfc9111_section_4_2_1_lifetimes_by_precedence() {
    let scene = Scene::new();
    let (later, before) = (&*scene.date(100), &*scene.date(-100));
    for (pairs, expected) in [
        (&[("cache-control", "max-age=60")][..], 60),
        (&[("cache-control", "MaX-aGe=60, foobar")], 60),
        (&[("cache-control", "max-age=\"60\"")], 60),
        (&[("cache-control", "max-age=0060")], 60),
        (&[("cache-control", "max-age=99999999999")], 99_999_999_999),
        (&[("cache-control", "max-age=60, s-maxage=5")], 5),
        (&[("cache-control", "s-maxage=5"), ("cache-control", "max-age=60")], 5),
        (&[("cache-control", "max-age=1, s-maxage=60"), ("expires", before)], 60),
        (&[("cache-control", "max-age=60"), ("expires", before)], 60),
        (&[("cache-control", "max-age=0"), ("expires", later)], 0),
        (&[("expires", later)], 100),
        (&[("expires", before)], 0),
        (&[("cache-control", "x=\"max-age=3600\", max-age=1")], 1),
        // What makes no sense is stale, and nothing less precise stands in for it.
        (&[("cache-control", "max-age=-1"), ("expires", later)], 0),
        (&[("cache-control", "max-age='60'")], 0),
        (&[("cache-control", "max-age=60, max-age=61")], 0),
        (&[("cache-control", "s-maxage=x, max-age=60")], 0),
        (&[("expires", "0"), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], 0),
        (&[("expires", later), ("expires", before)], 0),
    ] {
        assert_eq!(lifetime(&scene, pairs), expected, "{pairs:?}");
    }
}

#[test]
fn rfc9111_section_4_2_1_expires_counts_from_date() {
    let scene = Scene::new();
    let date = |seconds| scene.date(seconds);
    assert_eq!(lifetime(&scene, &[("expires", &date(10)), ("date", &date(-10))]), 20);
    assert_eq!(lifetime(&scene, &[("expires", &date(20)), ("date", &date(10))]), 10);
    assert_eq!(lifetime(&scene, &[("expires", &date(300)), ("date", &date(400))]), 0);
    assert_eq!(lifetime(&scene, &[("expires", &date(10)), ("date", "foo")]), 10);
    assert_eq!(
        lifetime(
            &scene,
            &[("expires", "Fri, 31 Dec 9999 23:59:59 GMT"), ("date", "Sat, 01 Jan 0000 00:00:00 GMT")]
        ),
        315_569_519_999
    );
}

#[test]
fn rfc9111_section_4_2_3_age_is_the_most_that_anything_says() {
    for (age, date, delay, expected) in [
        (None, 0, 0, 0),
        (Some("30"), 0, 0, 30),
        (None, -30, 0, 30),
        (Some("10"), -30, 0, 30),
        (Some("30"), -10, 0, 30),
        (None, 30, 0, 0),
        (Some("30"), 30, 0, 30),
        (Some("30"), 0, 4, 34),
        (None, 0, 4, 4),
        (Some("-30"), 0, 0, 0),
        (Some("30, 7"), 0, 0, 30),
        (Some("99999999999999999999"), 0, 7, 999_999_999_999_999),
    ] {
        let scene = Scene::new();
        let sent = scene.now();
        scene.wait(delay);
        let date = scene.date(date);
        let mut pairs = vec![("cache-control", "max-age=60"), ("etag", "\"1\""), ("date", &*date)];
        pairs.extend(age.map(|age| ("age", age)));
        let stored = scene.policy.store(&get(&[]), &ok(&pairs), sent, scene.now()).unwrap();
        assert_eq!(stored.age(scene.now()), expected, "{age:?} {date} {delay}");
        scene.wait(3);
        assert_eq!(stored.age(scene.now()), (expected + 3).min(999_999_999_999_999));
    }
}

#[test]
fn rfc9111_section_4_2_fresh_is_younger_than_its_lifetime() {
    let scene = Scene::new();
    let stored = scene.stored(&[("cache-control", "max-age=60"), ("age", "10")]);
    assert_eq!(scene.reuse(&stored, &[]), Reuse::Fresh { age: 10 });
    scene.wait(49);
    assert_eq!(scene.reuse(&stored, &[]), Reuse::Fresh { age: 59 });
    assert_eq!(stored.ttl(scene.now()), 1);
    scene.wait(1);
    assert_eq!(scene.reuse(&stored, &[]), Reuse::Validate(Why::Stale));
    scene.wait(7);
    assert_eq!(stored.ttl(scene.now()), -7);
}

#[test]
fn rfc9111_section_4_2_3_a_step_of_the_wall_clock_changes_no_age() {
    let scene = Scene::new();
    let stored = scene.stored(&[("cache-control", "max-age=60")]);
    let then = scene.wait(70).now();
    let stepped = Moment { wall: then.wall - Duration::from_secs(100_000), ..then };
    assert_eq!(stored.age(stepped), 70);
    assert!(!stored.is_fresh(stepped));
    // And an instant before the receipt is no age below zero.
    let before = then.instant.checked_sub(Duration::from_secs(1000)).unwrap();
    assert_eq!(stored.age(Moment { instant: before, ..then }), 0);
}

#[test]
fn rfc9111_section_4_2_2_a_guess_is_a_tenth_of_the_time_since_the_last_change() {
    let scene = Scene::new();
    let guess = |seconds: i64| lifetime(&scene, &[("last-modified", &scene.date(-seconds))]);
    assert_eq!([guess(5), guess(600), guess(86_400), guess(-600)], [0, 60, 8640, 0]);
    assert_eq!(guess(10_000_000), 86_400);
    assert!(scene.stored(&[("last-modified", &scene.date(-600))]).is_heuristic());
    let never = Scene::with(Policy::new().heuristics(0, Duration::MAX));
    assert_eq!(lifetime(&never, &[("last-modified", &scene.date(-600))]), 0);
    let half = Scene::with(Policy::new().heuristics(50, Duration::MAX));
    assert_eq!(lifetime(&half, &[("last-modified", "Sat, 01 Jan 0000 00:00:00 GMT")]), 31_872_528_000);
}

#[test]
fn operators_may_give_times_where_origins_give_none() {
    let scene = Scene::with(
        Policy::new()
            .fallback_ttl(Duration::from_secs(7))
            .negative_ttl(Duration::from_secs(3))
            .max_ttl(Duration::from_secs(50)),
    );
    assert_eq!(lifetime(&scene, &[]), 7);
    assert_eq!(lifetime(&scene, &[("cache-control", "max-age=60")]), 50);
    assert_eq!(lifetime(&scene, &[("cache-control", "max-age=0")]), 0);
    for (status, expected) in [(404, Some(3)), (503, Some(3)), (403, None), (501, Some(3))] {
        let stored = scene.store(&get(&[]), &response(status, &[])).ok();
        assert_eq!(stored.map(|stored| stored.lifetime.as_secs()), expected, "{status}");
    }
    assert_eq!(scene.refused(&[("set-cookie", "a=b")]), Unstorable::SetCookie);
    assert_eq!(scene.refused(&[("cache-control", "no-store")]), Unstorable::NoStore);
}

#[test]
fn rfc9213_section_2_2_a_targeted_field_decides_alone() {
    let scene = Scene::new();
    let later = scene.date(1000);
    let cdn = |cdn, control| {
        let pairs =
            [("cdn-cache-control", cdn), ("cache-control", control), ("expires", &*later), ("etag", "\"1\"")];
        scene.store(&get(&[]), &ok(&pairs)).map(|stored| (stored.lifetime.as_secs(), stored.restraint))
    };
    assert_eq!(cdn("max-age=60", "no-store").unwrap().0, 60);
    assert_eq!(cdn("max-age=60", "private, max-age=5").unwrap().0, 60);
    assert_eq!(cdn("max-age=60", "max-age=1, must-revalidate").unwrap(), (60, terms::Restraint::None));
    assert_eq!(cdn("max-age=0", "max-age=60").unwrap().0, 0);
    assert_eq!(cdn("foo", "max-age=60").unwrap().0, 0);
    assert_eq!(cdn("none", "no-store").unwrap().0, 0);
    assert_eq!(cdn("no-cache", "max-age=60").unwrap().1, terms::Restraint::NoCache);
    assert_eq!(cdn("no-store", "max-age=60").unwrap_err(), Unstorable::NoStore);
    assert_eq!(cdn("private", "max-age=60").unwrap_err(), Unstorable::Private);
    // Not a dictionary, or empty: it is not there.
    assert_eq!(cdn("max-age=10000, &&&&&", "no-store").unwrap_err(), Unstorable::NoStore);
    assert_eq!(cdn("", "max-age=7").unwrap().0, 7);
    assert_eq!(cdn("MaX-aGe=3600", "max-age=7").unwrap().0, 7);
    assert_eq!(cdn("max-age=\"10000\"", "no-store").unwrap().0, 0);
    assert_eq!(cdn("max-age=99999999999", "max-age=1").unwrap().0, 99_999_999_999);
    // It is passed on.
    let stored = scene.stored(&[("cdn-cache-control", "max-age=60"), ("age", "7200")]);
    assert_eq!(stored.header(&HeaderName::from_static("cdn-cache-control")).unwrap(), "max-age=60");
    assert_eq!(scene.reuse(&stored, &[]), Reuse::Validate(Why::Stale));
}

#[test]
fn rfc9213_section_2_2_the_first_field_of_the_target_list_counts() {
    let name = HeaderName::from_static;
    let policy = Policy::new().targets([name("example-cache-control"), name("cdn-cache-control")]);
    let scene = Scene::with(policy);
    let pairs = [
        ("cdn-cache-control", "max-age=2"),
        ("example-cache-control", "max-age=1"),
        ("cache-control", "max-age=3"),
    ];
    assert_eq!(lifetime(&scene, &pairs), 1);
    assert_eq!(lifetime(&scene, &[pairs[0], ("example-cache-control", "?"), pairs[2]]), 2);
    assert_eq!(lifetime(&Scene::with(Policy::new().targets([])), &pairs), 3);
}

#[test]
fn rfc9213_section_2_2_authorization_and_windows_follow_the_targeted_field() {
    let scene = Scene::new();
    let asks = get(&[("authorization", "x")]);
    assert!(scene.store(&asks, &ok(&[("cdn-cache-control", "max-age=60, public")])).is_ok());
    let other = ok(&[("cdn-cache-control", "max-age=60"), ("cache-control", "public")]);
    assert_eq!(scene.store(&asks, &other).unwrap_err(), Unstorable::Authorization);
    let stored = scene.stored(&[("cdn-cache-control", "max-age=1, stale-while-revalidate=10")]);
    scene.wait(5);
    assert_eq!(scene.reuse(&stored, &[]), Reuse::Stale { age: 5, revalidate: true });
}

#[test]
fn edge_architecture_section_2_surrogate_control_decides_behind_targeted_fields() {
    let scene = Scene::new();
    assert_eq!(lifetime(&scene, &[("surrogate-control", "max-age=60"), ("cache-control", "no-store")]), 60);
    assert_eq!(
        lifetime(&scene, &[("surrogate-control", "max-age=60;other"), ("cache-control", "max-age=1")]),
        1
    );
    assert_eq!(
        lifetime(&scene, &[("surrogate-control", "max-age=60"), ("cdn-cache-control", "max-age=2")]),
        2
    );
    assert_eq!(
        scene.refused(&[("surrogate-control", "no-store"), ("cache-control", "max-age=60")]),
        Unstorable::NoStore
    );
    let without = Scene::with(Policy::new().surrogate_control(false));
    assert_eq!(lifetime(&without, &[("surrogate-control", "max-age=60"), ("cache-control", "max-age=1")]), 1);
}
