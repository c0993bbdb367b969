//! Many clients, one fetch.

use std::time::Duration;

use buttress::cdn::{Cdn, Finish, Purge};
use http_body_util::BodyExt;
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};
use tokio_test::task;
use tower::{BoxError, ServiceExt};

use crate::origin::{Client, Got, Origin, answer, cdn, get, read, streamed, with};

async fn all(client: &Client, count: usize, path: &'static str) -> Vec<Got> {
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get(path).await })
        })
        .collect();
    let mut got = Vec::new();
    for task in tasks {
        got.push(task.await.unwrap());
    }
    got
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_misses_are_one_fetch() {
    let origin = Origin::new(|_| async {
        sleep(Duration::from_secs(1)).await;
        Ok(answer(200, &[("cache-control", "max-age=60")], "hello"))
    });
    let client = Client::new(&cdn(), &origin);
    let got = all(&client, 10_000, "/a").await;
    assert!(got.iter().all(|got| got.status == 200 && got.text() == "hello"));
    assert_eq!(origin.count(), 1);
    assert_eq!(client.0.cdn().stats().collapsed, 9_999);
    assert!(got.iter().filter(|got| got.cache().contains("collapsed")).count() == 9_999);
}

#[tokio::test(start_paused = true)]
async fn validations_are_collapsed_too() {
    let origin = Origin::new(|seen| async move {
        sleep(Duration::from_secs(1)).await;
        let headers = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
        Ok(if seen.number == 1 { answer(200, &headers, "hello") } else { answer(304, &headers, "") })
    });
    let client = Client::new(&cdn(), &origin);
    client.get("/a").await;
    sleep(Duration::from_secs(100)).await;
    let got = all(&client, 100, "/a").await;
    assert!(got.iter().all(|got| got.status == 200 && got.text() == "hello"));
    assert_eq!(origin.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn bytes_reach_everybody_as_they_come_and_a_slow_reader_holds_nobody_up() {
    let (sender, response) = streamed(&[("cache-control", "max-age=60")]);
    let response = std::sync::Mutex::new(Some(response));
    let origin = Origin::new(move |_| {
        let response = response.lock().unwrap().take();
        async move { response.ok_or_else(|| BoxError::from("again")) }
    });
    let client = Client::new(&cdn(), &origin);
    let mut slow = client.0.clone().oneshot(get("/a")).await.unwrap();
    let mut fast = client.0.clone().oneshot(get("/a")).await.unwrap();
    sender.send(Ok("one ")).unwrap();
    let frame = fast.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "one ");
    sender.send(Ok("two")).unwrap();
    let late = client.0.clone().oneshot(get("/a")).await.unwrap();
    drop(sender);
    assert_eq!(fast.body_mut().collect().await.unwrap().to_bytes(), "two");
    assert_eq!(read(late).await.text(), "one two");
    assert_eq!(slow.body_mut().collect().await.unwrap().to_bytes(), "one two");
    let hit = client.get("/a").await;
    assert_eq!((hit.text(), hit.cache()), ("one two", "buttress; hit; ttl=60"));
    assert_eq!(hit.header("content-length"), Some("7"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_aborts_nobody() {
    let origin = Origin::new(|_| async {
        sleep(Duration::from_secs(1)).await;
        Ok(answer(200, &[("cache-control", "max-age=60")], "hello"))
    });
    let client = Client::new(&cdn(), &origin);
    let mut leader = task::spawn(client.0.clone().oneshot(get("/a")));
    assert!(leader.poll().is_pending());
    let follower = tokio::spawn({
        let client = client.clone();
        async move { client.get("/a").await }
    });
    yield_now().await;
    drop(leader);
    assert_eq!(follower.await.unwrap().text(), "hello");
    assert_eq!(origin.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_nobody_wants_ends_as_configured() {
    for (finish, stored) in [(Finish::KnownLength, true), (Finish::Never, false)] {
        let origin = Origin::new(|_| async {
            sleep(Duration::from_secs(1)).await;
            Ok(answer(200, &[("cache-control", "max-age=60")], "hello"))
        });
        let cdn = Cdn::builder(1 << 20).finish(finish).build();
        let client = Client::new(&cdn, &origin);
        let mut leader = task::spawn(client.0.clone().oneshot(get("/a")));
        assert!(leader.poll().is_pending());
        yield_now().await;
        drop(leader);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(client.get("/a").await.cache().contains("hit"), stored, "{finish:?}");
    }
    // Without a length there may be no end.
    let (sender, response) = streamed(&[("cache-control", "max-age=60")]);
    let response = std::sync::Mutex::new(Some(response));
    let origin = Origin::new(move |_| {
        let response = response.lock().unwrap().take();
        async move { response.ok_or_else(|| BoxError::from("again")) }
    });
    let client = Client::new(&cdn(), &origin);
    let got = client.0.clone().oneshot(get("/a")).await.unwrap();
    sender.send(Ok("one")).unwrap();
    drop(got);
    sleep(Duration::from_millis(1)).await;
    assert!(sender.is_closed());
    assert!(client.try_send(get("/a")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn uncacheable_urls_are_not_serialised() {
    let origin = Origin::new(|_| async {
        sleep(Duration::from_secs(1)).await;
        Ok(answer(200, &[("cache-control", "private")], "mine"))
    });
    let client = Client::new(&cdn(), &origin);
    let before = Instant::now();
    assert!(all(&client, 50, "/a").await.iter().all(|got| got.text() == "mine"));
    // Who waited for the first then goes at once, all together.
    assert_eq!(before.elapsed().as_secs(), 2);
    assert_eq!(origin.count(), 50);
    let before = Instant::now();
    all(&client, 50, "/a").await;
    assert_eq!(before.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_never_fresh_is_not_serialised() {
    let origin = Origin::new(|seen| async move {
        sleep(Duration::from_secs(1)).await;
        let headers = [("cache-control", "max-age=60, no-cache"), ("etag", "\"a\"")];
        let is_same = seen.header("if-none-match").is_some();
        Ok(if is_same { answer(304, &headers, "") } else { answer(200, &headers, "hello") })
    });
    let client = Client::new(&cdn(), &origin);
    client.get("/a").await;
    let before = Instant::now();
    assert!(all(&client, 50, "/a").await.iter().all(|got| got.status == 200 && got.text() == "hello"));
    assert_eq!(before.elapsed().as_secs(), 1);
    assert_eq!(origin.count(), 51);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_for_who_asked_and_the_next_one_tries() {
    let origin = Origin::new(|seen| async move {
        sleep(Duration::from_secs(1)).await;
        if seen.number == 1 {
            return Err(BoxError::from("no connection"));
        }
        Ok(answer(200, &[("cache-control", "max-age=60")], "hello"))
    });
    let client = Client::new(&cdn(), &origin);
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.try_send(get("/a")).await.map(|got| got.text().to_owned()) })
        })
        .collect();
    let mut failed = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(text) => assert_eq!(text, "hello"),
            Err(error) => {
                assert_eq!(error.to_string(), "no connection");
                failed += 1;
            }
        }
    }
    assert_eq!((failed, origin.count()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_is_overloaded_is_asked_by_few_at_once() {
    let origin = Origin::new(|seen| async move {
        sleep(Duration::from_secs(1)).await;
        Ok(match seen.number {
            1 => answer(503, &[], "busy"),
            _ => answer(200, &[("cache-control", "max-age=60")], "hello"),
        })
    });
    let client = Client::new(&cdn(), &origin);
    let got = all(&client, 100, "/a").await;
    assert_eq!(got.iter().filter(|got| got.status == 503).count(), 1);
    assert_eq!(origin.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_variant_is_fetched_once() {
    let origin = Origin::new(|seen| async move {
        sleep(Duration::from_secs(1)).await;
        let language = seen.header("x-language").unwrap_or("none").to_owned();
        let headers = [("cache-control", "max-age=60"), ("vary", "x-language"), ("x-said", &language)];
        Ok(answer(200, &headers, "hello"))
    });
    let client = Client::new(&cdn(), &origin);
    let languages = ["a", "b", "c", "d", "e"];
    let tasks: Vec<_> = (0..200)
        .map(|at| {
            let (client, language) = (client.clone(), languages[at % 5]);
            tokio::spawn(async move {
                let got = client.send(with("/a", &[("x-language", language)])).await;
                assert_eq!(got.header("x-said"), Some(language));
            })
        })
        .collect();
    let before = Instant::now();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(origin.count(), 5);
    // The first tells what it varies by; the others go together then.
    assert_eq!(before.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_off_is_never_stored() {
    let origin = Origin::new(|seen| async move {
        let headers: &[_] = &[("cache-control", "max-age=60"), ("content-length", "7")];
        let (sender, response) = streamed(if seen.number > 2 { &headers[..1] } else { headers });
        sender.send(Ok("one"))?;
        match seen.number {
            1 => {}
            2 => sender.send(Ok(" two and more"))?,
            3 => sender.send(Err("reset".into()))?,
            _ => sender.send(Ok(" two"))?,
        }
        Ok(response)
    });
    let client = Client::new(&cdn(), &origin);
    for wrong in ["after 3 of 7", "longer than the 7", "broke off"] {
        let error = client.get("/a").await.body.unwrap_err().to_string();
        assert!(error.contains(wrong), "{error}");
    }
    let got = client.get("/a").await;
    assert_eq!((got.text(), origin.count()), ("one two", 4));
    assert_eq!(client.get("/a").await.text(), "one two");
    assert_eq!(origin.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_begun_before_a_purge_is_neither_stored_nor_joined() {
    let origin = Origin::new(|_| async {
        sleep(Duration::from_secs(1)).await;
        Ok(answer(200, &[("cache-control", "max-age=60"), ("cache-tag", "x")], "hello"))
    });
    let cdn = cdn();
    let client = Client::new(&cdn, &origin);
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.get("/a").await }
    });
    sleep(Duration::from_millis(500)).await;
    cdn.purge(&Purge::tag("x").unwrap());
    let second = tokio::spawn({
        let client = client.clone();
        async move { client.get("/a").await }
    });
    yield_now().await;
    assert_eq!(origin.count(), 2);
    assert_eq!(first.await.unwrap().text(), "hello");
    assert!(!client.0.clone().oneshot(get("/other")).await.unwrap().headers().is_empty());
    second.await.unwrap();
    assert!(client.get("/a").await.cache().contains("hit"));
    assert_eq!(origin.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    for (wait, seconds, fetches) in [(5, 6, 3), (0, 1, 3), (30, 10, 1)] {
        let origin = Origin::new(|seen| async move {
            sleep(Duration::from_secs(if seen.number == 1 { 10 } else { 1 })).await;
            Ok(answer(200, &[("cache-control", "max-age=60")], "hello"))
        });
        let cdn = Cdn::builder(1 << 20).max_wait(Duration::from_secs(wait)).build();
        let client = Client::new(&cdn, &origin);
        let first = tokio::spawn({
            let client = client.clone();
            async move { client.get("/a").await }
        });
        yield_now().await;
        let before = Instant::now();
        all(&client, 2, "/a").await;
        assert_eq!((before.elapsed().as_secs(), origin.count()), (seconds, fetches));
        assert_eq!(first.await.unwrap().text(), "hello");
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_on_conditions_does_not_keep_others_apart() {
    let origin = Origin::new(|seen| async move {
        sleep(Duration::from_secs(1)).await;
        let headers = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
        let is_same = seen.header("if-none-match").is_some();
        Ok(if is_same { answer(304, &headers, "") } else { answer(200, &headers, "hello") })
    });
    let client = Client::new(&cdn(), &origin);
    let condition = || with("/a", &[("if-none-match", "\"a\"")]);
    assert_eq!(client.send(condition()).await.status, 304);
    let plain = tokio::spawn({
        let client = client.clone();
        async move { all(&client, 10, "/a").await }
    });
    yield_now().await;
    yield_now().await;
    // It is answered from what the others fetch.
    assert_eq!(client.send(condition()).await.status, 304);
    assert!(plain.await.unwrap().iter().all(|got| got.text() == "hello"));
    assert_eq!(origin.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_passes_through() {
    let origin = Origin::new(|seen| async move {
        if seen.path == "/known" {
            return Ok(answer(200, &[("cache-control", "max-age=60")], "more than ten bytes"));
        }
        let (sender, response) = streamed(&[("cache-control", "max-age=60")]);
        for piece in ["more ", "than ", "ten ", "bytes"] {
            sender.send(Ok(piece))?;
        }
        Ok(response)
    });
    let cdn = Cdn::builder(1 << 20).max_object_size(10).build();
    let client = Client::new(&cdn, &origin);
    for path in ["/known", "/unknown"] {
        for _ in 0..2 {
            let got = client.get(path).await;
            assert_eq!(got.text(), "more than ten bytes");
            assert!(!got.cache().contains("hit"));
        }
    }
    assert_eq!(origin.count(), 4);
}
