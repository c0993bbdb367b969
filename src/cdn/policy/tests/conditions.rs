//! Conditions of clients, answered by the cache (RFC 9111, section 4.3.2; RFC 9110, section 13).

use super::*;

fn is_304(scene: &Scene, stored: Fields, asks: Fields) -> bool {
    let stored = scene.stored(&[&[("cache-control", "max-age=60")], stored].concat());
    stored.precondition(&get(asks)) == Precondition::NotModified
}

#[test]
fn rfc9110_section_13_1_2_if_none_match_compares_weakly() {
    let scene = Scene::new();
    let inm = |tag, asks| is_304(&scene, &[("etag", tag)], &[("if-none-match", asks)]);
    assert!(
        inm("\"abc\"", "\"abc\"")
            && inm("W/\"abc\"", "W/\"abc\"")
            && inm("W/\"abc\"", "\"abc\"")
            && inm("\"abc\"", "W/\"abc\"")
    );
    assert!(
        inm("\"abc\"", "\"abc\", \"1\"")
            && inm("\"abc\"", "\"1\", \"abc\", \"2\"")
            && inm("\"abc\"", "\"1\",\"abc\"")
            && inm("\"abc\"", "*")
    );
    assert!(inm("\"abc\u{fc}\"", "\"abc\u{fc}\"") && inm("abc", "abc") && inm("w/\"abc\"", "w/\"abc\""));
    assert!(!inm("\"abc\"", "\"ABC\"") && !inm("\"abc\"", "abc") && !inm("\"abc\"", ""));
    assert!(
        !is_304(&scene, &[], &[("if-none-match", "\"abc\"")])
            && is_304(&scene, &[], &[("if-none-match", "*")])
    );
    assert!(is_304(&scene, &[("etag", "\"2\"")], &[("if-none-match", "\"1\""), ("if-none-match", "\"2\"")]));
}

#[test]
fn rfc9110_section_13_1_3_if_modified_since_compares_dates() {
    let scene = Scene::new();
    let (modified, before, after) = (&*scene.date(-3000), &*scene.date(-4000), &*scene.date(-2000));
    let ims = |asks: &str| is_304(&scene, &[("last-modified", modified)], &[("if-modified-since", asks)]);
    assert!(ims(modified) && ims(after) && !ims(before));
    assert!(!ims("x") && !ims("") && !ims(&format!("{modified}, {modified}")));
    let asks = [("if-modified-since", before), ("if-modified-since", after)];
    assert!(!is_304(&scene, &[("last-modified", modified)], &asks));
    // 2019-12-31 23:10:00, in the other forms.
    assert!(ims("Tuesday, 31-Dec-19 23:10:00 GMT") && ims("Tue Dec 31 23:10:00 2019"));
}

#[test]
fn rfc9111_section_4_3_2_date_stands_in_for_last_modified() {
    let scene = Scene::new();
    let date = scene.date(-10);
    let ims = |seconds| is_304(&scene, &[("date", &date)], &[("if-modified-since", &scene.date(seconds))]);
    assert!(ims(-10) && ims(0) && !ims(-11));
    assert!(is_304(&scene, &[], &[("if-modified-since", &scene.date(0))]));
}

#[test]
fn rfc9110_section_13_2_2_if_none_match_goes_first() {
    let scene = Scene::new();
    let modified = scene.date(-3000);
    let stored = [("etag", "\"1\""), ("last-modified", &*modified)];
    assert!(is_304(
        &scene,
        &stored,
        &[("if-none-match", "\"1\""), ("if-modified-since", &scene.date(-9000))]
    ));
    assert!(!is_304(&scene, &stored, &[("if-none-match", "\"2\""), ("if-modified-since", &scene.date(0))]));
}

#[test]
fn rfc9110_section_13_2_1_conditions_are_ignored_where_there_is_no_success() {
    let scene = Scene::new();
    let stored = scene
        .store(&get(&[]), &response(404, &[("cache-control", "max-age=60"), ("etag", "\"1\"")]))
        .unwrap();
    assert_eq!(stored.precondition(&get(&[("if-none-match", "\"1\"")])), Precondition::Send);
}

#[test]
fn rfc9110_section_15_4_5_a_304_has_what_guides_caches() {
    let scene = Scene::new();
    let date = scene.date(-5);
    let modified = scene.date(-600);
    let pairs = [
        ("cache-control", "max-age=60"),
        ("content-location", "/x"),
        ("date", &*date),
        ("etag", "\"1\""),
        ("expires", &*date),
        ("vary", "x"),
        ("last-modified", &*modified),
        ("content-length", "7"),
        ("content-type", "text/plain"),
        ("content-encoding", "gzip"),
        ("content-language", "de"),
        ("access-control-allow-origin", "*"),
    ];
    let (status, head) = scene.stored(&pairs).not_modified(5);
    assert_eq!(status, 304);
    let mut names: Vec<_> = head.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "access-control-allow-origin",
            "age",
            "cache-control",
            "content-location",
            "date",
            "etag",
            "expires",
            "vary"
        ]
    );
    let (_, head) =
        scene.stored(&[("last-modified", &modified), ("cache-control", "max-age=1")]).not_modified(5);
    assert!(head.contains_key("last-modified"));
}
