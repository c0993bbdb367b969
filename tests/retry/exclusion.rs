//! Which nodes are asked, and how often.

use std::io;

use buttress::balance::{Budget, Error};
use tower::Service;

use crate::support::{Act, BAD, OK, Scene};

const REFUSED: Act = Act::Error(io::ErrorKind::ConnectionRefused);
const RESET: Act = Act::Error(io::ErrorKind::ConnectionReset);

#[tokio::test]
async fn no_node_is_asked_twice() {
    let scene = Scene::new(&[BAD, RESET, REFUSED, BAD, BAD]);
    let reply = scene.retry().tries(100).call(0).await.unwrap();
    assert_eq!((reply.status, reply.node), (500, 'e'), "the last answer stands");
    assert_eq!(scene.log.nodes(0), "abcde");
    assert_eq!(scene.in_flight(), 0);
}

#[tokio::test]
async fn tries_count_the_first_one() {
    for tries in 0..5 {
        let scene = Scene::new(&[BAD; 5]);
        scene.retry().tries(tries).call(0).await.unwrap();
        assert_eq!(scene.log.nodes(0).len(), tries.max(1) as usize);
    }
}

#[tokio::test]
async fn what_may_have_done_something_is_not_repeated_unless_idempotent() {
    for (act, odd, even) in [(BAD, "a", "ab"), (RESET, "a", "ab"), (REFUSED, "ab", "ab")] {
        let scene = Scene::new(&[act, OK]);
        let mut retry = scene.retry();
        let _ = retry.call(1).await;
        let _ = retry.call(2).await;
        assert_eq!((&*scene.log.nodes(1), &*scene.log.nodes(2)), (odd, even), "{act:?}");
    }
}

#[tokio::test]
async fn the_budget_is_exact_at_every_ratio() {
    for percent in [1_u32, 5, 10, 15, 30, 40, 60, 70, 90, 100] {
        let scene = Scene::new(&[BAD, BAD]);
        let budget = Budget::new(f64::from(percent) / 100.0, 0).unwrap();
        let mut retry = scene.retry().budget(budget);
        for request in 0..1000 {
            assert!(retry.call(2 * request).await.is_ok());
        }
        let granted = scene.state('b').requests();
        assert!(granted.abs_diff(10 * u64::from(percent)) <= 1, "{granted} of 1000 at {percent} %");
    }
}

#[tokio::test]
async fn the_answer_stands_if_the_other_nodes_are_full() {
    let scene = Scene::new(&[BAD, OK]);
    scene.cluster.set_max_in_flight("b", 1).unwrap();
    let _held = buttress::cluster::LoadGuard::start(&scene.cluster.get("b").unwrap().member).unwrap();
    assert_eq!(scene.retry().call(0).await.unwrap().status, 500);
}

#[tokio::test]
async fn an_error_that_follows_a_try_does_not_say_that_nothing_was_sent() {
    let scene = Scene::new(&[RESET]);
    let error = scene.retry().call(0).await.unwrap_err();
    assert!(matches!(error, Error::Node { .. }) && !error.is_unsent(), "{error}");
    scene.cluster.remove("a");
    let error = scene.retry().call(0).await.unwrap_err();
    assert!(matches!(error, Error::NoNode(_)) && error.is_unsent(), "{error}");
}

/// Neither a timer nor a runtime is needed.
#[test]
fn without_limits_of_time_no_runtime_is_needed() {
    let scene = Scene::new(&[RESET, REFUSED, RESET]);
    let mut call = tokio_test::task::spawn(scene.retry().call(0));
    assert!(call.poll().is_ready());
    assert_eq!(scene.log.nodes(0), "abc");
}
