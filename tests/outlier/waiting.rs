//! Nodes that are out, and not ready either.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    balance::{Affinity, Balance, Error, KeyOf, RoundRobin},
    cluster::{Cluster, Health, LoadGuard, Node, NodeState},
    health::{Ejections, OutlierDetection},
    placement::KeyHash,
    time::ManualClock,
};
use tokio_test::{
    assert_pending, assert_ready,
    task::{self, Spawn},
};
use tower::Service;

use crate::support::FAILED;

/// A node whose readiness is set from outside.
#[derive(Clone)]
struct Door {
    name: char,
    is_open: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    wakers: Arc<Mutex<Vec<Waker>>>,
}

impl Door {
    fn new(name: char, is_open: bool) -> Self {
        let is_open = Arc::new(is_open.into());
        Self { name, is_open, asked: Arc::default(), wakers: Arc::default() }
    }

    fn open(&self) {
        self.is_open.store(true, SeqCst);
        self.wakers.lock().unwrap().drain(..).for_each(Waker::wake);
    }
}

impl Service<Option<Affinity>> for Door {
    type Response = char;
    type Error = Infallible;
    type Future = Ready<Result<char, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        assert!(self.asked.fetch_add(1, SeqCst) < 1000, "asked without end");
        if self.is_open.load(SeqCst) {
            return Poll::Ready(Ok(()));
        }
        self.wakers.lock().unwrap().push(cx.waker().clone());
        Poll::Pending
    }

    fn call(&mut self, _: Option<Affinity>) -> Self::Future {
        ready(Ok(self.name))
    }
}

/// A request goes to the node that it names.
#[derive(Clone)]
struct Named;

impl KeyOf<Option<Affinity>> for Named {
    fn key(&self, _: &Option<Affinity>) -> Option<KeyHash> {
        None
    }

    fn affinity(&self, request: &Option<Affinity>) -> Option<Affinity> {
        request.clone()
    }
}

/// Three nodes, of which `a` is shut, out, and due to be tried.
struct Scene {
    clock: ManualClock,
    cluster: Cluster<Door>,
    ejections: Ejections,
    door: Door,
    balance: Balance<Door, Named>,
}

fn due() -> Scene {
    let clock = ManualClock::new();
    let door = Door::new('a', false);
    let doors = [door.clone(), Door::new('b', true), Door::new('c', true)];
    let nodes = doors.map(|door| (Node::new(door.name.to_string()), door));
    let cluster = Cluster::builder().clock(clock.clone()).build(nodes).unwrap();
    let ejections = OutlierDetection::new().jitter(0).watch(&cluster).unwrap();
    let member = cluster.get("a").unwrap().member.clone();
    (0..5).for_each(|_| LoadGuard::start(&member).unwrap().judge(FAILED));
    clock.advance(Duration::from_secs(5));
    let balance = Balance::new(cluster.clone(), RoundRobin).key(Named);
    Scene { clock, cluster, ejections, door, balance }
}

impl Scene {
    fn state(&self) -> Arc<NodeState> {
        Arc::clone(&self.cluster.get("a").unwrap().member.state)
    }

    /// A request that belongs to `a`.
    fn call_a(&mut self) -> Spawn<impl Future<Output = Result<char, Error<Infallible>>> + use<>> {
        task::spawn(self.balance.call(Some(Affinity::Require("a".into()))))
    }
}

#[tokio::test]
async fn a_node_that_is_due_but_not_ready_is_passed_over() {
    let mut scene = due();
    for turn in 1..=10 {
        let mut call = task::spawn(scene.balance.call(None));
        assert_ne!(assert_ready!(call.poll()).unwrap(), 'a');
        // Once as it is chosen, once with a waker, and once more as the next one is asked.
        assert!(scene.door.asked.load(SeqCst) <= 3 * turn);
        assert_eq!((scene.state().in_flight(), scene.state().requests()), (0, 5));
    }
    scene.door.open();
    let mut call = task::spawn(scene.balance.call(None));
    assert_eq!(assert_ready!(call.poll()).unwrap(), 'a', "the permit is still there");
    assert_eq!(scene.ejections.list(), []);
}

#[tokio::test]
async fn whoever_may_try_a_node_waits_until_it_is_ready() {
    let mut scene = due();
    let mut call = scene.call_a();
    assert_pending!(call.poll());
    assert_pending!(call.poll());
    assert!(!call.is_woken() && scene.state().in_flight() == 1);
    scene.door.open();
    assert!(call.is_woken());
    assert_eq!(assert_ready!(call.poll()).unwrap(), 'a');
    assert_eq!(scene.ejections.list(), []);
}

#[tokio::test]
async fn whoever_waits_with_a_permit_gives_it_back_when_the_node_goes_down_or_its_time_is_over() {
    let mut scene = due();
    let mut call = scene.call_a();
    assert_pending!(call.poll());
    scene.cluster.set_health("a", Health::Down).unwrap();
    assert!(call.is_woken());
    assert_ready!(call.poll()).unwrap_err();
    assert_eq!(scene.state().in_flight(), 0);

    let mut scene = due();
    let mut call = scene.call_a();
    assert_pending!(call.poll());
    scene.clock.advance(Duration::from_secs(10));
    // Somebody else looks at the time.
    drop(scene.balance.pick(None).unwrap());
    assert_eq!(scene.ejections.list()[0].left, Duration::from_secs(10));
    assert!(call.is_woken());
    assert_ready!(call.poll()).unwrap_err();
    assert_eq!(scene.state().in_flight(), 0);
}
