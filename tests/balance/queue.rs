//! What happens while every node is full.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    balance::{
        Balance, Cloned, Error, LeastRequest, Levels, Nodes, Picker, Policy, Queue, Retry, RoundRobin,
    },
    cluster::{Cluster, Health, Node},
    rng::Rng,
};
use tokio_test::{assert_pending, assert_ready, task, task::Spawn};
use tower::{Service, ServiceExt, service_fn};

use crate::support::{Held, Stage, in_flight};

const PATIENCE: Duration = Duration::from_secs(5);

fn balance(cluster: &Cluster<Held>, places: usize) -> Balance<Held> {
    Balance::new(cluster.clone(), LeastRequest::of_all()).queue(Queue::new(places, PATIENCE))
}

fn all_wait<F: Future>(requests: &mut [Spawn<F>]) {
    for request in requests {
        assert!(request.poll().is_pending());
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_go_in_the_order_they_came() {
    let stage = Stage::default();
    let cluster = stage.cluster(1, 1);
    let mut balance = balance(&cluster, 100);
    let mut waiting: Vec<_> = (0..10).map(|request| task::spawn(balance.call(request))).collect();
    all_wait(&mut waiting);
    for turn in 0..10 {
        assert_eq!(stage.requests(), [turn]);
        stage.answer(turn, Ok(()));
        assert_ready!(waiting.remove(0).poll()).unwrap();
        // In whatever order they are polled.
        for request in waiting.iter_mut().rev() {
            assert_pending!(request.poll());
        }
    }
    assert_eq!(in_flight(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_stands_behind_those_who_wait() {
    let stage = Stage::default();
    let cluster = stage.cluster(1, 1);
    let mut balance = balance(&cluster, 100);
    let mut first = task::spawn(balance.call(0));
    let mut second = task::spawn(balance.call(1));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    stage.answer(0, Ok(()));
    assert_ready!(first.poll()).unwrap();

    let mut newcomer = task::spawn(balance.call(2));
    assert_pending!(newcomer.poll());
    assert!(stage.requests().is_empty(), "the room is for the one who waits");
    assert!(second.is_woken());
    assert_pending!(second.poll());
    assert_eq!(stage.requests(), [1]);
    stage.answer(1, Ok(()));
    assert_ready!(second.poll()).unwrap();
    assert!(newcomer.is_woken());
    assert_pending!(newcomer.poll());
    assert_eq!(stage.requests(), [2]);
}

#[tokio::test(start_paused = true)]
async fn room_left_over_goes_to_the_next_in_line() {
    let stage = Stage::default();
    let cluster = stage.cluster(1, 2);
    let mut balance = balance(&cluster, 100);
    let mut running: Vec<_> = (0..2).map(|request| task::spawn(balance.call(request))).collect();
    all_wait(&mut running);
    let mut waiting: Vec<_> = (2..4).map(|request| task::spawn(balance.call(request))).collect();
    all_wait(&mut waiting);
    stage.answer(0, Ok(()));
    stage.answer(1, Ok(()));
    for request in &mut running {
        assert_ready!(request.poll()).unwrap();
    }
    // The one who was called first goes away instead.
    drop(waiting.remove(0));
    assert!(waiting[0].is_woken());
    assert_pending!(waiting[0].poll());
    assert_eq!(stage.requests(), [3]);
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_in_length_and_in_time() {
    let stage = Stage::default();
    let cluster = stage.cluster(2, 1);
    let mut balance = balance(&cluster, 3);
    let mut running: Vec<_> = (0..2).map(|request| task::spawn(balance.call(request))).collect();
    all_wait(&mut running);
    let mut waiting: Vec<_> = (2..5).map(|request| task::spawn(balance.call(request))).collect();
    all_wait(&mut waiting);

    let error = balance.call(5).await.unwrap_err();
    assert!(matches!(error, Error::QueueFull) && error.is_unsent() && error.is_overload(), "{error}");

    let began = tokio::time::Instant::now();
    for request in waiting {
        let error = request.into_inner().await.unwrap_err();
        assert!(matches!(error, Error::QueueTimeout(PATIENCE)) && error.is_overload(), "{error}");
    }
    let waited = began.elapsed();
    assert!(waited >= PATIENCE && waited < PATIENCE + Duration::from_millis(10), "{waited:?}");

    // Those who left gave up their places.
    let mut next = task::spawn(balance.call(6));
    assert_pending!(next.poll());
    stage.answer(0, Ok(()));
    assert_ready!(running[0].poll()).unwrap();
    assert_pending!(next.poll());
    assert_eq!(stage.requests(), [1, 6]);
}

/// One node that is full, and one caller that waits for it: looks what became of the caller, who must have been woken.
fn one_waits(stage: &Stage) -> (Cluster<Held>, impl FnMut() -> Option<Result<String, String>>) {
    let cluster = stage.cluster(1, 1);
    let mut balance = balance(&cluster, 100).levels(Levels::default().panic(0));
    let mut running = task::spawn(balance.call(0));
    assert_pending!(running.poll());
    let mut waiting = task::spawn(balance.call(1));
    assert_pending!(waiting.poll());
    let look = move || {
        // The balancer and the request in flight stay.
        let _ = (&balance, &running);
        assert!(waiting.is_woken(), "nobody told it");
        match waiting.poll() {
            std::task::Poll::Pending => None,
            std::task::Poll::Ready(result) => Some(result.map_err(|error| error.to_string())),
        }
    };
    (cluster, look)
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_cluster_wakes_those_who_wait() {
    type ChangeIt = fn(&Cluster<Held>, &Stage);
    let goes_on: [ChangeIt; 4] = [
        |cluster, stage| cluster.insert(Node::new("b"), stage.node("b")).unwrap(),
        |cluster, _| cluster.set_max_in_flight("a", 2).unwrap(),
        |cluster, _| cluster.set_max_in_flight("a", 0).unwrap(),
        |cluster, stage| {
            cluster.replace([(Node::new("b"), stage.node("b"))]).unwrap();
        },
    ];
    for change in goes_on {
        let stage = Stage::default();
        let (cluster, mut look) = one_waits(&stage);
        change(&cluster, &stage);
        assert_eq!(look(), None);
        assert_eq!(stage.requests(), [0, 1]);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_node_that_leaves_is_told_at_once() {
    type ChangeIt = fn(&Cluster<Held>);
    let ends: [ChangeIt; 2] =
        [|cluster| assert!(cluster.remove("a")), |cluster| cluster.set_health("a", Health::Down).unwrap()];
    for (change, word) in ends.into_iter().zip(["empty", "unhealthy"]) {
        let stage = Stage::default();
        let (cluster, mut look) = one_waits(&stage);
        change(&cluster);
        let error = look().expect("it waits for a node that is gone").unwrap_err();
        assert!(error.contains(word), "{error}");
    }
}

/// A policy that takes its time to follow a change.
#[derive(Debug)]
struct Slow;

impl Policy for Slow {
    fn picker(&self, nodes: &Nodes, previous: Option<&dyn Picker>) -> Box<dyn Picker> {
        std::thread::sleep(Duration::from_millis(50));
        LeastRequest::of_all().picker(nodes, previous)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_wait_are_called_when_the_policy_knows_the_new_node() {
    let stage = Stage::default();
    let cluster = stage.cluster(1, 1);
    let mut balance = Balance::new(cluster.clone(), Slow).queue(Queue::new(9, PATIENCE));
    let first = tokio::spawn(balance.call(0));
    while stage.requests() != [0] {
        tokio::task::yield_now().await;
    }
    let mut waiting = tokio::spawn(balance.call(1));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (inserted, node) = (cluster.clone(), stage.node("b"));
    tokio::task::spawn_blocking(move || inserted.insert(Node::new("b"), node)).await.unwrap().unwrap();
    let soon = tokio::time::timeout(Duration::from_secs(2), async {
        while stage.requests() != [0, 1] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(soon.await.is_ok(), "a new node stays idle while a request waits");
    stage.answer(0, Ok(()));
    stage.answer(1, Ok(()));
    first.await.unwrap().unwrap();
    assert_eq!((&mut waiting).await.unwrap().unwrap(), "b");
}

#[test]
fn limits_hold_with_many_threads_and_nobody_starves() {
    const LIMIT: u32 = 3;
    let gauges: Vec<_> = (0..4).map(|_| Arc::new((AtomicU32::new(0), AtomicU32::new(0)))).collect();
    let node = |(index, gauge): (usize, &Arc<(AtomicU32, AtomicU32)>)| {
        let gauge = Arc::clone(gauge);
        let service = service_fn(move |yields: usize| {
            let gauge = Arc::clone(&gauge);
            async move {
                let now = gauge.0.fetch_add(1, SeqCst) + 1;
                gauge.1.fetch_max(now, SeqCst);
                for _ in 0..yields {
                    tokio::task::yield_now().await;
                }
                gauge.0.fetch_sub(1, SeqCst);
                Ok::<_, std::io::Error>(index)
            }
        });
        (Node::new(index.to_string()).max_in_flight(LIMIT), service)
    };
    let cluster = Cluster::new(gauges.iter().enumerate().map(node)).unwrap();
    let balance =
        Balance::new(cluster.clone(), LeastRequest::new()).queue(Queue::new(1000, Duration::from_secs(20)));
    let served = Arc::new(AtomicUsize::new(0));

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(8).enable_all().build().unwrap();
    runtime.block_on(async {
        let callers = (0..64).map(|caller| {
            let (mut balance, served) = (balance.clone(), Arc::clone(&served));
            tokio::spawn(async move {
                let mut rng = Rng::seeded(caller);
                for _ in 0..300 {
                    balance
                        .ready()
                        .await
                        .unwrap()
                        .call(rng.below(6))
                        .await
                        .expect("a turn within the patience");
                    served.fetch_add(1, SeqCst);
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
    });
    assert_eq!(served.load(SeqCst), 64 * 300);
    for gauge in gauges {
        let most = gauge.1.load(SeqCst);
        assert!((2..=LIMIT).contains(&most), "{most} at once");
    }
    assert_eq!(in_flight(&cluster), 0);
}

#[tokio::test(start_paused = true)]
async fn no_room_stays_empty_while_somebody_waits() {
    // All of it is one task to tokio, which would be told to rest.
    let all = async { (0..20).map(|seed| random_operations(seed, 5_000)).sum::<usize>() };
    let waits = tokio::task::unconstrained(all).await;
    assert!(waits > 10_000, "only {waits} moments with somebody waiting");
}

/// A request by its number, on its way.
type Caller<F> = (u64, Spawn<F>);

/// Random requests, answers, failures, cancellations and changes. After each, nobody may wait beside a node that has
/// room for it. Returns how often somebody waited.
fn random_operations(seed: u64, steps: u64) -> usize {
    let mut rng = Rng::seeded(seed);
    let stage = Stage::default();
    let cluster = stage.cluster(3, 2);
    let balance = Balance::new(cluster.clone(), RoundRobin)
        .levels(Levels::default().panic(0))
        .queue(Queue::new(12, Duration::from_secs(3600)));
    // Requests that fail go on to a node that they have not tried, so not every room is for everybody.
    let mut retry = Retry::new(balance, Cloned::new(|_: &u64| true));
    let mut callers = Vec::new();
    let mut waits = 0;
    for step in 0..steps {
        match rng.below(20) {
            0..8 => {
                let mut caller = task::spawn(retry.call(step));
                if caller.poll().is_pending() {
                    callers.push((step, caller));
                }
            }
            8..12 => drop(stage.answer_any(&mut rng, false)),
            12..15 => drop(stage.answer_any(&mut rng, true)),
            15..17 if !callers.is_empty() => drop(callers.swap_remove(rng.below(callers.len()))),
            _ => change_something(&cluster, &stage, &mut rng),
        }
        settle(&mut callers, &mut rng);
        stage.sweep();
        let on_stage = stage.requests();
        let version = cluster.load();
        for (request, _) in callers.iter().filter(|(request, _)| !on_stage.contains(request)) {
            waits += 1;
            let visited = stage.visited(*request);
            let room = version.iter().find(|member| {
                member.state.health().is_usable()
                    && !member.state.is_full()
                    && !visited.contains(&member.node.id.to_string())
            });
            assert!(
                room.is_none(),
                "seed {seed}, step {step}: {request} waits beside {room:?}, after {visited:?}"
            );
        }
    }
    drop(callers);
    assert_eq!(in_flight(&cluster), 0);
    waits
}

fn change_something(cluster: &Cluster<Held>, stage: &Stage, rng: &mut Rng) {
    let id = ["a", "b", "c"][rng.below(3)];
    match rng.below(3) {
        0 => {
            let _ = cluster.set_max_in_flight(id, 1 + u32::try_from(rng.below(3)).unwrap());
        }
        1 if !cluster.remove(id) => cluster.insert(Node::new(id).max_in_flight(2), stage.node(id)).unwrap(),
        1 => {}
        _ => {
            let health = if rng.below(3) == 0 { Health::Down } else { Health::Up };
            let _ = cluster.set_health(id, health);
        }
    }
}

/// Polls those who were woken, in random order, until nobody is.
fn settle<F: Future>(callers: &mut Vec<Caller<F>>, rng: &mut Rng) {
    loop {
        rng.shuffle(callers);
        let before = callers.len();
        let mut polled = 0;
        callers.retain_mut(|(_, caller)| {
            if !caller.is_woken() {
                return true;
            }
            polled += 1;
            caller.poll().is_pending()
        });
        if polled == 0 && callers.len() == before {
            return;
        }
    }
}
