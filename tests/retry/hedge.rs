//! A second node beside a slow one.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    balance::{Affinity, Budget, Cloned, Error, Hedge, KeyOf, Queue, Retry},
    cluster::{Health, LoadGuard},
    placement::KeyHash,
    rng::Rng,
};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, task};
use tower::Service;

use crate::support::{Act, BAD, OK, SECOND, Scene, ms, plenty};

const AFTER: Duration = ms(50);

fn hedge() -> Hedge {
    Hedge::after(AFTER)
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_wins_and_the_loser_is_cancelled_in_the_same_poll() {
    let scene = Scene::new(&[Act::Hang, Act::Status(200, ms(10))]);
    let mut call = task::spawn(scene.retry().hedge(hedge()).call(0));
    assert_pending!(call.poll());
    assert_eq!(scene.in_flight(), 1);
    sleep(AFTER).await;
    assert_pending!(call.poll());
    assert_eq!((scene.state('a').in_flight(), scene.state('b').in_flight()), (1, 1));
    sleep(ms(10)).await;
    let reply = tokio_test::assert_ready!(call.poll()).unwrap();
    assert_eq!(reply.node, 'b');
    // The future is still there, and nothing of the request is.
    assert_eq!((scene.counts('a'), scene.counts('b')), ((0, 1, 0), (0, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_loses_is_cancelled_too() {
    let scene = Scene::new(&[Act::Status(200, ms(60)), Act::Hang]);
    let start = Instant::now();
    assert_eq!(scene.retry().hedge(hedge()).call(0).await.unwrap().node, 'a');
    assert_eq!(start.elapsed(), ms(60));
    assert_eq!((scene.counts('a'), scene.counts('b')), ((0, 0, 0), (0, 1, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_quick_answer_is_not_hedged() {
    let scene = Scene::new(&[Act::Status(200, ms(49)), OK]);
    scene.retry().hedge(hedge()).call(0).await.unwrap();
    assert_eq!(scene.log.nodes(0), "a");
}

#[tokio::test(start_paused = true)]
async fn a_failure_does_not_beat_a_try_that_is_under_way() {
    // The second fails, the first goes on.
    let scene = Scene::new(&[Act::Status(200, ms(300)), BAD, OK]);
    let start = Instant::now();
    assert_eq!(scene.retry().hedge(hedge()).call(0).await.unwrap().node, 'a');
    assert_eq!((start.elapsed(), &*scene.log.nodes(0)), (ms(300), "ab"));
    // The first fails, the second goes on.
    let scene = Scene::new(&[Act::Status(500, ms(60)), Act::Status(200, ms(300)), OK]);
    let start = Instant::now();
    assert_eq!(scene.retry().hedge(hedge()).call(0).await.unwrap().node, 'b');
    assert_eq!((start.elapsed(), &*scene.log.nodes(0)), (ms(350), "ab"));
    // Both fail: on to the next.
    let scene = Scene::new(&[Act::Status(500, ms(60)), Act::Status(500, ms(20)), OK, OK]);
    let start = Instant::now();
    assert_eq!(scene.retry().hedge(hedge()).call(0).await.unwrap().node, 'c');
    assert_eq!((start.elapsed(), &*scene.log.nodes(0)), (ms(70), "abc"));
    // Both fail, and that was all: the last answer stands.
    let scene = Scene::new(&[Act::Status(500, ms(60)), Act::Status(500, ms(20)), OK]);
    assert_eq!(scene.retry().hedge(hedge()).tries(2).call(0).await.unwrap().node, 'b');
}

#[tokio::test(start_paused = true)]
async fn a_retry_can_be_hedged_but_no_request_twice() {
    let scene = Scene::new(&[BAD, Act::Status(200, 9 * SECOND), Act::Hang, OK]);
    let start = Instant::now();
    assert_eq!(scene.retry().hedge(hedge()).tries(9).call(0).await.unwrap().node, 'b');
    assert_eq!((start.elapsed(), &*scene.log.nodes(0)), (9 * SECOND, "abc"));
}

#[tokio::test(start_paused = true)]
async fn limits_of_time_hold_for_both_tries() {
    let scene = Scene::new(&[Act::Hang, Act::Hang, OK]);
    let start = Instant::now();
    assert_eq!(scene.retry().hedge(hedge()).try_timeout(ms(100)).call(0).await.unwrap().node, 'c');
    assert_eq!(start.elapsed(), ms(150));
    assert_eq!((scene.counts('a'), scene.counts('b')), ((1, 0, 0), (1, 0, 0)));

    let scene = Scene::new(&[Act::Hang, Act::Hang, OK]);
    let error = scene.retry().hedge(hedge()).timeout(ms(90)).call(0).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { tries: 2, .. }), "{error:?}");
    assert_eq!((scene.counts('a'), scene.counts('b')), ((1, 0, 0), (0, 1, 0)), "the second had 40 ms");
}

#[tokio::test(start_paused = true)]
async fn the_same_node_is_never_asked_twice() {
    let scene = Scene::new(&[Act::Status(200, SECOND)]);
    scene.retry().hedge(hedge()).call(0).await.unwrap();
    assert_eq!(scene.log.nodes(0), "a");
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_repeated_is_not_hedged() {
    let scene = Scene::new(&[Act::Status(200, SECOND), OK]);
    scene.retry().hedge(hedge()).call(1).await.unwrap();
    scene.retry().hedge(hedge()).tries(1).call(2).await.unwrap();
    scene.retry().hedge(hedge()).budget(Budget::new(0.0, 0).unwrap()).call(4).await.unwrap();
    assert_eq!(scene.state('b').requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_in_trouble_gets_no_hedges() {
    // No room.
    let scene = Scene::new(&[Act::Status(200, SECOND), OK]);
    scene.cluster.set_max_in_flight("b", 1).unwrap();
    let held = LoadGuard::start(&scene.cluster.get("b").unwrap().member).unwrap();
    scene.retry().hedge(hedge()).call(0).await.unwrap();
    assert_eq!(scene.log.nodes(0), "a");
    drop(held);
    // Down, and then so many that health is ignored.
    let scene = Scene::new(&[Act::Status(200, SECOND), OK, OK]);
    for (down, request) in [("b", 0), ("c", 2), ("a", 4)] {
        scene.cluster.set_health(down, Health::Down).unwrap();
        scene.retry().hedge(hedge()).call(request).await.unwrap();
    }
    assert_eq!([0, 2, 4].map(|request| scene.log.nodes(request)), ["ac", "a", "a"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_away_takes_both_tries_along() {
    let scene = Scene::new(&[Act::Hang, Act::Hang]);
    let call = scene.retry().hedge(hedge()).call(0);
    assert!(tokio::time::timeout(SECOND, call).await.is_err());
    assert_eq!((scene.counts('a'), scene.counts('b')), ((0, 1, 0), (0, 1, 0)));
}

/// Answers take long enough for the timer's milliseconds not to matter.
fn exponential(rng: &mut Rng) -> Duration {
    Duration::from_secs_f64(-(1.0 - rng.unit()).ln())
}

fn bimodal(rng: &mut Rng) -> Duration {
    Duration::from_secs_f64((if rng.unit() < 0.85 { 0.5 } else { 10.0 }) * (0.8 + 0.4 * rng.unit()))
}

#[tokio::test(start_paused = true)]
async fn the_hedged_share_is_the_configured_one() {
    for (name, law) in [("exponential", exponential as fn(&mut Rng) -> Duration), ("bimodal", bimodal)] {
        for quantile in [0.9, 0.95] {
            let rng = Arc::new(Mutex::new(Rng::seeded(7)));
            let twice = Arc::new(AtomicU64::new(0));
            let scene = Scene::planned((0..3).map(|_| {
                let (rng, twice) = (Arc::clone(&rng), Arc::clone(&twice));
                Arc::new(move |_| {
                    twice.fetch_add(1, SeqCst);
                    Act::Status(200, law(&mut rng.lock().unwrap()))
                }) as Arc<dyn Fn(u64) -> Act + Send + Sync>
            }));
            let retry = scene.retry().hedge(Hedge::quantile(quantile).unwrap()).budget(plenty());
            let mut measured = 0;
            let requests = 12_000;
            let mut calls = Vec::new();
            for request in 0..requests {
                if request == 2_000 {
                    measured = request;
                    twice.store(0, SeqCst);
                }
                calls.push(tokio::spawn(retry.clone().call(2 * request)));
                sleep(ms(100)).await;
            }
            for call in calls {
                call.await.unwrap().unwrap();
            }
            let requests = requests - measured;
            let share = (twice.load(SeqCst) - requests) as f64 / requests as f64;
            let ratio = share / (1.0 - quantile);
            println!("{name} at {quantile}: {share}");
            assert!((0.85..1.15).contains(&ratio), "{name}: {share} at {quantile}");
            assert_eq!(scene.in_flight(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_bounds_the_hedges_when_everything_is_slow() {
    let slow = Act::Status(200, SECOND);
    let scene = Scene::new(&[slow, slow]);
    let mut retry = scene.retry().hedge(hedge()).budget(Budget::new(0.1, 0).unwrap());
    for request in 0..200 {
        retry.call(2 * request).await.unwrap();
    }
    let hedged = scene.state('b').requests();
    assert!(hedged.abs_diff(20) <= 1, "{hedged} of 200");
}

/// Everything goes to `c`.
#[derive(Clone)]
struct ToC;

impl KeyOf<u64> for ToC {
    fn key(&self, _: &u64) -> Option<KeyHash> {
        None
    }

    fn affinity(&self, _: &u64) -> Option<Affinity> {
        Some(Affinity::Require("c".into()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_would_stand_in_line_is_neither_sent_nor_paid_for() {
    let scene = Scene::new(&[Act::Status(200, ms(100)), OK, Act::Hang]);
    scene.cluster.set_max_in_flight("c", 1).unwrap();
    let queue = Queue::new(10, SECOND);
    let mut pinned = scene.balance().key(ToC).queue(queue);
    let mut waiting = [1, 3].map(|request| task::spawn(pinned.call(request)));
    for call in &mut waiting {
        assert_pending!(call.poll());
    }

    let budget = Arc::new(Budget::new(0.0, 1).unwrap());
    let repeat = Cloned::new((|_: &u64| true) as fn(&u64) -> bool);
    let mut retry =
        Retry::new(scene.balance().queue(queue), repeat).hedge(hedge()).budget(Arc::clone(&budget));
    assert_eq!(retry.call(0).await.unwrap().node, 'a');
    assert_eq!(scene.log.nodes(0), "a");
    assert!(budget.withdraw());
}
