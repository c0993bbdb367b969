//! Ranges.

use std::time::Duration;

use tokio::time::advance;

use crate::origin::{Client, Origin, Seen, Sent, answer, cdn, get, with};
use hyper::Response;

const WHOLE: &str = "0123456789";

/// An origin that knows ranges.
fn ranged(seen: &Seen, etag: &str) -> Response<Sent> {
    let headers = [("cache-control", "max-age=60"), ("etag", etag), ("accept-ranges", "bytes")];
    let is_same = seen.header("if-range").is_none_or(|tag| tag == etag);
    let range = seen.header("range").filter(|_| is_same).and_then(|range| range.strip_prefix("bytes="));
    let Some((first, last)) = range.and_then(|range| range.split_once('-')) else {
        return answer(200, &headers, WHOLE);
    };
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(9).min(9);
    let mut response = answer(206, &headers, &WHOLE[first..=last]);
    let content_range = format!("bytes {first}-{last}/10").parse().unwrap();
    response.headers_mut().insert("content-range", content_range);
    response.headers_mut().insert("content-length", (last + 1 - first).into());
    response
}

fn origin() -> Origin {
    Origin::new(|seen| async move { Ok(ranged(&seen, "\"a\"")) })
}

#[tokio::test(start_paused = true)]
async fn a_range_of_what_is_stored_is_answered_here() {
    let origin = origin();
    let client = Client::new(&cdn(), &origin);
    client.get("/a").await;
    let part = client.send(with("/a", &[("range", "bytes=2-4")])).await;
    assert_eq!((part.status, part.text()), (206, "234"));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
    assert_eq!(part.header("content-length"), Some("3"));
    let suffix = client.send(with("/a", &[("range", "bytes=-3")])).await;
    assert_eq!((suffix.status, suffix.text()), (206, "789"));
    let beyond = client.send(with("/a", &[("range", "bytes=10-")])).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */10")));
    let other = client.send(with("/a", &[("range", "bytes=2-4"), ("if-range", "\"b\"")])).await;
    assert_eq!((other.status, other.text()), (200, WHOLE));
    assert_eq!(origin.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn parts_are_stored_combined_and_completed() {
    let origin = origin();
    let client = Client::new(&cdn(), &origin);
    let part = client.send(with("/a", &[("range", "bytes=2-4")])).await;
    assert_eq!((part.status, part.text()), (206, "234"));
    assert_eq!(part.cache(), "buttress; fwd=uri-miss; fwd-status=206; stored");
    let inner = client.send(with("/a", &[("range", "bytes=3-4")])).await;
    assert_eq!((inner.status, inner.text()), (206, "34"));
    assert_eq!(origin.count(), 1);

    // Only what is missing is asked for.
    let more = client.send(with("/a", &[("range", "bytes=3-6")])).await;
    assert_eq!((more.status, more.text(), more.header("content-range")), (206, "3456", Some("bytes 3-6/10")));
    assert_eq!(more.cache(), "buttress; fwd=partial; fwd-status=206; stored");
    assert_eq!(origin.seen()[1].header("range"), Some("bytes=5-6"));
    assert_eq!(origin.seen()[1].header("if-range"), Some("\"a\""));

    client.send(with("/a", &[("range", "bytes=0-1")])).await;
    let whole = client.get("/a").await;
    assert_eq!((whole.status, whole.text(), whole.header("content-length")), (200, WHOLE, Some("10")));
    assert_eq!(origin.seen()[3].header("range"), Some("bytes=7-"));
    let hit = client.get("/a").await;
    assert_eq!((hit.status, hit.text()), (200, WHOLE));
    assert!(hit.cache().contains("hit"));
    assert_eq!(origin.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn with_gaps_on_both_sides_all_is_asked_for() {
    let origin = origin();
    let client = Client::new(&cdn(), &origin);
    client.send(with("/a", &[("range", "bytes=2-4")])).await;
    assert_eq!(client.get("/a").await.text(), WHOLE);
    assert_eq!(origin.seen()[1].header("range"), None);
    assert!(client.get("/a").await.cache().contains("hit"));
}

#[tokio::test(start_paused = true)]
async fn parts_of_something_else_are_not_combined() {
    let origin = Origin::new(|seen| async move {
        let etag = if seen.number == 1 { "\"a\"" } else { "\"b\"" };
        Ok(ranged(&seen, etag))
    });
    let client = Client::new(&cdn(), &origin);
    client.send(with("/a", &[("range", "bytes=0-4")])).await;
    let whole = client.get("/a").await;
    assert_eq!((whole.status, whole.text(), whole.header("etag")), (200, WHOLE, Some("\"b\"")));
    assert_eq!(origin.seen()[1].header("if-range"), Some("\"a\""));
    assert_eq!(client.get("/a").await.header("etag"), Some("\"b\""));
    assert_eq!(origin.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_part_is_validated_before_it_is_used_again() {
    let origin = Origin::new(|seen| async move {
        Ok(match seen.header("if-none-match") {
            Some(_) => answer(304, &[("cache-control", "max-age=60")], ""),
            None => ranged(&seen, "\"a\""),
        })
    });
    let client = Client::new(&cdn(), &origin);
    client.send(with("/a", &[("range", "bytes=2-4")])).await;
    advance(Duration::from_secs(61)).await;
    let part = client.send(with("/a", &[("range", "bytes=2-3")])).await;
    assert_eq!((part.status, part.text()), (206, "23"));
    advance(Duration::from_secs(61)).await;
    let whole = client.send(get("/a")).await;
    assert_eq!((whole.status, whole.text()), (200, WHOLE));
    assert_eq!(origin.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_has_nothing_of_what_is_asked_for_does_no_harm() {
    let origin = Origin::new(|seen| async move {
        Ok(match seen.header("if-none-match") {
            Some(_) => answer(304, &[("cache-control", "max-age=60")], ""),
            None if seen.number == 5 => answer(503, &[], "busy"),
            None => ranged(&seen, "\"a\""),
        })
    });
    let client = Client::new(&cdn(), &origin);
    client.send(with("/a", &[("range", "bytes=0-1")])).await;
    advance(Duration::from_secs(61)).await;
    let other = client.send(with("/a", &[("range", "bytes=6-8")])).await;
    assert_eq!((other.status, other.text()), (206, "678"));
    assert_eq!(origin.count(), 3);
    let both = client.send(with("/a", &[("range", "bytes=1-1")])).await;
    assert_eq!((both.status, both.text()), (206, "1"));
    let last = client.send(with("/a", &[("range", "bytes=7-7")])).await;
    assert_eq!((last.status, last.text(), origin.count()), (206, "7", 3));
    // A failure loses nothing of what is there.
    client.send(with("/a", &[("range", "bytes=4-4")])).await;
    let failed = client.send(with("/a", &[("range", "bytes=8-9")])).await;
    assert_eq!(failed.status, 503);
    let rest = client.send(with("/a", &[("range", "bytes=8-8")])).await;
    assert_eq!((rest.status, origin.count()), (206, 5));
}

#[tokio::test(start_paused = true)]
async fn a_304_about_something_else_is_followed_by_a_request_for_the_whole() {
    let origin = Origin::new(|seen| async move {
        Ok(match seen.header("if-none-match") {
            Some(_) => answer(304, &[("etag", "\"c\"")], ""),
            None => ranged(&seen, "\"b\""),
        })
    });
    let client = Client::new(&cdn(), &origin);
    client.get("/a").await;
    advance(Duration::from_secs(61)).await;
    let part = client.send(with("/a", &[("range", "bytes=2-4")])).await;
    assert_eq!((part.status, part.text(), part.header("content-range")), (206, "234", Some("bytes 2-4/10")));
    let whole = client.get("/a").await;
    assert_eq!((whole.status, whole.text(), origin.count()), (200, WHOLE, 3));
}

#[tokio::test(start_paused = true)]
async fn what_completes_a_part_does_not_change_what_was_asked_for() {
    let modified = "Wed, 01 Jan 2020 00:00:00 GMT";
    let origin = Origin::new(move |seen| async move {
        let mut response = ranged(&seen, "\"a\"");
        let headers = response.headers_mut();
        // Only from the second on it is a strong validator.
        let date = if seen.number == 1 { modified } else { "Wed, 01 Jan 2020 00:02:00 GMT" };
        headers.insert("date", date.parse().unwrap());
        headers.insert("last-modified", modified.parse().unwrap());
        headers.insert("cache-control", "max-age=1000000000".parse().unwrap());
        Ok(response)
    });
    let client = Client::new(&cdn(), &origin);
    client.send(with("/a", &[("range", "bytes=0-4")])).await;
    let got = client.send(with("/a", &[("range", "bytes=2-3"), ("if-range", modified)])).await;
    assert_eq!((got.status, got.text()), (200, WHOLE));
}

#[tokio::test(start_paused = true)]
async fn a_part_that_passes_by_does_not_take_the_place_of_the_whole() {
    let origin = origin();
    let client = Client::new(&cdn(), &origin);
    client.get("/a").await;
    let part = client.send(with("/a", &[("if-match", "*"), ("range", "bytes=0-0")])).await;
    assert_eq!((part.status, part.text()), (206, "0"));
    assert!(client.get("/a").await.cache().contains("hit"));
}

#[tokio::test(start_paused = true)]
async fn a_missing_part_that_is_too_short_is_an_error() {
    let origin = Origin::new(|seen| async move {
        let mut response = ranged(&seen, "\"a\"");
        if seen.header("range") == Some("bytes=2-6") {
            *response.body_mut() = answer(206, &[], "23").into_body();
            response.headers_mut().remove("content-length");
        }
        Ok(response)
    });
    let client = Client::new(&cdn(), &origin);
    client.send(with("/a", &[("range", "bytes=0-1")])).await;
    client.send(with("/a", &[("range", "bytes=7-9")])).await;
    assert!(client.get("/a").await.body.is_err());
}
