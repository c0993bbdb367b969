//! Ranges and parts (RFC 9110, sections 13.1.5 and 14; RFC 9111, sections 3.3 and 3.4).

use super::*;

fn range(stored: &Stored, asks: Fields) -> RangeAnswer {
    stored.range(&get(asks), 11)
}

#[test]
fn rfc9110_section_14_2_ranges_are_answered_from_the_whole() {
    let scene = Scene::new();
    let stored = scene.stored(&[("cache-control", "max-age=60"), ("content-length", "11"), ("a", "1")]);
    assert_eq!(range(&stored, &[("range", "bytes=0-1")]), RangeAnswer::Part(0..2));
    assert_eq!(range(&stored, &[("range", "bytes=1-")]), RangeAnswer::Part(1..11));
    assert_eq!(range(&stored, &[("range", "bytes=-1")]), RangeAnswer::Part(10..11));
    assert_eq!(range(&stored, &[("range", "bytes=5-99")]), RangeAnswer::Part(5..11));
    assert_eq!(range(&stored, &[("range", "bytes=11-")]), RangeAnswer::Unsatisfiable);
    for whole in ["", "bytes=0-1,3-4", "x=0-1", "bytes=1-0", "bytes"] {
        assert_eq!(range(&stored, &[("range", whole)]), RangeAnswer::Whole, "{whole}");
    }
    assert_eq!(range(&stored, &[("range", "bytes=0-1"), ("range", "bytes=0-1")]), RangeAnswer::Whole);
    assert_eq!(stored.range(&request("HEAD", "/", &[("range", "bytes=0-1")]), 11), RangeAnswer::Whole);
    let (status, head) = stored.part_head(&(0..2), Some(11), 3);
    assert_eq!(status, 206);
    for (name, expected) in
        [("content-range", "bytes 0-1/11"), ("content-length", "2"), ("a", "1"), ("age", "3")]
    {
        assert_eq!(text(&head, name), Some(expected));
    }
    assert_eq!(text(&stored.part_head(&(4..9), None, 3).1, "content-range"), Some("bytes 4-8/*"));
    let (status, head) = stored.unsatisfiable_head(11, 3);
    assert_eq!(
        (status.as_u16(), text(&head, "content-range"), text(&head, "content-length")),
        (416, Some("bytes */11"), Some("0"))
    );
    let gone = scene.store(&get(&[]), &response(404, &[("cache-control", "max-age=60")])).unwrap();
    assert_eq!(range(&gone, &[("range", "bytes=0-1")]), RangeAnswer::Whole);
}

#[test]
fn rfc9110_section_13_1_5_if_range_compares_strongly() {
    let scene = Scene::new();
    let (modified, recent) = (scene.date(-600), scene.date(-10));
    let is_part = |stored: Fields, condition: &str| {
        let stored = scene.stored(&[&[("cache-control", "max-age=60")], stored].concat());
        range(&stored, &[("range", "bytes=0-1"), ("if-range", condition)]) == RangeAnswer::Part(0..2)
    };
    assert!(is_part(&[("etag", "\"1\"")], "\"1\"") && is_part(&[("last-modified", &modified)], &modified));
    assert!(
        !is_part(&[("etag", "\"1\"")], "\"2\"")
            && !is_part(&[("etag", "W/\"1\"")], "W/\"1\"")
            && !is_part(&[("etag", "\"1\"")], "W/\"1\"")
    );
    assert!(
        !is_part(&[("last-modified", &modified)], &scene.date(0))
            && !is_part(&[("last-modified", &recent)], &recent)
    );
    assert!(!is_part(&[], "") && !is_part(&[], "x") && !is_part(&[("etag", "x")], "x"));
}

fn part_of(scene: &Scene, asks: Fields, status: u16, pairs: Fields) -> Result<Stored, Unstorable> {
    let pairs = [&[("cache-control", "max-age=60")], pairs].concat();
    scene.store(&get(asks), &response(status, &pairs))
}

#[test]
fn rfc9111_section_3_3_parts_are_stored_as_what_they_are() {
    let scene = Scene::new();
    let asks = [("range", "bytes=-5")];
    let stored = part_of(
        &scene,
        &asks,
        206,
        &[("content-range", "bytes 5-9/10"), ("content-length", "5"), ("x", "1")],
    )
    .unwrap();
    assert_eq!(stored.part(), Some(&Part { range: 5..10, complete: Some(10) }));
    let (status, head) = stored.head(0);
    assert_eq!(
        (status.as_u16(), text(&head, "content-range"), text(&head, "content-length"), stored.length()),
        (200, None, Some("10"), Some(10))
    );
    let unknown =
        part_of(&scene, &asks, 206, &[("content-range", "bytes 5-9/*"), ("content-length", "5")]).unwrap();
    assert_eq!((unknown.length(), text(&unknown.head(0).1, "content-length")), (None, None));
    assert_eq!(unknown.range_of_unknown(&get(&[("range", "bytes=6-7")])), Some(6..8));
    for unclear in ["bytes=6-", "bytes=-1", "bytes=0-18446744073709551615"] {
        assert_eq!(unknown.range_of_unknown(&get(&[("range", unclear)])), None);
    }
}

#[test]
fn rfc9111_section_3_3_parts_that_make_no_sense_are_not_stored() {
    let scene = Scene::new();
    let asks = [("range", "bytes=0-1")];
    let ok = ("content-range", "bytes 0-1/10");
    for (asks, pairs) in [
        (&[][..], &[ok][..]),
        (&asks[..], &[][..]),
        (&asks, &[("content-range", "bytes */10")]),
        (&asks, &[ok, ok]),
        (&asks, &[ok, ("content-type", "Multipart/byteranges; boundary=x")]),
        (&asks, &[ok, ("content-length", "3")]),
        (&asks, &[ok, ("content-length", "0")]),
        (&asks, &[ok, ("content-length", "2"), ("content-length", "2")]),
    ] {
        assert_eq!(part_of(&scene, asks, 206, pairs).unwrap_err(), Unstorable::Partial, "{pairs:?}");
    }
    assert_eq!(
        part_of(&scene, &asks, 416, &[("content-range", "bytes */10")]).unwrap_err(),
        Unstorable::Status
    );
}

#[test]
fn an_end_that_was_counted_wrongly_is_where_the_content_ends() {
    let part = |range, complete| Part { range, complete };
    assert_eq!(part(4..10, Some(10)).with_content(6), Some(part(4..10, Some(10))));
    assert_eq!(part(4..10, Some(10)).with_content(5), Some(part(4..9, Some(9))));
    assert_eq!(part(4..10, Some(20)).with_content(5), Some(part(4..9, Some(20))));
    assert_eq!(part(4..10, None).with_content(5), Some(part(4..9, None)));
    assert_eq!(part(4..10, Some(10)).with_content(7), None);
    assert_eq!(part(4..10, Some(10)).with_content(0), None);
    assert_eq!(part(4..10, Some(10)).with_content(u64::MAX), None);
    assert!(
        part(0..10, Some(10)).is_whole()
            && !part(0..10, None).is_whole()
            && !part(1..10, Some(10)).is_whole()
    );
}

#[test]
fn rfc9111_section_3_4_parts_are_combined_if_they_share_a_strong_validator() {
    let scene = Scene::new();
    let (modified, recent) = (scene.date(-600), scene.date(-10));
    let combined = |old: Fields, new: Fields| {
        let asks = [("range", "bytes=0-1")];
        let old = part_of(
            &scene,
            &asks,
            206,
            &[&[("content-range", "bytes 0-1/10"), ("x", "old"), ("y", "old")], old].concat(),
        )
        .unwrap();
        let new =
            part_of(&scene, &asks, 206, &[&[("content-range", "bytes 2-9/10"), ("x", "new")], new].concat())
                .unwrap();
        scene.policy.combine(&old, &new)
    };
    let tag = ("etag", "\"1\"");
    let stored = combined(&[tag], &[tag]).unwrap();
    let (_, head) = stored.head(0);
    assert_eq!(
        (text(&head, "x"), text(&head, "y"), text(&head, "content-length"), text(&head, "content-range")),
        (Some("new"), Some("old"), Some("10"), None)
    );
    assert!(combined(&[("last-modified", &modified)], &[("last-modified", &modified)]).is_some());
    for (old, new) in [
        (&[][..], &[][..]),
        (&[tag], &[]),
        (&[], &[tag]),
        (&[tag], &[("etag", "\"2\"")]),
        (&[("etag", "W/\"1\"")], &[("etag", "W/\"1\"")]),
        (&[tag], &[("etag", "W/\"1\"")]),
        (&[("last-modified", &recent)], &[("last-modified", &recent)]),
        (&[("last-modified", &modified)], &[("last-modified", &recent)]),
    ] {
        assert!(combined(old, new).is_none(), "{old:?} {new:?}");
    }
    let asks = [("range", "bytes=0-1")];
    let short = part_of(&scene, &asks, 206, &[("content-range", "bytes 0-1/10"), tag]).unwrap();
    let long = part_of(&scene, &asks, 206, &[("content-range", "bytes 2-10/11"), tag]).unwrap();
    assert!(scene.policy.combine(&short, &long).is_none());
}

#[test]
fn rfc9111_section_3_4_what_is_missing_is_asked_for_by_range() {
    let scene = Scene::new();
    let asks = [("range", "bytes=-5"), ("if-none-match", "x"), ("a", "1")];
    let ask = |pairs: Fields, missing| {
        let stored =
            part_of(&scene, &asks, 206, &[&[("content-range", "bytes 0-4/10")], pairs].concat()).unwrap();
        let mut headers = fields(&asks);
        let has_validator = stored.ask_for(&mut headers, &missing);
        assert_eq!((text(&headers, "if-none-match"), text(&headers, "a")), (None, Some("1")));
        (
            has_validator,
            text(&headers, "range").unwrap().to_owned(),
            text(&headers, "if-range").map(str::to_owned),
        )
    };
    assert_eq!(ask(&[], 5..10), (false, "bytes=5-".into(), None));
    assert_eq!(ask(&[], 5..u64::MAX), (false, "bytes=5-".into(), None));
    assert_eq!(ask(&[("etag", "\"1\"")], 5..7), (true, "bytes=5-6".into(), Some("\"1\"".into())));
    assert_eq!(ask(&[("etag", "W/\"1\"")], 5..7), (false, "bytes=5-6".into(), None));
    let modified = scene.date(-600);
    assert_eq!(
        ask(&[("last-modified", &modified)], 5..7),
        (true, "bytes=5-6".into(), Some(modified.clone()))
    );
}
