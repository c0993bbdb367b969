//! Nobody is woken for the sake of a node that is out.

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
    let ejections = OutlierDetection::new().watch(&cluster).unwrap();
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
