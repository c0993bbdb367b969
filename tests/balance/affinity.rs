//! Requests that belong to one node.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use buttress::{
    balance::{
        Affinity, Balance, Cloned, Error, KeyOf, LeastRequest, NoNode, Queue, Retry, RoundRobin,
        WeightedRoundRobin,
    },
    cluster::{Admin, Cluster, Health, Node},
    placement::KeyHash,
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Service, ServiceExt, service_fn};

use crate::support::Stage;

/// What a request asks for is where it goes.
#[derive(Clone)]
struct AsAsked;

impl KeyOf<Option<Affinity>> for AsAsked {
    fn key(&self, _: &Option<Affinity>) -> Option<KeyHash> {
        None
    }

    fn affinity(&self, request: &Option<Affinity>) -> Option<Affinity> {
        request.clone()
    }
}

fn prefer(node: &str) -> Affinity {
    Affinity::Prefer(node.into())
}

fn require(node: &str) -> Affinity {
    Affinity::Require(node.into())
}

fn name(
    name: &'static str,
) -> impl Service<Option<Affinity>, Response = &'static str, Error = Infallible, Future: Send> + Clone {
    service_fn(move |_| async move { Ok::<_, Infallible>(name) })
}

/// The name of the node that answers, or why none does.
async fn ask(
    cluster: &Cluster<
        impl Service<Option<Affinity>, Response = &'static str, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    >,
    affinity: impl Into<Option<Affinity>>,
) -> Result<&'static str, NoNode> {
    let balance = Balance::new(cluster.clone(), RoundRobin).key(AsAsked);
    match balance.oneshot(affinity.into()).await {
        Ok(name) => Ok(name),
        Err(Error::NoNode(why)) => Err(why),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn an_affinity_is_kept_while_the_node_can_serve() {
    let nodes = ["a", "b", "c", "d"].map(|id| (Node::new(id), name(id)));
    let cluster = Cluster::new(nodes).unwrap();
    for affinity in [prefer("b"), require("b")] {
        for (admin, weight) in [(Admin::Active, 1), (Admin::Draining, 1), (Admin::Active, 0)] {
            cluster.set_admin("b", admin).unwrap();
            cluster.set_weight("b", weight).unwrap();
            for _ in 0..10 {
                assert_eq!(ask(&cluster, affinity.clone()).await, Ok("b"), "{admin:?}, weight {weight}");
            }
        }
    }
    assert_ne!(ask(&cluster, None).await, Ok("b"), "nobody else goes to a node of weight 0");

    cluster.set_weight("b", 1).unwrap();
    cluster.set_health("b", Health::Draining).unwrap();
    assert_eq!(ask(&cluster, prefer("b")).await, Ok("b"), "it told a health check that it drains");
    for _ in 0..10 {
        assert_ne!(ask(&cluster, None).await, Ok("b"));
    }
}

#[tokio::test]
async fn a_node_that_cannot_serve_is_replaced_or_missed() {
    let nodes = ["a", "b", "c", "d"].map(|id| (Node::new(id), name(id)));
    let cluster = Cluster::new(nodes).unwrap();
    let missed = |why: NoNode| (why.inactive, why.unhealthy, why.full, why.is_pinned);

    cluster.set_health("b", Health::Down).unwrap();
    assert_ne!(ask(&cluster, prefer("b")).await, Ok("b"));
    assert_eq!(ask(&cluster, require("b")).await.map_err(missed), Err((0, 1, 0, true)));
    cluster.set_health("b", Health::Up).unwrap();

    cluster.set_admin("b", Admin::Down).unwrap();
    assert_ne!(ask(&cluster, prefer("b")).await, Ok("b"));
    assert_eq!(ask(&cluster, require("b")).await.map_err(missed), Err((1, 0, 0, true)));

    cluster.remove("b");
    assert_ne!(ask(&cluster, prefer("b")).await, Ok("b"));
    let why = ask(&cluster, require("b")).await.unwrap_err();
    assert_eq!(missed(why), (0, 0, 0, true));
    assert_eq!(why.to_string(), "the node that the request is pinned to cannot take it: it is not there");
}

#[tokio::test]
async fn panic_ignores_health_for_pinned_requests_too() {
    let nodes = ["a", "b", "c"].map(|id| (Node::new(id), name(id)));
    let cluster = Cluster::new(nodes).unwrap();
    cluster.set_health("a", Health::Down).unwrap();
    cluster.set_health("b", Health::Down).unwrap();
    assert_eq!(ask(&cluster, require("b")).await, Ok("b"));
}

#[tokio::test]
async fn pinned_requests_count_as_load_of_their_node() {
    let hangs = service_fn(|_: Option<Affinity>| std::future::pending::<Result<(), Infallible>>());
    let cluster = Cluster::new(["a", "b"].map(|id| (Node::new(id), hangs))).unwrap();
    let mut balance = Balance::new(cluster.clone(), LeastRequest::of_all()).key(AsAsked);
    let _pinned: Vec<_> = (0..3).map(|_| balance.call(Some(prefer("a")))).collect();
    let _others: Vec<_> = (0..3).map(|_| balance.call(None)).collect();
    for node in ["a", "b"] {
        assert_eq!(cluster.get(node).unwrap().member.state.in_flight(), 3, "{node}");
    }
}

/// As [`AsAsked`], for nodes on stage.
#[derive(Clone)]
struct ToA;

impl KeyOf<u64> for ToA {
    fn key(&self, _: &u64) -> Option<KeyHash> {
        None
    }

    fn affinity(&self, _: &u64) -> Option<Affinity> {
        Some(Affinity::Require("a".into()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_required_node_that_is_full_is_waited_for() {
    let stage = Stage::default();
    let cluster = stage.cluster(2, 1);
    let balance = Balance::new(cluster, RoundRobin).key(ToA);
    let mut waits = balance.clone().queue(Queue::new(10, Duration::from_secs(5)));
    let mut first = task::spawn(waits.call(1));
    assert_pending!(first.poll());
    assert!(matches!(balance.oneshot(2).await, Err(Error::NoNode(why)) if why.full == 1));
    let mut third = task::spawn(waits.call(3));
    assert_pending!(third.poll());
    stage.answer(1, Ok(()));
    assert_ready!(first.poll()).unwrap();
    assert_pending!(third.poll());
    stage.answer(3, Ok(()));
    assert_eq!(assert_ready!(third.poll()).unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_required_node_that_is_full_and_drains_is_waited_for() {
    let stage = Stage::default();
    let cluster = stage.cluster(3, 1);
    cluster.set_health("a", Health::Draining).unwrap();
    let queue = Queue::new(10, Duration::from_secs(5));
    let mut balance = Balance::new(cluster, RoundRobin).key(ToA).queue(queue);
    let mut first = task::spawn(balance.call(1));
    assert_pending!(first.poll());
    let mut second = task::spawn(balance.call(2));
    assert_pending!(second.poll());
    stage.answer(1, Ok(()));
    assert_ready!(first.poll()).unwrap();
    assert_pending!(second.poll());
    stage.answer(2, Ok(()));
    assert_eq!(assert_ready!(second.poll()).unwrap(), "a");
}

#[tokio::test]
async fn the_answer_of_a_required_node_stands() {
    let stage = Stage::default();
    let cluster = stage.cluster(2, 0);
    let balance = Balance::new(cluster, RoundRobin).key(ToA);
    let mut retry = Retry::new(balance, Cloned::new(|_: &u64| true));
    let mut request = task::spawn(retry.call(1));
    assert_pending!(request.poll());
    stage.answer(1, Err(std::io::Error::other("failed on stage")));
    let error = assert_ready!(request.poll()).unwrap_err();
    assert!(
        matches!(error, Error::Node { node, .. } if node.as_str() == "a"),
        "not that there is no other node"
    );
}

#[tokio::test]
async fn pinned_requests_take_turns_of_their_node() {
    let nodes = ["a", "b", "c", "d"].map(|id| (Node::new(id), name(id)));
    let cluster = Cluster::new(nodes).unwrap();
    let balance = Balance::new(cluster, WeightedRoundRobin).key(AsAsked);
    let mut served = BTreeMap::new();
    for request in 0..400 {
        // A quarter of them belongs to `a`: its whole share.
        let affinity = (request % 4 == 0).then(|| prefer("a"));
        *served.entry(balance.clone().oneshot(affinity).await.unwrap()).or_insert(0_u32) += 1;
    }
    assert!(served.values().all(|&requests| requests.abs_diff(100) <= 4), "{served:?}");

    // When they stop coming, the node is soon in its turn again.
    for _ in 0..100 {
        assert_eq!(balance.clone().oneshot(Some(prefer("a"))).await.unwrap(), "a");
    }
    let mut turns = 0;
    while balance.clone().oneshot(None).await.unwrap() != "a" {
        turns += 1;
    }
    assert!(turns <= 3 * 9, "after {turns} turns of others");
}
