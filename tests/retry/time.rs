//! Limits of time, waits, and nodes that say when.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use buttress::balance::{Backoff, Budget, Error, Hedge, Queue, Repeat, Retry, RetryAfter};
use buttress::cluster::{FailureKind, LoadGuard};
use tokio::time::Instant;
use tower::Service;

use crate::support::{Act, BAD, OK, SECOND, Scene, ms};

const AFTER_5: RetryAfter = RetryAfter::Delay(Duration::from_secs(5));

#[tokio::test(start_paused = true)]
async fn a_try_that_takes_too_long_counts_against_its_node_and_goes_on_to_the_next() {
    let scene = Scene::new(&[Act::Hang, OK]);
    let start = Instant::now();
    let reply = scene.retry().try_timeout(ms(100)).call(0).await.unwrap();
    assert_eq!((reply.node, start.elapsed()), ('b', ms(100)));
    assert_eq!(scene.counts('a'), (1, 0, 0), "failures, cancelled, in flight");
    assert_eq!(scene.counts('b'), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_try_that_took_too_long_is_not_repeated_unless_idempotent() {
    let scene = Scene::new(&[Act::Hang, OK]);
    let error = scene.retry().try_timeout(ms(100)).call(1).await.unwrap_err();
    assert_eq!(error.to_string(), "node a gave no answer, and 100ms were over");
    assert!(!error.is_unsent() && !error.is_overload());
    let Error::Timeout { limit, node, tries } = error else { panic!("{error}") };
    assert_eq!((limit, node.unwrap().as_str(), tries), (ms(100), "a", 1));
    assert_eq!(scene.log.nodes(1), "a");
}

#[tokio::test(start_paused = true)]
async fn the_total_time_covers_tries_and_waits() {
    let scene = Scene::new(&[Act::Status(500, ms(400)), Act::Status(500, ms(400)), Act::Hang]);
    let start = Instant::now();
    let error = scene.retry().timeout(SECOND).call(0).await.unwrap_err();
    assert_eq!(start.elapsed(), SECOND);
    assert!(
        matches!(&error, Error::Timeout { limit: SECOND, node: Some(c), tries: 3 } if c.as_str() == "c"),
        "{error:?}"
    );
    assert_eq!(scene.log.nodes(0), "abc");
    // It had the request for a fifth of the time.
    assert_eq!(scene.counts('c'), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_had_the_time_and_gave_no_answer_was_too_slow() {
    let scene = Scene::new(&[Act::Hang, OK]);
    scene.retry().timeout(SECOND).call(0).await.unwrap_err();
    assert_eq!(scene.counts('a'), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_total_time_covers_the_queue() {
    let scene = Scene::new(&[OK]);
    scene.cluster.set_max_in_flight("a", 1).unwrap();
    let _held = LoadGuard::start(&scene.cluster.get("a").unwrap().member).unwrap();
    let balance = scene.balance().queue(Queue::new(9, 60 * SECOND));
    let mut retry = Retry::new(balance, buttress::balance::Cloned::new(|_: &u64| true)).timeout(SECOND);
    let start = Instant::now();
    let error = retry.call(0).await.unwrap_err();
    assert_eq!(start.elapsed(), SECOND);
    assert!(error.is_unsent(), "{error:?}");
    assert_eq!(error.to_string(), "no node took the request within 1s");
}

#[tokio::test(start_paused = true)]
async fn the_longest_times_are_no_limits() {
    let scene = Scene::new(&[Act::Status(500, ms(10)), Act::Status(200, 3600 * SECOND)]);
    let retry = scene.retry().try_timeout(Duration::MAX).timeout(Duration::MAX);
    let backoff = Backoff::new(ms(1), Duration::MAX).unwrap();
    let reply = retry.hedge(Hedge::after(Duration::MAX)).backoff(backoff).call(0).await.unwrap();
    assert_eq!(reply.node, 'b');
}

#[tokio::test(start_paused = true)]
async fn no_time_at_all_is_enough_for_an_answer_that_is_there() {
    let scene = Scene::new(&[OK, OK]);
    let error = scene.retry().timeout(Duration::ZERO).call(0).await.unwrap_err();
    assert!(error.is_unsent(), "{error:?}");
    assert_eq!(scene.log.nodes(0), "", "what is late is sent nowhere");
    let reply = scene.retry().try_timeout(Duration::ZERO).call(2).await.unwrap();
    assert_eq!(reply.node, 'a');
}

/// A request that says when it must be over.
#[derive(Clone)]
struct Dated(std::time::Instant);

impl Repeat<u64> for Dated {
    type Attempt = u64;
    type Kept = u64;

    fn first(&self, request: u64) -> (u64, u64) {
        (request, request)
    }

    fn may_repeat(&self, _: &u64, _: FailureKind) -> bool {
        true
    }

    fn again(&self, kept: &mut u64) -> Option<u64> {
        Some(*kept)
    }

    fn deadline(&self, _: &u64) -> Option<std::time::Instant> {
        Some(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_request_counts_and_brings_no_node_into_disrepute() {
    let scene = Scene::new(&[Act::Hang, OK]);
    let start = Instant::now();
    for (timeout, expected) in [(None, ms(50)), (Some(SECOND), ms(50)), (Some(ms(20)), ms(20))] {
        let start = Instant::now();
        let mut retry = Retry::new(scene.balance(), Dated(start.into_std() + ms(50)));
        if let Some(timeout) = timeout {
            retry = retry.timeout(timeout);
        }
        let error = retry.call(0).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { limit, .. } if limit == expected), "{error:?}");
        assert_eq!(start.elapsed(), expected);
    }
    assert_eq!(scene.counts('a'), (1, 2, 0), "only the configured time was for the node to keep");
    let error = Retry::new(scene.balance(), Dated(start.into_std())).call(2).await.unwrap_err();
    assert!(error.is_unsent() && scene.log.nodes(2).is_empty(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn another_node_is_asked_at_once_unless_there_is_a_backoff() {
    let scene = Scene::new(&[BAD, BAD, OK]);
    let start = Instant::now();
    scene.retry().call(0).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    let backoff = Backoff::new(SECOND, 60 * SECOND).unwrap();
    let mut sum = Duration::ZERO;
    for request in 1..=100 {
        let start = Instant::now();
        scene.retry().backoff(backoff).call(2 * request).await.unwrap();
        assert!(start.elapsed() <= 3 * SECOND + ms(2), "1 s and 2 s at most");
        sum += start.elapsed();
    }
    let mean = sum / 100;
    assert!((1200..1800).contains(&mean.as_millis()), "{mean:?} is not half of 3 s");
}

#[tokio::test(start_paused = true)]
async fn sessions_that_fail_together_come_back_apart() {
    let scene = Scene::new(&[BAD, OK]);
    let retry = scene.retry().backoff(Backoff::new(3600 * SECOND, 3600 * SECOND).unwrap());
    let sessions: Vec<_> = (0..1000).map(|session| tokio::spawn(retry.clone().call(2 * session))).collect();
    for session in sessions {
        session.await.unwrap().unwrap();
    }
    let times: HashSet<_> = (0..1000).map(|session| scene.log.visits(2 * session)[1].at).collect();
    assert!(times.len() >= 990, "{} of 1000 differ", times.len());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_there_is_time() {
    let scene = Scene::new(&[BAD, OK]);
    let backoff = Backoff::new(3600 * SECOND, 3600 * SECOND).unwrap();
    let start = Instant::now();
    let mut stopped = 0;
    for request in 0..100 {
        let reply = scene.retry().backoff(backoff).timeout(SECOND).call(2 * request).await.unwrap();
        stopped += u32::from(reply.status == 500);
    }
    assert!(stopped > 95 && start.elapsed() < 5 * SECOND, "{stopped}, {:?}", start.elapsed());
}

/// Answers the first request with this, later ones with success.
fn once(act: Act) -> Arc<dyn Fn(u64) -> Act + Send + Sync> {
    let calls = AtomicU32::new(0);
    Arc::new(move |_| if calls.fetch_add(1, SeqCst) == 0 { act } else { OK })
}

#[tokio::test(start_paused = true)]
async fn of_a_node_that_says_when_others_are_asked_at_once() {
    let scene = Scene::new(&[Act::Later(503, AFTER_5), OK]);
    let start = Instant::now();
    assert_eq!(scene.retry().timeout(60 * SECOND).call(0).await.unwrap().node, 'b');
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_when_is_asked_again_then_if_there_is_time_and_no_other() {
    for status in [503, 429] {
        for (timeout, expected) in
            [(None, (status, 0)), (Some(60 * SECOND), (200, 5)), (Some(4 * SECOND), (status, 0))]
        {
            let scene = Scene::planned([once(Act::Later(status, AFTER_5))]);
            // Its only place is free again while the request waits.
            scene.cluster.set_max_in_flight("a", 1).unwrap();
            let mut retry = scene.retry();
            if let Some(timeout) = timeout {
                retry = retry.timeout(timeout);
            }
            let start = Instant::now();
            let reply = retry.call(0).await.unwrap();
            assert_eq!((reply.status, start.elapsed().as_secs()), expected, "{timeout:?}");
            assert_eq!(scene.in_flight(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_of_several_nodes_that_say_when_is_asked_again() {
    let soon = RetryAfter::Delay(2 * SECOND);
    let scene = Scene::planned([once(Act::Later(503, AFTER_5)), once(Act::Later(503, soon))]);
    let start = Instant::now();
    let reply = scene.retry().timeout(60 * SECOND).call(0).await.unwrap();
    assert_eq!((reply.node, start.elapsed()), ('b', 2 * SECOND));
    assert_eq!(scene.log.nodes(0), "abb");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_throttled_asks_no_other_node_before_its_time() {
    let scene = Scene::planned([once(Act::Later(429, AFTER_5)), once(OK)]);
    let start = Instant::now();
    assert_eq!(scene.retry().call(0).await.unwrap().status, 429);
    let scene = Scene::planned([once(Act::Later(429, AFTER_5)), once(OK)]);
    assert_eq!(scene.retry().timeout(60 * SECOND).call(0).await.unwrap().status, 200);
    assert_eq!(start.elapsed(), 5 * SECOND);
    // Without a time, it may be the limit of that node alone.
    let scene = Scene::new(&[Act::Status(429, Duration::ZERO), OK]);
    assert_eq!(scene.retry().call(0).await.unwrap().node, 'b');
}

#[tokio::test(start_paused = true)]
async fn hostile_times_do_no_harm() {
    let never = [
        RetryAfter::Delay(Duration::MAX),
        RetryAfter::Delay(Duration::from_secs(u64::MAX)),
        RetryAfter::Date(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40)),
    ];
    for at in never {
        let scene = Scene::planned([once(Act::Later(503, at))]);
        let start = Instant::now();
        assert_eq!(scene.retry().timeout(3600 * SECOND).call(0).await.unwrap().status, 503);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
    // A date that is past is now, and still the budget and the tries hold.
    let past = Act::Later(503, RetryAfter::Date(SystemTime::UNIX_EPOCH));
    let scene = Scene::new(&[past]);
    assert_eq!(scene.retry().timeout(SECOND).tries(4).call(0).await.unwrap().status, 503);
    assert_eq!(scene.log.nodes(0), "aaaa");
    let scene = Scene::new(&[past]);
    let empty = Budget::new(0.0, 0).unwrap();
    scene.retry().budget(empty).timeout(SECOND).tries(4).call(0).await.unwrap();
    assert_eq!(scene.log.nodes(0), "a");
}
