//! Using what is stored, fresh and stale (RFC 9111, sections 4, 4.2.4 and 5.2.1; RFC 5861; RFC 8246).

use super::*;

const STALE: Reuse = Reuse::Validate(Why::Stale);
const ASKED: Reuse = Reuse::Validate(Why::Request);

#[test]
fn rfc9111_section_5_2_2_4_no_cache_is_validated_even_while_it_is_fresh() {
    let scene = Scene::new();
    for control in
        ["max-age=100, no-cache", "No-CaChE", "max-age=100, no-cache=\"\"", "max-age=100, no-cache foo"]
    {
        let stored = scene.stored(&[("cache-control", control), ("etag", "\"1\"")]);
        assert_eq!(scene.reuse(&stored, &[]), STALE, "{control}");
        assert_eq!(scene.reuse(&stored, &[("cache-control", "max-stale")]), STALE, "{control}");
        assert_eq!(
            scene.policy.on_failure(&stored, &get(&[]), scene.now(), Failure::Unreachable),
            None,
            "{control}"
        );
    }
}

#[test]
fn rfc9111_section_5_2_1_requests_may_ask_for_less_than_the_origin_allows() {
    let scene = Scene::new();
    let stored = scene.stored(&[("cache-control", "max-age=100"), ("age", "40")]);
    let asks = |control: &str| scene.reuse(&stored, &[("cache-control", control)]);
    let fresh = Reuse::Fresh { age: 40 };
    assert_eq!(
        [asks("max-age=40"), asks("max-age=39"), asks("max-age=0"), asks("max-age=x")],
        [fresh, ASKED, ASKED, ASKED]
    );
    assert_eq!([asks("min-fresh=60"), asks("min-fresh=61"), asks("min-fresh=x")], [fresh, ASKED, ASKED]);
    assert_eq!(
        [asks("no-cache"), asks("No-Cache"), asks("no-cache=x"), asks("nothing-to-see-here")],
        [ASKED, ASKED, ASKED, fresh]
    );
    // A stored response is not what no-store is about (section 5.2.1.5).
    assert_eq!([asks("no-store"), asks("only-if-cached"), asks("max-stale=9")], [fresh; 3]);
    assert_eq!(scene.reuse(&stored, &[("pragma", "no-cache")]), ASKED);
    assert_eq!(scene.reuse(&stored, &[("pragma", "no-cache"), ("cache-control", "x")]), fresh);
    assert_eq!(scene.reuse(&stored, &[("pragma", "x-no-cache")]), fresh);
    let deaf = Policy::new().client_directives(false);
    for control in ["no-cache", "max-age=0", "min-fresh=1000"] {
        assert_eq!(deaf.reuse(&stored, &get(&[("cache-control", control)]), scene.now()), fresh);
    }
    assert!(scene.policy.only_if_cached(&get(&[("cache-control", "x, Only-If-Cached")])));
    assert!(!deaf.only_if_cached(&get(&[("cache-control", "only-if-cached")])));
}

#[test]
fn rfc9111_section_5_2_1_2_max_stale_allows_stale_responses() {
    let scene = Scene::new();
    let stored = scene.stored(&[("cache-control", "max-age=60"), ("age", "100")]);
    let asks = |control: &str| scene.reuse(&stored, &[("cache-control", control)]);
    let stale = Reuse::Stale { age: 100, revalidate: false };
    assert_eq!(
        [asks("max-stale=40"), asks("max-stale"), asks("max-stale=39"), asks("max-stale=x")],
        [stale, stale, STALE, STALE]
    );
    assert_eq!(
        [asks("max-stale, max-age=100"), asks("max-stale, max-age=99"), asks("max-stale, no-cache")],
        [stale, STALE, ASKED]
    );
    for forbids in ["must-revalidate", "proxy-revalidate", "s-maxage=60", "must-revalidate=1"] {
        let control = format!("max-age=60, {forbids}");
        let stored = scene.stored(&[("cache-control", &control), ("age", "100"), ("etag", "\"1\"")]);
        assert_eq!(scene.reuse(&stored, &[("cache-control", "max-stale")]), STALE, "{forbids}");
    }
}

#[test]
fn rfc5861_section_3_stale_while_revalidate_opens_a_window() {
    let scene = Scene::new();
    let stored = scene.stored(&[("cache-control", "max-age=10, stale-while-revalidate=5")]);
    assert_eq!(scene.wait(9).reuse(&stored, &[]), Reuse::Fresh { age: 9 });
    assert_eq!(scene.wait(1).reuse(&stored, &[]), Reuse::Stale { age: 10, revalidate: true });
    assert_eq!(scene.wait(5).reuse(&stored, &[]), Reuse::Stale { age: 15, revalidate: true });
    for control in ["no-cache", "max-age=30", "min-fresh=1"] {
        assert!(
            matches!(scene.reuse(&stored, &[("cache-control", control)]), Reuse::Validate(_)),
            "{control}"
        );
    }
    assert_eq!(scene.wait(1).reuse(&stored, &[]), STALE);
}

#[test]
fn rfc9111_section_4_2_4_what_forbids_stale_responses_wins_over_windows() {
    let scene = Scene::new();
    for (forbids, expected) in [
        ("must-revalidate", STALE),
        ("proxy-revalidate", STALE),
        ("no-cache", STALE),
        ("s-maxage=10", Reuse::Stale { age: 12, revalidate: true }),
    ] {
        let control = format!("max-age=10, stale-while-revalidate=60, stale-if-error=60, {forbids}");
        let stored = scene.stored(&[("cache-control", &control), ("age", "12"), ("etag", "\"1\"")]);
        assert_eq!(scene.reuse(&stored, &[]), expected, "{forbids}");
        let used = scene.policy.on_failure(&stored, &get(&[]), scene.now(), Failure::Unreachable);
        assert_eq!(used.is_some(), expected != STALE, "{forbids}");
    }
}

#[test]
fn operators_may_open_windows_where_origins_say_nothing() {
    let minute = Duration::from_secs(60);
    let scene = Scene::with(
        Policy::new()
            .stale_while_revalidate(minute)
            .stale_if_error(minute)
            .stale_if_unreachable(Duration::ZERO),
    );
    let reuse = |control: &str| {
        let stored = scene.stored(&[("cache-control", control), ("age", "20"), ("etag", "\"1\"")]);
        let failed = scene.policy.on_failure(
            &stored,
            &get(&[]),
            scene.now(),
            Failure::Status(StatusCode::INTERNAL_SERVER_ERROR),
        );
        (scene.reuse(&stored, &[]), failed)
    };
    assert_eq!(reuse("max-age=10"), (Reuse::Stale { age: 20, revalidate: true }, Some(20)));
    assert_eq!(reuse("max-age=10, stale-while-revalidate=0, stale-if-error=0"), (STALE, None));
    for forbids in ["max-age=10, must-revalidate", "s-maxage=10", "max-age=10, proxy-revalidate", "no-cache"]
    {
        assert_eq!(reuse(forbids), (STALE, None), "{forbids}");
    }
}

#[test]
fn rfc9111_section_4_2_4_stale_responses_are_used_while_the_origin_cannot_be_reached() {
    let scene = Scene::new();
    let on = |stored: &Stored, failure| scene.policy.on_failure(stored, &get(&[]), scene.now(), failure);
    let status = |status| Failure::Status(StatusCode::from_u16(status).unwrap());
    let stored = scene.stored(&[("cache-control", "max-age=10"), ("age", "12")]);
    for failure in [Failure::Unreachable, status(502), status(503), status(504)] {
        assert_eq!(on(&stored, failure), Some(12), "{failure:?}");
    }
    for failure in [status(500), status(501), status(505), status(404), status(403)] {
        assert_eq!(on(&stored, failure), None, "{failure:?}");
    }
    assert_eq!(
        scene.policy.on_failure(
            &stored,
            &get(&[("cache-control", "no-cache")]),
            scene.now(),
            Failure::Unreachable
        ),
        None
    );
    scene.wait(7 * 24 * 3600);
    assert_eq!(on(&stored, Failure::Unreachable), None);
    for forbids in ["must-revalidate", "proxy-revalidate", "s-maxage=2", "no-cache"] {
        let stored = scene.stored(&[("cache-control", &format!("max-age=2, {forbids}")), ("etag", "\"1\"")]);
        scene.wait(3);
        assert_eq!(on(&stored, Failure::Unreachable), None, "{forbids}");
        assert_eq!(on(&stored, status(503)), None, "{forbids}");
    }
}

#[test]
fn rfc5861_section_4_stale_if_error_covers_four_statuses() {
    let scene = Scene::new();
    let stored = scene.stored(&[("cache-control", "s-maxage=10, stale-if-error=5")]);
    let plain = scene.stored(&[("cache-control", "max-age=10")]);
    let on = |stored: &Stored, asks: Fields, status| {
        scene.policy.on_failure(
            stored,
            &get(asks),
            scene.now(),
            Failure::Status(StatusCode::from_u16(status).unwrap()),
        )
    };
    scene.wait(15);
    for status in [500, 502, 503, 504] {
        assert_eq!(on(&stored, &[], status), Some(15), "{status}");
    }
    assert_eq!(on(&stored, &[], 501), None);
    assert_eq!(on(&plain, &[], 500), None);
    assert_eq!(on(&plain, &[("cache-control", "stale-if-error=5")], 500), Some(15));
    assert_eq!(on(&plain, &[("cache-control", "stale-if-error=4")], 500), None);
    scene.wait(1);
    assert_eq!(on(&stored, &[], 500), None);
}

#[test]
fn rfc5861_section_4_a_window_bounds_what_would_hold_without_one() {
    let scene = Scene::new();
    let stored = scene.stored(&[("cache-control", "max-age=10, stale-if-error=5")]);
    let on = || scene.policy.on_failure(&stored, &get(&[]), scene.now(), Failure::Unreachable);
    scene.wait(15);
    assert_eq!(on(), Some(15));
    scene.wait(1);
    assert_eq!(on(), None);
}

#[test]
fn a_stored_failure_does_not_stand_in_for_a_new_one() {
    let scene = Scene::new();
    let stored = scene
        .store(&get(&[]), &response(503, &[("cache-control", "max-age=1, stale-if-error=100")]))
        .unwrap();
    scene.wait(5);
    assert_eq!(scene.policy.on_failure(&stored, &get(&[]), scene.now(), Failure::Unreachable), None);
}

#[test]
fn rfc8246_section_2_a_reload_does_not_validate_what_is_immutable() {
    let scene = Scene::new();
    let stored = scene.stored(&[("cache-control", "max-age=10, immutable"), ("etag", "\"1\""), ("age", "5")]);
    assert_eq!(scene.reuse(&stored, &[("cache-control", "max-age=0")]), Reuse::Fresh { age: 5 });
    assert_eq!(scene.reuse(&stored, &[("cache-control", "no-cache")]), ASKED);
    scene.wait(5);
    assert_eq!(scene.reuse(&stored, &[("cache-control", "max-age=0")]), STALE);
    assert_eq!(scene.reuse(&stored, &[]), STALE);
}

#[test]
fn what_was_softly_purged_counts_as_stale() {
    let scene = Scene::new();
    let reuse = |control: &str| {
        let stored = scene.stored(&[("cache-control", control), ("etag", "\"1\"")]);
        let failed = scene.policy.on_failure(&stored, &get(&[]), scene.now(), Failure::Unreachable);
        (scene.policy.reuse_purged(&stored, &get(&[]), scene.now()), failed)
    };
    assert_eq!(reuse("max-age=60"), (STALE, Some(0)));
    assert_eq!(
        reuse("max-age=60, stale-while-revalidate=9"),
        (Reuse::Stale { age: 0, revalidate: true }, Some(0))
    );
    assert_eq!(reuse("max-age=60, must-revalidate"), (STALE, None));
}

#[test]
fn rfc9110_section_9_only_get_and_head_are_answered_from_the_cache() {
    let policy = Policy::new();
    for method in ["GET", "HEAD"] {
        assert_eq!(
            policy.bypasses(&request(method, "/", &[("content-length", "0"), ("range", "bytes=0-1")])),
            None
        );
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "M-SEARCH", "CONNECT", "get"] {
        assert_eq!(policy.bypasses(&request(method, "a:1", &[])), Some(Forward::Method), "{method}");
    }
    for field in [
        ("upgrade", "websocket"),
        ("if-match", "\"1\""),
        ("if-unmodified-since", "x"),
        ("content-length", "1"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(policy.bypasses(&get(&[field])), Some(Forward::Bypass), "{field:?}");
    }
}

#[test]
fn rfc9211_section_2_members_are_structured_fields() {
    let mut status = CacheStatus {
        fwd: Some(Forward::Stale),
        fwd_status: Some(StatusCode::NOT_MODIFIED),
        ttl: Some(-7),
        stored: true,
        collapsed: true,
        detail: Some("x"),
        ..CacheStatus::default()
    };
    assert_eq!(
        status.value("buttress"),
        "buttress; fwd=stale; fwd-status=304; ttl=-7; stored; collapsed; detail=x"
    );
    status = CacheStatus { hit: true, ..CacheStatus::default() };
    for (name, expected) in [
        ("a.b:1/2", "a.b:1/2; hit"),
        ("1", "\"1\"; hit"),
        ("a \"b\\\u{e4}\n", "\"a \\\"b\\\\\"; hit"),
        ("", "\"\"; hit"),
    ] {
        assert_eq!(status.value(name), expected);
    }
    for forward in [
        Forward::Bypass,
        Forward::Method,
        Forward::UriMiss,
        Forward::VaryMiss,
        Forward::Miss,
        Forward::Request,
        Forward::Stale,
        Forward::Partial,
    ] {
        let value = CacheStatus { fwd: Some(forward), ..CacheStatus::default() }.value("x");
        assert!(value.to_str().unwrap().ends_with(forward.as_str()));
    }
}

#[cfg(feature = "serde")]
#[test]
fn a_record_keeps_everything_and_the_time_that_passes() {
    let scene = Scene::new();
    let modified = scene.date(-600);
    let pairs = [
        ("cache-control", "max-age=60, stale-while-revalidate=9, s-maxage=60, immutable"),
        ("age", "10"),
        ("vary", "accept-language, foo, bar"),
        ("content-language", "de"),
        ("cache-tag", "a"),
        ("x", "1"),
        ("x", "2"),
        ("last-modified", &modified),
        ("content-length", "7"),
    ];
    let asks = [("accept-language", "de, en"), ("foo", "1, 2")];
    let stored = scene.store(&get(&asks), &ok(&pairs)).unwrap();
    let record = postcard::to_stdvec(&stored.to_record(scene.wait(5).now())).unwrap();
    let read = |now| Stored::from_record(postcard::from_bytes(&record).unwrap(), now).unwrap();
    // The machine restarts, and its monotonic clock with it.
    let later = Moment {
        wall: scene.now().wall + Duration::from_secs(20),
        instant: crate::time::Clock::now(&ManualClock::new()),
    };
    let restored = read(later);
    assert_eq!(restored.age(later), 35);
    assert_eq!(restored.head(0), stored.head(0));
    assert_eq!((restored.tags(), restored.length(), restored.is_immutable), (stored.tags(), Some(7), true));
    assert_eq!(
        (restored.restraint, restored.stale_while_revalidate, restored.date),
        (stored.restraint, stored.stale_while_revalidate, stored.date)
    );
    assert!(
        restored.selects(&fields(&asks))
            && restored.selects(&fields(&[("accept-language", "DE"), ("foo", "1,2")]))
    );
    assert!(!restored.selects(&fields(&[("accept-language", "de, en"), ("foo", "1")])));
    assert!(!restored.selects(&fields(&[asks[0], asks[1], ("bar", "")])));
    // Written in the future: the clock was set back, and nothing tells by how much.
    let before = Moment { wall: scene.now().wall - Duration::from_secs(1), ..later };
    assert!(!read(before).is_fresh(before));
}
