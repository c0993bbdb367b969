//! Nobody is woken for the sake of a node that is out, or for nothing.

use std::{
    future::{Future, pending},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress::{
    balance::{Balance, Error, Levels, Queue, RoundRobin},
    cluster::{Cluster, FailureKind, Health, LoadGuard, Node, Verdict},
    health::OutlierDetection,
};
use pin_project_lite::pin_project;
use tower::{Service, service_fn};

pin_project! {
    struct Counted<F> {
        polls: Arc<AtomicUsize>,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<F::Output> {
        self.polls.fetch_add(1, Relaxed);
        self.project().future.poll(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_while_the_others_are_out_is_polled_twice_in_an_hour() {
    let hangs = service_fn(|()| pending::<Result<(), std::io::Error>>());
    let nodes = ["a", "b", "c"].map(|id| (Node::new(id).max_in_flight(1), hangs));
    let cluster = Cluster::new(nodes).unwrap();
    let ejections = OutlierDetection::new().max_share(100).watch(&cluster).unwrap();
    let member = |node| Arc::clone(&cluster.get(node).unwrap().member);
    for _ in 0..5 {
        LoadGuard::start(&member("a")).unwrap().judge(Verdict::Failure(FailureKind::Connect));
    }
    cluster.set_health("b", Health::Down).unwrap();
    assert_eq!(ejections.list().len(), 1);
    let _busy = LoadGuard::start(&member("c")).unwrap();

    let hour = Duration::from_secs(3600);
    let mut balance = Balance::new(cluster.clone(), RoundRobin)
        .levels(Levels::default().panic(0))
        .queue(Queue::new(10, hour));
    let polls = Arc::new(AtomicUsize::new(0));
    let waits = tokio::spawn(Counted { polls: Arc::clone(&polls), future: balance.call(()) });
    let answer = waits.await.unwrap();
    assert!(matches!(answer, Err(Error::QueueTimeout(waited)) if waited == hour));
    // The first one, and the end of its patience. Half-open for an hour, `a` wakes nobody.
    assert!(polls.load(Relaxed) <= 2, "{} polls", polls.load(Relaxed));
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0, "there is no task");
}

/// Never answers, and is ready if it was made so.
#[derive(Clone)]
struct Hangs {
    is_ready: bool,
}

impl Service<()> for Hangs {
    type Response = ();
    type Error = std::io::Error;
    type Future = std::future::Pending<Result<(), std::io::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        if self.is_ready { std::task::Poll::Ready(Ok(())) } else { std::task::Poll::Pending }
    }

    fn call(&mut self, (): ()) -> Self::Future {
        pending()
    }
}

fn hold(cluster: &Cluster<Hangs>, node: &str) -> LoadGuard {
    LoadGuard::start(&cluster.get(node).unwrap().member).unwrap()
}

fn eject(cluster: &Cluster<Hangs>, node: &str) {
    for _ in 0..5 {
        hold(cluster, node).judge(Verdict::Failure(FailureKind::Connect));
    }
    assert!(cluster.get(node).unwrap().member.state.is_ejected());
}

/// How often a request is polled in an hour that nothing happens in.
async fn polls_in_an_hour(is_ready: bool, prepare: fn(&Cluster<Hangs>) -> Vec<LoadGuard>) -> usize {
    let nodes = ["a", "b", "c", "d"].map(|id| (Node::new(id).max_in_flight(1), Hangs { is_ready }));
    let cluster = Cluster::new(nodes).unwrap();
    let _ejections = OutlierDetection::new().max_share(75).watch(&cluster).unwrap();
    let _held = prepare(&cluster);
    let hour = Duration::from_secs(3600);
    let mut balance =
        Balance::new(cluster, RoundRobin).levels(Levels::default().panic(0)).queue(Queue::new(10, 2 * hour));
    let polls = Arc::new(AtomicUsize::new(0));
    let future = Counted { polls: Arc::clone(&polls), future: balance.call(()) };
    assert!(tokio::time::timeout(hour, future).await.is_err(), "nobody can answer");
    polls.load(Relaxed)
}

#[tokio::test(start_paused = true)]
async fn nobody_looks_again_and_again_whatever_keeps_the_nodes_away() {
    type Prepare = fn(&Cluster<Hangs>) -> Vec<LoadGuard>;
    let ways: [(&str, bool, Prepare); 5] = [
        ("all are full", true, |cluster| ["a", "b", "c", "d"].map(|node| hold(cluster, node)).into()),
        ("all but one are out, and that is full", true, |cluster| {
            for node in ["a", "b", "c"] {
                eject(cluster, node);
            }
            vec![hold(cluster, "d")]
        }),
        ("those that are out are full too", true, |cluster| {
            for node in ["a", "b"] {
                eject(cluster, node);
            }
            ["a", "b", "c", "d"].map(|node| hold(cluster, node)).into()
        }),
        ("none is ready", false, |_| Vec::new()),
        ("none is ready, and one is out", false, |cluster| {
            eject(cluster, "a");
            Vec::new()
        }),
    ];
    for (way, is_ready, prepare) in ways {
        let polls = polls_in_an_hour(is_ready, prepare).await;
        assert!(polls <= 2, "{way}: {polls} polls");
    }
}
