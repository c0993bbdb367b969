//! Readiness, cancellation and panics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::cdn::{Body, Cdn, CdnBuilder, CdnLayer, CdnService, ResponseFuture};
use tokio::{task::yield_now, time::sleep};
use tokio_test::task;
use tower::{BoxError, ServiceExt};

use crate::origin::{Client, Origin, answer, cdn, get};

fn shared<T: Clone + Send + Sync + std::fmt::Debug + 'static>() {}
fn sent<T: Send + std::fmt::Debug + 'static>() {}

#[test]
fn handles_go_anywhere_and_bodies_can_be_sent() {
    shared::<Cdn>();
    shared::<CdnLayer>();
    shared::<CdnBuilder>();
    shared::<CdnService<Origin>>();
    sent::<Body>();
    sent::<ResponseFuture<BoxError>>();
}

#[tokio::test(start_paused = true)]
async fn a_request_may_be_dropped_at_any_poll() {
    for (control, stored) in [("max-age=60", true), ("no-store", false)] {
        for polls in 0..20 {
            let origin = Origin::new(move |_| async move {
                yield_now().await;
                yield_now().await;
                Ok(answer(200, &[("cache-control", control)], "hello"))
            });
            let cdn = cdn();
            let client = Client::new(&cdn, &origin);
            let mut leader = task::spawn(Box::pin(client.get("/a")));
            let mut follower = task::spawn(Box::pin(client.get("/a")));
            for _ in 0..polls {
                if !leader.is_woken() && polls > 1 {
                    yield_now().await;
                }
                if leader.poll().is_ready() {
                    break;
                }
                let _ = follower.poll();
            }
            drop(leader);
            drop(follower);
            sleep(Duration::from_secs(1)).await;
            assert!(format!("{cdn:?}").contains("len: 0"), "{cdn:?}");
            let got = client.get("/a").await;
            assert_eq!(got.text(), "hello");
            assert_eq!(got.cache().contains("hit"), stored && polls > 0, "{polls}: {got:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_reaches_who_asked_and_nobody_hangs() {
    let panics = Arc::new(AtomicBool::new(true));
    let origin = Origin::new({
        let panics = Arc::clone(&panics);
        move |_| {
            let panics = Arc::clone(&panics);
            async move {
                sleep(Duration::from_secs(1)).await;
                assert!(!panics.swap(false, SeqCst), "as told");
                Ok(answer(200, &[("cache-control", "max-age=60")], "hello"))
            }
        }
    });
    let client = Client::new(&cdn(), &origin);
    let run = || {
        let client = client.clone();
        tokio::spawn(async move { client.get("/a").await.text().to_owned() })
    };
    let (first, second) = (run(), run());
    assert!(first.await.unwrap_err().is_panic());
    assert_eq!(second.await.unwrap(), "hello");
    assert!(format!("{:?}", client.0.cdn()).contains("len: 0"));
}

#[tokio::test(start_paused = true)]
async fn a_hit_needs_neither_a_clone_nor_a_box() {
    struct Once(Origin);
    impl Clone for Once {
        fn clone(&self) -> Self {
            panic!("cloned")
        }
    }
    impl tower::Service<hyper::Request<http_body_util::Full<bytes::Bytes>>> for Once {
        type Response = hyper::Response<crate::origin::Sent>;
        type Error = BoxError;
        type Future = std::future::Ready<crate::origin::Answer>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
            panic!("polled")
        }

        fn call(&mut self, _: hyper::Request<http_body_util::Full<bytes::Bytes>>) -> Self::Future {
            panic!("called {:?}", self.0.count())
        }
    }
    let origin = Origin::new(|_| async { Ok(answer(200, &[("cache-control", "max-age=60")], "hello")) });
    let cdn = cdn();
    Client::new(&cdn, &origin).get("/a").await;
    let response = cdn.service(Once(origin)).oneshot(get("/a")).await.unwrap();
    assert_eq!(crate::origin::read(response).await.text(), "hello");
}
