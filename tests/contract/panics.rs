//! The user's code panics: the next call works, and others notice nothing.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use buttress::{
    balance::{Balance, Cloned, KeyOf, Nodes, PickCx, Picker, Policy, Retry, RoundRobin},
    cluster::{Cluster, Node},
    placement::KeyHash,
};
use tower::{Service, service_fn};

/// Panics once, when it is armed.
#[derive(Clone, Debug, Default)]
struct Trap(Arc<AtomicBool>);

impl Trap {
    fn arm(&self) {
        self.0.store(true, SeqCst);
    }

    fn step(&self) {
        assert!(!self.0.swap(false, SeqCst), "as planned");
    }
}

/// As round robin, with a trap in the building of a picker and one in picking.
#[derive(Debug, Default)]
struct Trapped {
    build: Trap,
    pick: Trap,
}

#[derive(Debug)]
struct TrappedPicker(Trap, Box<dyn Picker>);

impl Policy for Trapped {
    fn picker(&self, nodes: &Nodes, _: Option<&dyn Picker>) -> Box<dyn Picker> {
        self.build.step();
        Box::new(TrappedPicker(self.pick.clone(), RoundRobin.picker(nodes, None)))
    }
}

impl Picker for TrappedPicker {
    fn pick(&self, nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
        self.0.step();
        self.1.pick(nodes, cx)
    }
}

#[derive(Clone)]
struct TrappedKey(Trap);

impl KeyOf<u32> for TrappedKey {
    fn key(&self, _: &u32) -> Option<KeyHash> {
        self.0.step();
        None
    }
}

fn panics<T>(code: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(code)).is_err()
}

#[test]
fn a_policy_that_panics_keeps_the_news_from_nobody_else() {
    let cluster = Cluster::new([(Node::new("a"), "a")]).unwrap();
    let policy = Arc::new(Trapped::default());
    let trapped = Balance::new(cluster.clone(), Arc::clone(&policy));
    let other = Balance::new(cluster.clone(), RoundRobin);
    policy.build.arm();
    assert!(panics(|| cluster.replace([(Node::new("b"), "b")])));
    assert_eq!(other.pick(None).unwrap().0, "b");
    assert_eq!(trapped.pick(None).unwrap().0, "a", "it has not followed");
    cluster.insert(Node::new("b").weight(2), "b").unwrap();
    assert_eq!(trapped.pick(None).unwrap().0, "b");
}

#[test]
fn a_request_whose_pick_panics_leaves_nothing_behind() {
    let echo = service_fn(|request: u32| async move { Ok::<_, Infallible>(request) });
    let cluster = Cluster::new(["a", "b"].map(|id| (Node::new(id), echo))).unwrap();
    let policy = Arc::new(Trapped::default());
    let (key, idempotent) = (Trap::default(), Trap::default());
    let asked = idempotent.clone();
    let is_idempotent = move |_: &u32| {
        asked.step();
        true
    };
    let balance = Balance::new(cluster.clone(), Arc::clone(&policy)).key(TrappedKey(key.clone()));
    // Every answer is a failure, so that each request comes to the question whether it may be repeated.
    let fails = |_: Result<&u32, &Infallible>| {
        buttress::cluster::Verdict::Failure(buttress::cluster::FailureKind::Response)
    };
    let mut retry = Retry::new(balance.classify(fails), Cloned::new(is_idempotent));
    let mut works = || {
        let answer = tokio_test::task::spawn(retry.call(7)).poll();
        assert!(matches!(answer, std::task::Poll::Ready(Ok(7))));
    };
    for trap in [&policy.pick, &key, &idempotent] {
        trap.arm();
        assert!(panics(&mut works));
        assert!(cluster.load().iter().all(|member| member.state.in_flight() == 0));
        works();
    }
}
