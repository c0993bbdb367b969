//! One load for many callers, who come and go.

use std::{
    collections::VecDeque,
    future::pending,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use buttress::{
    cache::flight::{FlightError, SingleFlight},
    rng::Rng,
};
use tokio::time::sleep;
use tokio_test::{assert_pending, assert_ready_eq, task};

/// The I/O that loads wait for: each needs so many events, and is woken by each.
#[derive(Clone, Default)]
struct Io(Arc<Mutex<VecDeque<Waiting>>>);

struct Waiting {
    load: usize,
    waker: Waker,
}

struct Steps {
    io: Io,
    load: usize,
    left: usize,
    running: Arc<AtomicUsize>,
}

impl Steps {
    fn new(io: &Io, load: usize, left: usize, running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, SeqCst);
        Self { io: io.clone(), load, left, running: Arc::clone(running) }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.running.fetch_sub(1, SeqCst);
        self.io.0.lock().unwrap().retain(|waiting| waiting.load != self.load);
    }
}

impl Future for Steps {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<usize> {
        if self.left == 0 {
            return Poll::Ready(self.load);
        }
        self.left -= 1;
        let mut waiting = self.io.0.lock().unwrap();
        waiting.retain(|waiting| waiting.load != self.load);
        waiting.push_back(Waiting { load: self.load, waker: cx.waker().clone() });
        Poll::Pending
    }
}

impl Io {
    /// Something happens to one of the loads; whether there was one.
    fn event(&self, rng: &mut Rng) -> bool {
        let waiting = {
            let mut waiting = self.0.lock().unwrap();
            let any = rng.below(waiting.len());
            waiting.remove(any)
        };
        waiting.map(|waiting| waiting.waker.wake()).is_some()
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

struct Caller<F> {
    join: F,
    woken: Arc<Flag>,
}

impl<F: Future + Unpin> Caller<F> {
    /// Polls as an executor does: at first, and when woken. Whether it is done.
    fn turn(&mut self) -> bool {
        if !self.woken.0.swap(false, SeqCst) {
            return false;
        }
        let waker = Waker::from(Arc::clone(&self.woken));
        Pin::new(&mut self.join).poll(&mut Context::from_waker(&waker)).is_ready()
    }
}

/// Histories of callers who come, are polled when they were woken, and leave at any moment.
#[test]
fn a_million_cancellations_lose_no_wake_up_and_leave_no_load_behind() {
    let (mut cancelled, mut served, mut loads) = (0, 0, 0);
    for seed in 0.. {
        let mut rng = Rng::seeded(seed);
        let flights = SingleFlight::<usize, usize>::new();
        let (io, running) = (Io::default(), Arc::new(AtomicUsize::new(0)));
        let mut callers = Vec::new();
        for _ in 0..2_000 {
            match rng.below(8) {
                0..=2 => {
                    let (io, running, left) = (&io, &running, rng.below(4));
                    let load = loads;
                    loads += 1;
                    let join = flights.run(rng.below(3), move |_| Steps::new(io, load, left, running));
                    let woken = Arc::new(Flag(true.into()));
                    callers.push(Caller { join, woken });
                }
                3 => {
                    io.event(&mut rng);
                }
                4 | 5 if !callers.is_empty() => {
                    let any = rng.below(callers.len());
                    if callers[any].turn() {
                        callers.swap_remove(any);
                        served += 1;
                    }
                }
                6 | 7 if !callers.is_empty() => {
                    callers.swap_remove(rng.below(callers.len()));
                    cancelled += 1;
                }
                _ => {}
            }
            assert!(running.load(SeqCst) <= 3, "two loads of one key");
        }
        // Whoever is left gets a result, by nothing but events and wake-ups.
        while !callers.is_empty() {
            let before = callers.len();
            callers.retain_mut(|caller| !caller.turn());
            served += before - callers.len();
            let happened = io.event(&mut rng);
            assert!(
                happened
                    || callers.len() < before
                    || callers.iter().any(|caller| caller.woken.0.load(SeqCst)),
                "{} callers wait for ever, seed {seed}",
                callers.len()
            );
        }
        assert!(flights.is_empty(), "a load was left behind, seed {seed}");
        assert_eq!(running.load(SeqCst), 0, "a load was not dropped, seed {seed}");
        if cancelled > 1_000_000 {
            break;
        }
    }
    assert!(served > 100_000, "{served}");
}

#[test]
fn threads_that_cancel_at_random_leave_nothing_behind() {
    let flights = SingleFlight::<usize, usize>::new();
    let running = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (flights, running) = (&flights, &running);
            scope.spawn(move || {
                let mut rng = Rng::seeded(seed);
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    for _ in 0..20_000 {
                        let steps = rng.below(3);
                        let running = Arc::clone(running);
                        let mut join = task::spawn(flights.run(rng.below(2), move |_| async move {
                            let _io = Steps::new(&Io::default(), 0, 0, &running);
                            for _ in 0..steps {
                                tokio::task::yield_now().await;
                            }
                            7
                        }));
                        let patience = rng.below(4);
                        if (0..patience).all(|_| join.poll().is_pending()) && rng.below(2) == 0 {
                            assert_eq!(join.into_inner().await, Ok(7));
                        }
                    }
                });
            });
        }
    });
    assert!(flights.is_empty());
    assert_eq!(running.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_leader_loses_no_work() {
    let flights = SingleFlight::new();
    let loads = Arc::new(AtomicUsize::new(0));
    let load = || {
        let loads = Arc::clone(&loads);
        flights.run("key", move |_| async move {
            loads.fetch_add(1, SeqCst);
            sleep(Duration::from_millis(200)).await;
            7
        })
    };
    let start = tokio::time::Instant::now();
    let mut leader = Box::pin(load());
    tokio::select! {
        biased;
        _ = &mut leader => unreachable!("it takes longer"),
        () = sleep(Duration::from_millis(100)) => {}
    }
    let waiter = load();
    drop(leader);
    assert_eq!(waiter.await, Ok(7));
    assert_eq!(start.elapsed(), Duration::from_millis(200), "from the beginning of the one load");
    assert_eq!(loads.load(SeqCst), 1);
}

/// Tokio wakes a task that yields when the thread that polled it is idle. A runtime that ends never is.
#[test]
fn a_load_goes_on_after_the_runtime_that_polled_it_last() {
    let flights = SingleFlight::<u8, usize>::new();
    let load = |_: &mut _| async {
        tokio::task::yield_now().await;
        7
    };
    let mut leader = task::spawn(flights.run(1, load));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { assert_pending!(leader.poll()) });
    drop(runtime);
    let mut waiter = task::spawn(flights.run(1, load));
    assert_pending!(waiter.poll());
    assert!(!waiter.is_woken(), "or this test shows nothing");
    drop(leader);
    assert!(waiter.is_woken());
    assert_ready_eq!(waiter.poll(), Ok(7));
}

#[test]
fn a_caller_that_is_held_and_not_polled_stops_nobody() {
    let flights = SingleFlight::<u8, usize>::new();
    let (io, running) = (Io::default(), Arc::new(AtomicUsize::new(0)));
    let (io, running) = (&io, &running);
    let mut held = task::spawn(flights.run(1, move |_| Steps::new(io, 7, 2, running)));
    assert_pending!(held.poll());
    let mut other = task::spawn(flights.run(1, |_| pending()));
    assert_pending!(other.poll());
    for _ in 0..2 {
        assert!(io.event(&mut Rng::seeded(1)));
        assert!(other.is_woken());
        let _ = other.poll();
    }
    assert_ready_eq!(held.poll(), Ok(7));
}

#[test]
fn a_load_that_panics_fails_its_caller_and_is_begun_anew_by_another() {
    let flights = SingleFlight::<u8, usize>::new();
    let broken = || flights.run(1, |_| async { panic!("out of order") });
    let mut leader = task::spawn(broken());
    let mut waiters: Vec<_> = (0..3).map(|_| task::spawn(flights.run(1, |_| async { 7 }))).collect();
    assert_ready_eq!(leader.poll(), Err(FlightError::Panicked("out of order".into())));
    for waiter in &mut waiters {
        assert_ready_eq!(waiter.poll(), Ok(7));
    }
    assert!(flights.is_empty());

    // When all panic, a caller gives up after a few.
    let begun = AtomicUsize::new(0);
    let hopeless = || {
        flights.run(1, |_| {
            begun.fetch_add(1, SeqCst);
            async { panic!("out of order") }
        })
    };
    let mut callers: Vec<_> = (0..100).map(|_| task::spawn(hopeless())).collect();
    while !callers.is_empty() {
        callers.retain_mut(|caller| match caller.poll() {
            Poll::Ready(result) => {
                assert_eq!(result, Err(FlightError::Panicked("out of order".into())));
                false
            }
            Poll::Pending => true,
        });
    }
    assert!(begun.load(SeqCst) <= 100);
    assert!(flights.is_empty());
}

#[test]
fn a_panic_at_the_beginning_or_the_end_of_a_load_is_one_of_the_load() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("at the end");
        }
    }
    let flights = SingleFlight::<u8, usize>::new();
    let mut beginning = task::spawn(flights.run(1, |_| {
        assert_eq!(Arc::strong_count(&Arc::new(())), 2, "at the beginning");
        async { 7 }
    }));
    let Poll::Ready(Err(FlightError::Panicked(message))) = beginning.poll() else { panic!() };
    assert!(message.contains("at the beginning"), "{message}");
    assert!(flights.is_empty(), "what never began leaves nothing behind");
    let mut end = task::spawn(flights.run(1, |_| {
        let bomb = Bomb;
        async move {
            let _ = &bomb;
            7
        }
    }));
    assert_ready_eq!(end.poll(), Err(FlightError::Panicked("at the end".into())));
    assert_ready_eq!(task::spawn(flights.run(1, |_| async { 7 })).poll(), Ok(7));
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_load_that_asks_for_its_own_key_is_told_so() {
    let flights = SingleFlight::<u8, Result<u8, FlightError>>::new();
    let (other, third) = (flights.clone(), flights.clone());
    let outer = flights.run(1, move |_| async move {
        // By way of another key, too.
        other.run(2, |_| async move { third.run(1, |_| async { Ok(7) }).await? }).await?
    });
    assert_eq!(outer.await, Ok(Err(FlightError::Recursive)));
    assert!(flights.is_empty());
    // And at once, before there is a future.
    let again = flights.clone();
    let outer = flights.run(1, move |_| {
        let mut inner = task::spawn(again.run(1, |_| async { Ok(7) }));
        assert_ready_eq!(inner.poll(), Err(FlightError::Recursive));
        async { Ok(8) }
    });
    assert_eq!(outer.await, Ok(Ok(8)));
    assert!(flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_spawned_load_comes_to_its_end_when_all_have_left() {
    let flights = SingleFlight::new().spawned();
    let ended = Arc::new(AtomicBool::new(false));
    let load = |ended: Arc<AtomicBool>| {
        flights.run(1, |_| async move {
            sleep(Duration::from_millis(50)).await;
            ended.store(true, SeqCst);
        })
    };
    drop(load(Arc::clone(&ended)));
    assert!(flights.contains(&1));
    sleep(Duration::from_millis(100)).await;
    assert!(ended.load(SeqCst));
    assert!(flights.is_empty());
}

#[tokio::test]
async fn who_may_join_is_for_the_leader_to_say() {
    let flights = SingleFlight::<u8, u8>::new();
    let valid = Arc::new(AtomicBool::new(true));
    let first = flights.run(1, |leader| {
        let valid = Arc::clone(&valid);
        leader.joinable_while(move || valid.load(SeqCst));
        async {
            tokio::task::yield_now().await;
            1
        }
    });
    let joined = flights.run(1, |_| async { 2 });
    valid.store(false, SeqCst);
    let late = flights.run(1, |_| async { 3 });
    assert_eq!((late.await, joined.await, first.await), (Ok(3), Ok(1), Ok(1)));
    assert!(flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_callers_cost_one_load() {
    let flights = SingleFlight::<u8, Arc<str>>::new();
    let loads = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..10_000)
        .map(|_| {
            let loads = Arc::clone(&loads);
            tokio::spawn(flights.run(1, move |_| async move {
                loads.fetch_add(1, SeqCst);
                for _ in 0..100 {
                    sleep(Duration::from_millis(1)).await;
                }
                Arc::from("page")
            }))
        })
        .collect();
    // The leader, and half of the others, lose interest on the way.
    tokio::task::yield_now().await;
    for (index, caller) in callers.into_iter().enumerate() {
        if index % 2 == 0 {
            caller.abort();
        } else {
            assert_eq!(caller.await.unwrap().unwrap().as_ref(), "page");
        }
    }
    assert_eq!(loads.load(SeqCst), 1);
    assert!(flights.is_empty());
}
