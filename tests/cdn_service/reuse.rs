//! What is answered from the store.

use std::time::Duration;

use buttress::cdn::{Cdn, Policy, Purge};
use hyper::Method;
use tokio::time::{advance, sleep};
use tower::BoxError;

use crate::origin::{Client, Origin, answer, by, cdn, get, streamed, with};

const FRESH: [(&str, &str); 2] = [("cache-control", "max-age=60"), ("etag", "\"a\"")];

fn fresh() -> Origin {
    Origin::new(|_| async { Ok(answer(200, &FRESH, "hello")) })
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_is_served_with_its_age() {
    let origin = fresh();
    let client = Client::new(&cdn(), &origin);
    let miss = client.get("/a").await;
    assert_eq!((miss.status, miss.text()), (200, "hello"));
    assert_eq!(miss.cache(), "buttress; fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(miss.header("age"), None);
    advance(Duration::from_secs(7)).await;
    let hit = client.get("/a").await;
    assert_eq!((hit.status, hit.text(), hit.header("age")), (200, "hello", Some("7")));
    assert_eq!(hit.cache(), "buttress; hit; ttl=53");
    assert_eq!(client.get("/b").await.cache(), "buttress; fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(origin.count(), 2);
    let stats = client.0.cdn().stats();
    assert_eq!((stats.hits, stats.misses, stats.bytes_saved), (1, 2, 5));
}

#[tokio::test(start_paused = true)]
async fn head_is_answered_from_what_get_stored() {
    let origin = fresh();
    let client = Client::new(&cdn(), &origin);
    client.get("/a").await;
    let head = client.send(by(Method::HEAD, "/a")).await;
    assert_eq!((head.status, head.text(), head.header("etag")), (200, "", Some("\"a\"")));
    assert_eq!(origin.count(), 1);
    // The other way round it is passed on as it is.
    let head = client.send(by(Method::HEAD, "/b")).await;
    assert_eq!(head.status, 200);
    assert_eq!(origin.seen()[1].method, Method::HEAD);
    client.get("/b").await;
    assert_eq!(origin.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn conditions_are_answered_here() {
    let origin = fresh();
    let client = Client::new(&cdn(), &origin);
    client.get("/a").await;
    let same = client.send(with("/a", &[("if-none-match", "\"b\", \"a\"")])).await;
    assert_eq!((same.status, same.text(), same.header("etag")), (304, "", Some("\"a\"")));
    let other = client.send(with("/a", &[("if-none-match", "\"b\"")])).await;
    assert_eq!((other.status, other.text()), (200, "hello"));
    assert_eq!(origin.count(), 1);
}

fn revalidated() -> Origin {
    Origin::new(|seen| async move {
        Ok(match seen.header("if-none-match") {
            Some("\"a\"") => answer(304, &[("cache-control", "max-age=60"), ("etag", "\"a\"")], ""),
            _ => answer(200, &FRESH, "hello"),
        })
    })
}

#[tokio::test(start_paused = true)]
async fn our_304_is_never_passed_to_a_client_that_asked_no_condition() {
    let origin = revalidated();
    let client = Client::new(&cdn(), &origin);
    client.get("/a").await;
    advance(Duration::from_secs(61)).await;
    let got = client.get("/a").await;
    assert_eq!((got.status, got.text(), got.header("age")), (200, "hello", Some("0")));
    assert_eq!(got.cache(), "buttress; fwd=stale; fwd-status=304; stored");
    assert_eq!(origin.seen()[1].header("if-none-match"), Some("\"a\""));
    assert_eq!(client.get("/a").await.cache(), "buttress; hit; ttl=60");
    assert_eq!(client.0.cdn().stats().revalidated, 1);

    // A client's own condition is answered here, after ours was.
    advance(Duration::from_secs(61)).await;
    let own = client.send(with("/a", &[("if-none-match", "\"a\"")])).await;
    assert_eq!((own.status, own.text()), (304, ""));
    advance(Duration::from_secs(61)).await;
    let other = client.send(with("/a", &[("if-none-match", "\"z\""), ("range", "bytes=1-2")])).await;
    assert_eq!((other.status, other.text()), (206, "el"));
    assert!(origin.seen()[2..].iter().all(|seen| seen.header("if-none-match") == Some("\"a\"")));
    assert!(origin.seen().iter().all(|seen| seen.header("range").is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_nothing_stored_can_answer_is_passed_on() {
    let origin = revalidated();
    let client = Client::new(&cdn(), &origin);
    let got = client.send(with("/a", &[("if-none-match", "\"a\"")])).await;
    assert_eq!(got.status, 304);
    assert_eq!(client.get("/a").await.text(), "hello");
    assert_eq!(origin.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_304_about_something_else_is_asked_again_without_conditions() {
    let origin = Origin::new(|seen| async move {
        Ok(match seen.number {
            1 => answer(200, &FRESH, "old"),
            2 => answer(304, &[("etag", "\"b\"")], ""),
            _ => answer(200, &[("cache-control", "max-age=60"), ("etag", "\"b\"")], "new"),
        })
    });
    let client = Client::new(&cdn(), &origin);
    client.get("/a").await;
    advance(Duration::from_secs(61)).await;
    assert_eq!(client.get("/a").await.text(), "new");
    assert_eq!(origin.seen()[2].header("if-none-match"), None);
    assert_eq!(client.get("/a").await.text(), "new");
    assert_eq!(origin.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn stale_while_revalidate_answers_at_once_and_asks_once() {
    let origin = Origin::new(|seen| async move {
        sleep(Duration::from_secs(1)).await;
        let control = "max-age=10, stale-while-revalidate=100";
        let body = if seen.number == 1 { "old" } else { "new" };
        Ok(answer(200, &[("cache-control", control)], body))
    });
    let client = Client::new(&cdn(), &origin);
    client.get("/a").await;
    advance(Duration::from_secs(20)).await;
    let before = tokio::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(client.get("/a").await.text(), "old");
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(origin.count(), 2);
    assert_eq!(client.get("/a").await.text(), "new");
    assert_eq!(origin.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_fails_in_the_background_is_not_tried_again_with_every_hit() {
    let origin = Origin::new(|seen| async move {
        if seen.number > 1 {
            return Err(BoxError::from("no connection"));
        }
        Ok(answer(200, &[("cache-control", "max-age=10, stale-while-revalidate=100")], "old"))
    });
    let client = Client::new(&cdn(), &origin);
    client.get("/a").await;
    sleep(Duration::from_secs(20)).await;
    for _ in 0..50 {
        assert_eq!(client.get("/a").await.text(), "old");
        sleep(Duration::from_millis(100)).await;
    }
    assert!((5..=7).contains(&origin.count()), "{}", origin.count());
}

#[tokio::test(start_paused = true)]
async fn what_the_origin_has_no_more_is_not_served_stale() {
    for (status, control) in [(404, "max-age=0"), (200, "private")] {
        let origin = Origin::new(move |seen| async move {
            if seen.number > 1 {
                return Ok(answer(status, &[("cache-control", control)], "new"));
            }
            Ok(answer(200, &[("cache-control", "max-age=10, stale-while-revalidate=100")], "old"))
        });
        let client = Client::new(&cdn(), &origin);
        client.get("/a").await;
        sleep(Duration::from_secs(20)).await;
        assert_eq!(client.get("/a").await.text(), "old");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(client.get("/a").await.text(), "new", "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_the_background_is_stored_without_anybody_reading() {
    let origin = Origin::new(|seen| async move {
        let (sender, response) = streamed(&[("cache-control", "max-age=10, stale-while-revalidate=100")]);
        sender.send(Ok(if seen.number == 1 { "old" } else { "new" }))?;
        tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            drop(sender);
        });
        Ok(response)
    });
    let client = Client::new(&cdn(), &origin);
    client.get("/a").await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(client.get("/a").await.text(), "old");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(client.get("/a").await.text(), "new");
    assert_eq!(origin.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn stale_stands_in_for_failures_where_that_is_allowed() {
    let failing = |control: &'static str, with_status: bool| {
        Origin::new(move |seen| async move {
            match seen.number {
                1 => Ok(answer(200, &[("cache-control", control)], "old")),
                _ if with_status => Ok(answer(503, &[], "down")),
                _ => Err(BoxError::from("no connection")),
            }
        })
    };
    for with_status in [true, false] {
        let origin = failing("max-age=10, stale-if-error=100", with_status);
        let client = Client::new(&cdn(), &origin);
        client.get("/a").await;
        advance(Duration::from_secs(20)).await;
        let got = client.get("/a").await;
        assert_eq!((got.status, got.text(), got.header("age")), (200, "old", Some("20")));
        assert_eq!(client.0.cdn().stats().stale, 1);

        let origin = failing("max-age=10, must-revalidate", with_status);
        let client = Client::new(&cdn(), &origin);
        client.get("/a").await;
        advance(Duration::from_secs(20)).await;
        match client.try_send(get("/a")).await {
            Ok(got) => assert!(with_status && got.status == 503),
            Err(error) => assert!(!with_status && error.to_string() == "no connection"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_if_cached_goes_nowhere() {
    let origin = fresh();
    let client = Client::new(&cdn(), &origin);
    let cached = || with("/a", &[("cache-control", "only-if-cached")]);
    assert_eq!(client.send(cached()).await.status, 504);
    client.get("/a").await;
    assert_eq!(client.send(cached()).await.status, 200);
    assert_eq!(origin.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_purged_is_gone_and_what_is_softly_purged_is_validated() {
    let origin = Origin::new(|seen| async move {
        Ok(match seen.header("if-none-match") {
            Some(_) => answer(304, &[], ""),
            None => answer(
                200,
                &[("cache-control", "max-age=60"), ("etag", "\"a\""), ("cache-tag", "x")],
                "hello",
            ),
        })
    });
    let cdn = cdn();
    let client = Client::new(&cdn, &origin);
    client.get("/a").await;
    cdn.purge(&Purge::tag("x").unwrap());
    assert_eq!(client.get("/a").await.cache(), "buttress; fwd=uri-miss; fwd-status=200; stored");
    cdn.purge(&Purge::tag("x").unwrap().soft());
    assert_eq!(client.get("/a").await.cache(), "buttress; fwd=stale; fwd-status=304; stored");
    assert!(client.get("/a").await.cache().starts_with("buttress; hit"));
    assert_eq!(origin.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn routes_can_have_rules_of_their_own() {
    let origin = Origin::new(|_| async { Ok(answer(404, &[], "nothing")) });
    let cdn = Cdn::builder(1 << 20)
        .policy_at("/errors/", Policy::new().negative_ttl(Duration::from_secs(5)))
        .override_response(|request, response| {
            if request.uri.path() == "/assets" {
                response.headers.insert("cdn-cache-control", "max-age=60".parse().unwrap());
            }
        })
        .name("edge")
        .build();
    let client = Client::new(&cdn, &origin);
    for (path, stored) in [("/", false), ("/errors/a", true), ("/assets", true)] {
        client.get(path).await;
        assert_eq!(client.get(path).await.cache().starts_with("edge; hit"), stored, "{path}");
    }
    advance(Duration::from_secs(6)).await;
    assert!(client.get("/errors/a").await.cache().contains("fwd="));
}

#[tokio::test(start_paused = true)]
async fn a_get_with_a_body_is_nobody_elses_business() {
    let origin = fresh();
    let client = Client::new(&cdn(), &origin);
    let fat = || {
        let mut request = get("/a");
        *request.body_mut() = "evil".into();
        request
    };
    assert_eq!(client.send(fat()).await.cache(), "buttress; fwd=bypass; fwd-status=200");
    client.get("/a").await;
    assert_eq!(client.send(fat()).await.cache(), "buttress; fwd=bypass; fwd-status=200");
    assert_eq!(origin.count(), 3);
}
