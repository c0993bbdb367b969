//! Everything at once, on several threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::cdn::{Cdn, Finish, Purge};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::{Method, body::Frame};
use tokio::task::yield_now;
use tower::{BoxError, ServiceExt};

use crate::origin::{Client, Origin, answer, by, get, read};

const PATHS: [&str; 4] = ["/a", "/b", "/c", "/d"];

/// Requests come and go, contents change and are purged. Whoever asks after a purge gets nothing from before it, every body is
/// whole, and nothing is left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_gets_what_was_purged_before_they_asked() {
    // What the origin has, and what was purged up to.
    let contents: Arc<[AtomicU64; 4]> = Arc::default();
    let purged: Arc<[AtomicU64; 4]> = Arc::default();
    let origin = Origin::new({
        let contents = Arc::clone(&contents);
        move |seen| {
            let at = PATHS.iter().position(|path| *path == seen.path).unwrap();
            let number = contents[at].load(SeqCst);
            async move {
                if seen.method != Method::GET {
                    return Ok(answer(200, &[], ""));
                }
                for _ in 0..seen.number % 5 {
                    yield_now().await;
                }
                if seen.number.is_multiple_of(13) {
                    return Err(BoxError::from("no connection"));
                }
                let text = format!("{number:09}").repeat(10);
                let pieces: Vec<_> = text.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
                let frames = pieces.into_iter().map(|piece| Ok::<_, BoxError>(Frame::data(piece)));
                let mut response = answer(200, &[("cache-control", "max-age=60"), ("cache-tag", "x")], "");
                *response.body_mut() = StreamBody::new(tokio_stream::iter(frames)).boxed_unsync();
                Ok(response)
            }
        }
    });
    let cdn = Cdn::builder(1 << 20).finish(Finish::Always).build();
    let client = Client::new(&cdn, &origin);
    let mut tasks = Vec::new();
    for worker in 0..8_usize {
        let (client, purged) = (client.clone(), Arc::clone(&purged));
        tasks.push(tokio::spawn(async move {
            for round in 0..500 {
                let at = (worker * 7 + round) % 4;
                let wanted = purged[at].load(SeqCst);
                let asked = client.0.clone().oneshot(get(PATHS[at]));
                if round % 11 == 3 {
                    // This one does not wait for long.
                    let _ = tokio::time::timeout(Duration::from_micros(round as u64), asked).await;
                    continue;
                }
                let Ok(response) = asked.await else { continue };
                if round % 7 == 2 {
                    drop(response);
                    continue;
                }
                let got = read(response).await;
                let text = got.text();
                assert_eq!(text.len(), 90);
                assert!(text.as_bytes().chunks(9).all(|number| number == &text.as_bytes()[..9]), "{text}");
                let number: u64 = text[..9].parse().unwrap();
                assert!(number >= wanted, "{number} after {wanted} was purged: {got:?}");
            }
        }));
    }
    for round in 0..200 {
        let at = round % 4;
        let number = contents[at].fetch_add(1, SeqCst) + 1;
        match round % 3 {
            0 => cdn.purge(&Purge::tag("x").unwrap()),
            1 => cdn.purge(&Purge::url(format!("http://example.com{}", PATHS[at])).unwrap()),
            _ => assert_eq!(client.send(by(Method::POST, PATHS[at])).await.status, 200),
        }
        purged[at].fetch_max(number, SeqCst);
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    for _ in 0..1000 {
        if format!("{cdn:?}").contains("len: 0") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("something is on its way for ever: {cdn:?}");
}
