//! The way back: one request tries a node that is out.

use std::{convert::Infallible, time::Duration};

use buttress::{
    balance::{Affinity, Balance, Cloned, Error, KeyOf, Retry, RoundRobin},
    cluster::{Cluster, FailureKind, LoadGuard, Node, Verdict},
    health::OutlierDetection,
    placement::KeyHash,
    time::ManualClock,
};
use tower::{Service, ServiceExt, service_fn};

use crate::support::{FAILED, World, name, named, pick, send};

/// A world in which `b` is out and due.
fn due() -> (World, Balance<()>) {
    let world = World::new(OutlierDetection::new(), named(4));
    world.eject("b");
    world.pass(5000);
    let balance = world.balance(RoundRobin);
    (world, balance)
}

#[test]
fn exactly_one_request_tries_a_node_that_is_due() {
    let (world, balance) = due();
    let mut probe = pick(&balance);
    assert_eq!(name(&probe), "b");
    let others: Vec<_> = (0..100).map(|_| name(&pick(&balance))).collect();
    assert!(others.iter().all(|node| node != "b"));
    assert!(world.is_out("b"));
    assert_eq!(world.ejections.list()[0].to_string(), "b: failures in a row, to be tried");
    probe.judge(Verdict::Success);
    assert!(!world.is_out("b"));
    assert_eq!(send(&balance, 4, |_| Verdict::Success)["b"], 1);
}

#[test]
fn a_probe_that_is_given_up_or_says_nothing_is_followed_by_another() {
    let (world, balance) = due();
    for _ in 0..20 {
        drop(pick(&balance));
        assert!(world.is_out("b"));
        let mut probe = pick(&balance);
        assert_eq!(name(&probe), "b");
        probe.judge(Verdict::Neutral);
        let mut next = pick(&balance);
        assert_eq!(name(&next), "b", "the body of the one before may stream on");
        next.judge(Verdict::Failure(FailureKind::Throttled));
    }
    assert_eq!(world.ejections.list()[0].left, Duration::ZERO);
    pick(&balance).judge(Verdict::Success);
    assert_eq!(world.ejections.list(), []);
}

#[test]
fn a_probe_that_fails_leaves_the_node_out_for_longer() {
    let (world, balance) = due();
    for seconds in [10, 20, 40, 80, 160, 300, 300] {
        let mut probe = pick(&balance);
        assert_eq!(name(&probe), "b");
        probe.judge(FAILED);
        drop(probe);
        assert_eq!(world.ejections.list()[0].left, Duration::from_secs(seconds));
        world.pass(seconds * 1000 - 1);
        assert_ne!(name(&pick(&balance)), "b");
        world.pass(1);
    }
}

#[test]
fn a_probe_that_hangs_has_failed_after_its_time() {
    let (world, balance) = due();
    let mut hung = pick(&balance);
    world.pass(9_999);
    assert_ne!(name(&pick(&balance)), "b");
    assert_eq!(world.ejections.list()[0].left, Duration::ZERO);
    world.pass(1);
    assert_ne!(name(&pick(&balance)), "b");
    assert_eq!(world.ejections.list()[0].left, Duration::from_secs(10));
    // What it says now comes too late.
    hung.judge(Verdict::Success);
    assert!(world.is_out("b"));
    world.pass(10_000);
    let mut probe = pick(&balance);
    assert_eq!(name(&probe), "b");
    drop(hung);
    assert_ne!(name(&pick(&balance)), "b", "the permit is not that one's to give back");
    probe.judge(Verdict::Success);
    assert!(!world.is_out("b"));
}

#[test]
fn answers_from_before_an_ejection_change_nothing() {
    let world = World::new(OutlierDetection::new(), named(4));
    let balance = world.balance(RoundRobin);
    let old: Vec<_> = (0..20).map(|_| world.start("b")).collect();
    world.eject("b");
    let mut old = old.into_iter();
    old.next().unwrap().judge(Verdict::Success);
    (&mut old).take(9).for_each(|mut guard| guard.judge(FAILED));
    assert_eq!(world.ejections.list()[0].left, Duration::from_secs(5));
    world.pass(5000);
    pick(&balance).judge(Verdict::Success);
    old.for_each(|mut guard| guard.judge(FAILED));
    assert!(!world.is_out("b"));
}

#[test]
fn a_body_that_breaks_after_a_good_head_counts_against_the_node_once_more() {
    let (world, balance) = due();
    let mut probe = pick(&balance);
    probe.judge(Verdict::Success);
    assert!(!world.is_out("b"));
    probe.break_off();
    probe.break_off();
    drop(probe);
    for _ in 0..4 {
        assert!(!world.is_out("b"));
        world.start("b").judge(Verdict::Failure(FailureKind::Transport));
    }
    assert!(world.is_out("b"));
}

#[test]
fn a_node_that_is_full_from_before_is_tried_when_it_has_room() {
    let world = World::new(OutlierDetection::new(), named(3).map(|node| node.max_in_flight(6)));
    let balance = world.balance(RoundRobin);
    let hung: Vec<_> = (0..5).map(|_| world.start("b")).collect();
    world.eject("b");
    let last = world.start("b");
    world.pass(5000);
    assert_ne!(name(&pick(&balance)), "b");
    drop(last);
    world.pass(10);
    assert_eq!(name(&pick(&balance)), "b");
    drop(hung);
}

/// A request goes to the node that it names.
#[derive(Clone)]
struct Named;

impl KeyOf<Affinity> for Named {
    fn key(&self, _: &Affinity) -> Option<KeyHash> {
        None
    }

    fn affinity(&self, request: &Affinity) -> Option<Affinity> {
        Some(request.clone())
    }
}

fn answering(
    clock: ManualClock,
) -> Cluster<impl Service<Affinity, Response = &'static str, Error = &'static str, Future: Send> + Clone> {
    let node = |id: &'static str| {
        let fails = id == "b";
        let reply = move |_: Affinity| async move { if fails { Err("b is broken") } else { Ok(id) } };
        (Node::new(id), service_fn(reply))
    };
    Cluster::builder().clock(clock).build(["a", "b", "c"].map(node)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn requests_that_belong_elsewhere_and_retries_try_nobody() {
    let clock = ManualClock::new();
    let cluster = answering(clock.clone());
    let ejections = OutlierDetection::new().watch(&cluster).unwrap();
    let fail = |node: &str| LoadGuard::start(&cluster.get(node).unwrap().member).unwrap().judge(FAILED);
    (0..5).for_each(|_| fail("a"));
    clock.advance(Duration::from_secs(6));

    let balance = Balance::new(cluster.clone(), RoundRobin).key(Named);
    let mut retry = Retry::new(balance.clone(), Cloned::new(|_: &Affinity| true));
    for _ in 0..4 {
        // It fails at b, and then goes to c, as a is out.
        let answer = retry.ready().await.unwrap().call(Affinity::Prefer("b".into())).await;
        assert_eq!(answer.unwrap(), "c");
    }
    assert_eq!(ejections.list().len(), 1);
    // One that belongs to the node itself may try it.
    let answer = balance.clone().oneshot(Affinity::Require("a".into())).await;
    assert_eq!(answer.unwrap(), "a");
    assert_eq!(ejections.list(), []);
}

#[tokio::test(start_paused = true)]
async fn a_required_node_that_is_out_is_missed_until_it_is_due() {
    let clock = ManualClock::new();
    let cluster = answering(clock.clone());
    let _ejections = OutlierDetection::new().watch(&cluster).unwrap();
    let fail = |node: &str| LoadGuard::start(&cluster.get(node).unwrap().member).unwrap().judge(FAILED);
    (0..5).for_each(|_| fail("a"));
    let balance = Balance::new(cluster.clone(), RoundRobin).key(Named);
    let ask = |affinity| balance.clone().oneshot(affinity);
    let refused = ask(Affinity::Require("a".into())).await;
    assert!(matches!(refused, Err(Error::NoNode(why)) if why.unhealthy == 1));
    let other = ask(Affinity::Prefer("a".into())).await;
    assert_ne!(other.ok(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_of_a_probe_gives_the_permit_back() {
    let clock = ManualClock::new();
    let hangs = service_fn(|()| std::future::pending::<Result<(), Infallible>>());
    let nodes = ["a", "b", "c"].map(|id| (Node::new(id), hangs));
    let cluster = Cluster::builder().clock(clock.clone()).build(nodes).unwrap();
    let _ejections = OutlierDetection::new().watch(&cluster).unwrap();
    let member = cluster.get("a").unwrap().member.clone();
    (0..5).for_each(|_| LoadGuard::start(&member).unwrap().judge(FAILED));
    clock.advance(Duration::from_secs(6));
    let mut balance = Balance::new(cluster, RoundRobin);
    for _ in 0..10 {
        let probe = balance.call(());
        assert_eq!(member.state.in_flight(), 1);
        let others: Vec<_> = (0..10).map(|_| balance.call(())).collect();
        assert_eq!(member.state.in_flight(), 1);
        drop((probe, others));
        assert_eq!(member.state.in_flight(), 0);
    }
}
