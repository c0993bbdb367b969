//! What changes something.

use std::time::Duration;

use hyper::Method;
use tokio::time::sleep;
use tokio_test::task;
use tower::ServiceExt;

use crate::origin::{Client, Origin, answer, by, cdn};

fn origin() -> Origin {
    Origin::new(|seen| async move {
        Ok(match (&seen.method, &*seen.path) {
            (&Method::GET, _) => answer(200, &[("cache-control", "max-age=60")], "hello"),
            (_, "/fail") => answer(500, &[], ""),
            (_, "/slow") => {
                sleep(Duration::from_secs(5)).await;
                answer(200, &[], "")
            }
            _ => answer(200, &[("location", "/b"), ("content-location", "http://other.com/c")], ""),
        })
    })
}

#[tokio::test(start_paused = true)]
async fn an_unsafe_method_makes_what_it_names_invalid() {
    let origin = origin();
    let client = Client::new(&cdn(), &origin);
    for path in ["/a", "/b", "/c", "/fail"] {
        client.get(path).await;
    }
    assert_eq!(client.send(by(Method::POST, "/a")).await.cache(), "buttress; fwd=method; fwd-status=200");
    client.send(by(Method::PUT, "/fail")).await;
    for (path, hit) in [("/a", false), ("/b", false), ("/c", true), ("/fail", true)] {
        assert_eq!(client.get(path).await.cache().contains("hit"), hit, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_after_an_unsafe_request_leaves_nothing_outdated() {
    let origin = origin();
    let client = Client::new(&cdn(), &origin);
    client.get("/slow").await;
    let mut post = task::spawn(client.0.clone().oneshot(by(Method::POST, "/slow")));
    assert!(post.poll().is_pending());
    drop(post);
    assert!(!client.get("/slow").await.cache().contains("hit"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_post_serves_get_if_it_says_so() {
    let origin = Origin::new(|seen| async move {
        let headers: &[_] = &[("cache-control", "max-age=60"), ("content-location", "/a")];
        Ok(answer(200, headers, if seen.method == Method::POST { "posted" } else { "got" }))
    });
    let client = Client::new(&cdn(), &origin);
    client.get("/a").await;
    assert_eq!(client.send(by(Method::POST, "/a")).await.text(), "posted");
    assert_eq!(client.get("/a").await.text(), "posted");
    client.send(by(Method::POST, "/b")).await;
    assert_eq!(client.get("/b").await.text(), "got");
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_post_from_before_a_purge_serves_nobody() {
    let origin = Origin::new(|seen| async move {
        sleep(Duration::from_secs(5)).await;
        let headers: &[_] = &[("cache-control", "max-age=60"), ("content-location", "/a")];
        Ok(answer(200, headers, if seen.method == Method::POST { "posted" } else { "got" }))
    });
    let cdn = cdn();
    let client = Client::new(&cdn, &origin);
    let post = tokio::spawn({
        let client = client.clone();
        async move { client.send(by(Method::POST, "/a")).await }
    });
    sleep(Duration::from_secs(1)).await;
    cdn.purge(&buttress::cdn::Purge::all());
    assert_eq!(post.await.unwrap().text(), "posted");
    assert_eq!(client.get("/a").await.text(), "got");
}
