//! Invalidation (RFC 9111, section 4.4).

use super::*;

fn invalidated(method: &str, uri: &str, status: u16, pairs: Fields) -> Vec<String> {
    let asks = request(method, uri, &[("host", "a.example")]);
    Policy::new().invalidates(&asks, &response(status, pairs)).iter().map(ToString::to_string).collect()
}

#[test]
fn rfc9111_section_4_4_unsafe_methods_that_succeed_invalidate_their_target() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "PROPPATCH", "get"] {
        for status in [200, 201, 204, 301, 303, 399] {
            assert_eq!(invalidated(method, "/x?y", status, &[]), ["/x?y"], "{method} {status}");
        }
        for status in [100, 400, 404, 500, 503, 999] {
            assert!(invalidated(method, "/x?y", status, &[]).is_empty(), "{method} {status}");
        }
    }
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND"] {
        assert!(invalidated(method, "/x", 200, &[("location", "/y")]).is_empty(), "{method}");
    }
}

#[test]
fn rfc9111_section_4_4_locations_of_the_same_origin_are_invalidated_too() {
    let post = |uri, name, value| invalidated("POST", uri, 200, &[(name, value)]);
    for (reference, expected) in [
        ("/y", "/y"),
        ("y?z", "/a/y?z"),
        ("../y", "/y"),
        ("./y/./../z/", "/a/z/"),
        ("../../..", "/"),
        ("?z", "/a/x?z"),
        ("//a.example/y", "/y"),
        ("//A.EXAMPLE:80/y", "/y"),
        ("http://a.example", "/"),
        ("http://a.example?q", "/?q"),
        ("HTTPS://a.example:443/y#z", "/y"),
    ] {
        for name in ["location", "content-location"] {
            let uris = post("/a/x", name, reference);
            let expected: &[&str] =
                if reference.starts_with("//A") { &["/a/x"] } else { &["/a/x", expected] };
            // Without a scheme of the request, a port is not known to be the default one.
            assert_eq!(uris, expected, "{reference}");
        }
    }
    assert_eq!(
        post("http://a.example/a/x", "location", "//A.EXAMPLE:80/y"),
        ["http://a.example/a/x", "http://a.example/y"]
    );
    assert_eq!(
        post("http://a.example/a/x", "location", "/y"),
        ["http://a.example/a/x", "http://a.example/y"]
    );
    for other in [
        "http://b.example/y",
        "//b.example/y",
        "https://a.example/y",
        "http://a.example:8080/y",
        "ftp://a.example/y",
        "http://u@a.example/y",
        "http:///y",
        "/ y",
        "",
        "/a/x",
        "mailto:a",
    ] {
        let uris = post("http://a.example/a/x", "location", other);
        assert_eq!(uris.len(), 1, "{other}: {uris:?}");
    }
    let both =
        invalidated("PUT", "/x", 201, &[("location", "/y"), ("content-location", "/z"), ("location", "/w")]);
    assert_eq!(both, ["/x", "/y", "/z"]);
}
