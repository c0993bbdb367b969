//! Tests of the directives.

use http::HeaderValue;

use super::*;

fn response(lines: &[&[u8]]) -> ResponseDirectives {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(CACHE_CONTROL, HeaderValue::from_bytes(line).unwrap());
    }
    ResponseDirectives::read(&headers)
}

fn one(line: &str) -> ResponseDirectives {
    response(&[line.as_bytes()])
}

fn request(pairs: &[(&'static str, &str)]) -> RequestDirectives {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().unwrap());
    }
    RequestDirectives::read(&headers)
}

#[test]
fn rfc9111_section_5_2_directives_are_read_from_all_lines_in_any_case() {
    let read =
        response(&[b"Max-Age=3600, PUBLIC", b"s-MaxAge=\"60\" ,foo=bar", b"Must-Understand,immutable"]);
    assert_eq!((read.max_age, read.s_maxage), (Delta::Seconds(3600), Delta::Seconds(60)));
    assert!(read.public && read.must_understand && read.immutable && read.lets_share);
    assert!(!read.no_store && !read.must_revalidate && !read.private.is_all());
}

#[test]
fn rfc9111_section_5_2_2_5_no_store_counts_however_it_is_written() {
    for line in [
        "no-store",
        "No-StOrE",
        "max-age=1, no-store",
        "no-store,max-age=1",
        ", ,no-store",
        "no-store=1",
        "no-store=\"a, b\"",
        "no-store;x",
        "no-store foo",
        "\"no-store\"",
        "\"no-store",
        "foo=\"bar, no-store",
        "foo=\"bar\\\", no-store",
        "=no-store",
        "no-store=",
        "\tno-store\t",
        "foo=\"a\", no-store, bar=\"",
    ] {
        assert!(one(line).no_store, "{line}");
    }
    for line in [&b"no-store\xff"[..], b"\xffno-store", b"\xe4, no-store", b"a=\xff\xfe,no-store"] {
        assert!(response(&[line]).no_store, "{line:?}");
    }
    assert!(response(&[b"max-age=5", b"", b"no-store"]).no_store);
    for line in
        ["no-stores", "xno-store", "foo=\"no-store\"", "foo=no-store", "no_store", "foo=\", no-store\""]
    {
        assert!(!one(line).no_store, "{line}");
    }
}

#[test]
fn rfc9111_section_5_2_2_7_private_without_a_plain_list_is_about_all() {
    for line in [
        "private",
        "PRIVATE",
        "private=",
        "private=\"\"",
        "private=\" , \"",
        "private=\"x y\"",
        "private;x",
        "private=a b",
        "private=\"x-a\", private",
        "private, private=\"x-a\"",
        "private=\"x-a",
        "private=\"etag\"",
        "private=\"x-a, Cache-Control\"",
        "\"private\"",
    ] {
        assert!(one(line).private.is_all(), "{line}");
    }
    let read = one("private=\"X-A, set-cookie\", private=x-b");
    assert_eq!(read.private.fields(), ["x-a", "set-cookie", "x-b"]);
    assert!(one("foo=private").private.fields().is_empty());
}

#[test]
fn rfc9111_section_5_2_2_4_no_cache_may_be_about_some_fields() {
    assert_eq!(one("no-cache=\"x-a\"").no_cache.fields(), ["x-a"]);
    assert_eq!(one("no-cache=\"x-a\\, x-b\"").no_cache.fields(), ["x-a", "x-b"]);
    for line in ["no-cache", "No-Cache", "no-cache=\"\"", "no-cache=\"x-a\", no-cache", "no-cache foo"] {
        assert!(one(line).no_cache.is_all(), "{line}");
    }
}

#[test]
fn rfc9111_section_4_2_1_times_that_make_no_sense_or_differ_are_invalid() {
    for line in [
        "max-age",
        "max-age=",
        "max-age=\"\"",
        "max-age=a",
        "max-age=1a",
        "max-age=a1",
        "max-age=-1",
        "max-age=1.0",
        "max-age='1'",
        "max-age =1",
        "max-age= 1",
        "max-age=1 2",
        "max-age=1;x",
        "max-age=\"1",
        "max-age=\"1\"x",
        "max-age=1, max-age=2",
        "max-age=1, max-age",
        "max-age=x, max-age=1",
        "\"max-age=1\"",
    ] {
        assert_eq!(one(line).max_age, Delta::Invalid, "{line}");
    }
    assert_eq!(one("max-age=7, MAX-AGE=\"7\"").max_age, Delta::Seconds(7));
    assert_eq!(one("max-age=007").max_age, Delta::Seconds(7));
    assert_eq!(one("max-age=99999999999999999999999").max_age, Delta::Seconds(delta::MOST));
    assert_eq!(response(&[b"max-age=1", b"max-age=2"]).max_age, Delta::Invalid);
    assert_eq!(one("min-age=1").max_age, Delta::Absent);
}

#[test]
fn rfc9111_section_5_2_what_stands_in_a_quoted_string_is_no_directive() {
    assert_eq!(one("ext=\"max-age=3600\", max-age=1").max_age, Delta::Seconds(1));
    assert_eq!(one("max-age=1, ext=\"max-age=3600\"").max_age, Delta::Seconds(1));
    assert_eq!(one("foo=\"a, max-age=3600\"").max_age, Delta::Absent);
    assert!(!one("foo=\"a, public, b\"").public);
}

#[test]
fn what_permits_counts_only_as_the_grammar_has_it() {
    for line in ["public=1", "public;x", "public foo", "\"public\"", "=public", "foo=\"a, public"] {
        let read = one(line);
        assert!(!read.public && !read.lets_share, "{line}");
    }
    for line in ["must-understand=1", "immutable=1", "must-understand x"] {
        let read = one(line);
        assert!(!read.must_understand && !read.immutable, "{line}");
    }
    let read = one("must-revalidate=1, s-maxage=x");
    assert!(read.must_revalidate && !read.lets_share);
    assert_eq!(one("foo=\"a, max-age=3600").max_age, Delta::Invalid);
}

#[test]
fn rfc5861_windows_are_read() {
    let read = one("stale-while-revalidate=5, stale-if-error=\"7\"");
    assert_eq!((read.stale_while_revalidate, read.stale_if_error), (Delta::Seconds(5), Delta::Seconds(7)));
    assert_eq!(one("stale-while-revalidate").stale_while_revalidate, Delta::Invalid);
}

#[test]
fn rfc9111_section_5_2_1_request_directives() {
    let read = request(&[
        ("cache-control", "max-age=1, MIN-FRESH=2, max-stale=3, stale-if-error=4, no-store"),
        ("cache-control", "only-if-cached"),
    ]);
    assert_eq!((read.max_age, read.min_fresh), (Delta::Seconds(1), Delta::Seconds(2)));
    assert_eq!((read.max_stale, read.stale_if_error), (Delta::Seconds(3), Delta::Seconds(4)));
    assert!(read.no_store && read.only_if_cached && !read.no_cache);
    assert_eq!(request(&[("cache-control", "max-stale")]).max_stale, Delta::Seconds(delta::MOST));
    assert_eq!(request(&[("cache-control", "max-stale foo")]).max_stale, Delta::Invalid);
    assert!(request(&[("cache-control", "No-Cache")]).no_cache);
    assert_eq!(request(&[]), RequestDirectives::default());
}

#[test]
fn rfc9111_section_5_4_pragma_counts_as_its_exact_token_and_without_cache_control() {
    assert!(request(&[("pragma", "no-cache")]).no_cache && request(&[("pragma", "foo, NO-CACHE")]).no_cache);
    assert!(!request(&[("pragma", "no-cache=1")]).no_cache && !request(&[("pragma", "no-cachex")]).no_cache);
    assert!(!request(&[("pragma", "no-cache"), ("cache-control", "max-age=5")]).no_cache);
}
