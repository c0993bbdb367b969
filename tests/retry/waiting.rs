//! Nodes that are not ready.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress::{
    balance::{Balance, Cloned, Error, Queue, Retry},
    cluster::{Admin, Cluster, Health, LoadGuard, Node},
};
use tokio_test::{assert_pending, assert_ready, task};
use tower::Service;

use crate::support::First;

/// What a door says when it is polled.
const SHUT: u8 = 0;
const OPEN: u8 = 1;
const BROKEN: u8 = 2;
/// Ready, and fails the request.
const BAD: u8 = 3;

/// A node whose readiness is set from outside.
#[derive(Clone, Default)]
struct Door {
    state: Arc<AtomicU8>,
    wakers: Arc<Mutex<Vec<Waker>>>,
    asked: Arc<AtomicU32>,
}

impl Door {
    fn set(&self, state: u8) {
        self.state.store(state, SeqCst);
        self.wakers.lock().unwrap().drain(..).for_each(Waker::wake);
    }
}

impl Service<u32> for Door {
    type Response = u32;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<u32>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.asked.fetch_add(1, SeqCst);
        match self.state.load(SeqCst) {
            SHUT => {
                self.wakers.lock().unwrap().push(cx.waker().clone());
                Poll::Pending
            }
            BROKEN => Poll::Ready(Err(io::Error::other("broken"))),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: u32) -> Self::Future {
        let bad = self.state.load(SeqCst) == BAD;
        std::future::ready(if bad { Err(io::Error::other("bad")) } else { Ok(request) })
    }
}

fn doors(states: &[u8]) -> (Vec<Door>, Cluster<Door>) {
    let doors: Vec<_> = states.iter().map(|_| Door::default()).collect();
    doors.iter().zip(states).for_each(|(door, &state)| door.set(state));
    let named = ('a'..).zip(&doors).map(|(name, door)| (Node::new(name.to_string()), door.clone()));
    let cluster = Cluster::new(named).unwrap();
    (doors, cluster)
}

fn requests(cluster: &Cluster<Door>) -> Vec<u64> {
    cluster.load().iter().map(|member| member.state.requests()).collect()
}

#[tokio::test]
async fn a_retry_does_not_ask_a_node_that_failed_to_become_ready() {
    let (doors, cluster) = doors(&[BROKEN, BAD, OPEN]);
    let mut retry = Retry::new(Balance::new(cluster, First), Cloned::new(|_: &u32| true));
    assert_eq!(retry.call(7).await.unwrap(), 7);
    assert_eq!(doors[0].asked.load(SeqCst), 1);
}

#[tokio::test]
async fn nor_one_that_failed_while_it_was_waited_for() {
    let (doors, cluster) = doors(&[SHUT, SHUT]);
    let retry = Retry::new(Balance::new(cluster.clone(), First), Cloned::new(|_: &u32| true));
    let mut call = task::spawn(retry.clone().call(7));
    assert_pending!(call.poll());
    doors[0].set(BROKEN);
    assert_pending!(call.poll());
    let asked = doors[0].asked.load(SeqCst);
    doors[1].set(BAD);
    doors[0].set(OPEN);
    assert_ready!(call.poll()).unwrap_err();
    assert_eq!(doors[0].asked.load(SeqCst), asked);
}

/// Each way in which a node may be lost, and a request that waits for it is told at once.
#[tokio::test]
async fn a_node_that_is_lost_is_waited_for_no_longer() {
    let ways: [fn(&Cluster<Door>); 5] = [
        |cluster| assert!(cluster.remove("a")),
        |cluster| cluster.set_admin("a", Admin::Down).unwrap(),
        |cluster| cluster.set_admin("a", Admin::Draining).unwrap(),
        |cluster| cluster.set_weight("a", 0).unwrap(),
        |cluster| cluster.replace([(Node::new("b"), Door::default())]).unwrap(),
    ];
    for lose in ways {
        let (_, cluster) = doors(&[SHUT]);
        let mut balance = Balance::new(cluster.clone(), First);
        let mut call = task::spawn(balance.call(7));
        assert_pending!(call.poll());
        assert!(!call.is_woken());
        let state = Arc::clone(&cluster.get("a").unwrap().member.state);
        lose(&cluster);
        assert!(call.is_woken());
        if cluster.get("b").is_some() {
            assert_pending!(call.poll());
            assert_eq!(requests(&cluster), [1], "the new one is waited for");
        } else {
            let error = assert_ready!(call.poll()).unwrap_err();
            assert!(matches!(error, Error::NoNode(_)) && error.is_unsent(), "{error}");
        }
        assert_eq!((state.in_flight(), state.requests(), state.cancelled()), (0, 0, 0));
    }
}

#[tokio::test]
async fn a_node_that_is_found_down_is_left_for_another() {
    let (doors, cluster) = doors(&[SHUT, OPEN, OPEN]);
    let _ = (cluster.set_health("b", Health::Down), cluster.set_admin("c", Admin::Draining));
    // Two of them count, and one is up: that is no panic.
    let mut balance = Balance::new(cluster.clone(), First);
    let mut call = task::spawn(balance.call(7));
    assert_pending!(call.poll());
    cluster.set_health("b", Health::Up).unwrap();
    assert!(call.is_woken());
    assert_eq!(assert_ready!(call.poll()).unwrap(), 7, "a node that comes up is asked too");
    assert_eq!(doors[1].asked.load(SeqCst), 1);

    doors[1].set(SHUT);
    let mut call = task::spawn(balance.call(8));
    assert_pending!(call.poll());
    assert_eq!(cluster.get("a").unwrap().member.state.in_flight(), 1);
    cluster.set_health("a", Health::Down).unwrap();
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_eq!(cluster.get("a").unwrap().member.state.in_flight(), 0);
    doors[1].set(OPEN);
    assert_eq!(assert_ready!(call.poll()).unwrap(), 8);
}

#[tokio::test]
async fn a_new_service_for_the_node_is_asked_instead_of_the_old() {
    let (_, cluster) = doors(&[SHUT]);
    let mut balance = Balance::new(cluster.clone(), First);
    let mut call = task::spawn(balance.call(7));
    assert_pending!(call.poll());
    let open = Door::default();
    open.set(OPEN);
    cluster.insert(Node::new("a"), open).unwrap();
    assert!(call.is_woken());
    assert_eq!(assert_ready!(call.poll()).unwrap(), 7);
    assert_eq!(requests(&cluster), [1]);
}

#[tokio::test]
async fn whoever_waits_sleeps() {
    let (doors, cluster) = doors(&[SHUT, SHUT]);
    let mut balance = Balance::new(cluster.clone(), First);
    let mut call = task::spawn(balance.call(7));
    assert_pending!(call.poll());
    let asked = doors[0].asked.load(SeqCst);
    for _ in 0..100 {
        assert_pending!(call.poll());
        assert!(!call.is_woken());
    }
    assert!(doors[0].asked.load(SeqCst) <= asked + 100, "once for each poll");
    // Changes elsewhere wake it, and cost it nothing of what it has.
    cluster.insert(Node::new("z"), Door::default()).unwrap();
    assert!(call.is_woken());
    assert_pending!(call.poll());
    assert_eq!(requests(&cluster), [1, 1, 1]);
    drop(call);
    assert_eq!(requests(&cluster), [0, 0, 0]);
}

#[tokio::test]
async fn a_node_that_was_full_is_asked_as_soon_as_it_has_room() {
    for queue in [None, Some(Queue::new(10, Duration::from_secs(5))), Some(Queue::new(1, Duration::ZERO))] {
        let (_, cluster) = doors(&[SHUT, OPEN]);
        cluster.set_max_in_flight("b", 1).unwrap();
        let member = cluster.get("b").unwrap().member.clone();
        let taken = LoadGuard::start(&member).unwrap();
        let mut balance = Balance::new(cluster.clone(), First);
        if let Some(queue) = queue {
            balance = balance.queue(queue);
        }
        let mut calls: Vec<_> = (0..3).map(|request| task::spawn(balance.call(request))).collect();
        for call in &mut calls {
            assert_pending!(call.poll());
            assert_pending!(call.poll());
            assert!(!call.is_woken());
        }
        drop(taken);
        // Each hands the room on when it is done, to the first of those behind.
        for call in &mut calls {
            assert!(call.is_woken());
            assert_ready!(call.poll()).unwrap();
        }
        assert_eq!(requests(&cluster), [0, 4]);
    }
}

#[tokio::test]
async fn whoever_leaves_hands_the_room_on() {
    let (_, cluster) = doors(&[SHUT, OPEN]);
    cluster.set_max_in_flight("b", 1).unwrap();
    let member = cluster.get("b").unwrap().member.clone();
    let taken = LoadGuard::start(&member).unwrap();
    let mut balance = Balance::new(cluster.clone(), First);
    let mut first = task::spawn(balance.call(1));
    let mut second = task::spawn(balance.call(2));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    drop(taken);
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    assert!(second.is_woken());
    assert_ready!(second.poll()).unwrap();
    assert_eq!(requests(&cluster), [0, 2]);
}
