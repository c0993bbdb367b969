//! A limit around a service: who waits, who is told what, and that no permit is lost.

use std::{
    convert::Infallible,
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use buttress::{
    cluster::{FailureKind, Verdict},
    overload::{
        Error, Fixed, Limit, LimitAlgorithm, Limiter, Outcome, Priority, Queue, Reason, Sample, Terms,
    },
    time::{Clock, TokioClock},
};
use tokio::time::{advance, sleep};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower::{Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

fn limiter(limit: usize) -> Limiter {
    Limiter::new(Fixed::new(limit).unwrap(), Queue::default())
}

fn shed<E>(reason: Reason) -> impl Fn(Error<E>) -> bool {
    move |error| matches!(error, Error::Overloaded(overloaded) if overloaded.reason == reason)
}

/// A limit that is set from outside, and remembers what it was told.
#[derive(Clone, Debug, Default)]
struct Puppet {
    limit: Arc<AtomicUsize>,
    samples: Arc<Mutex<Vec<Sample>>>,
}

impl Puppet {
    fn at(limit: usize) -> Self {
        Self { limit: Arc::new(AtomicUsize::new(limit)), ..Self::default() }
    }
}

impl LimitAlgorithm for Puppet {
    fn limit(&self) -> usize {
        self.limit.load(SeqCst)
    }

    fn observe(&mut self, sample: Sample, _: Instant) {
        self.samples.lock().unwrap().push(sample);
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_comes_back_wakes_one_who_waits_and_no_other() {
    let limiter = limiter(1);
    let held = limiter.acquire(Terms::default()).await.unwrap();
    let mut waiting: Vec<_> = (0..5).map(|_| task::spawn(limiter.acquire(Terms::default()))).collect();
    for waiting in &mut waiting {
        assert_pending!(waiting.poll());
    }
    let mut held = Some(held);
    for next in 0..5 {
        drop(held.take());
        let woken: Vec<_> = waiting.iter().map(task::Spawn::is_woken).collect();
        assert_eq!(woken.iter().filter(|woken| **woken).count(), 1, "{woken:?}");
        assert!(woken[0], "the first, of those left after {next}");
        held = Some(assert_ready_ok!(waiting.remove(0).poll()));
    }
    assert_eq!((limiter.status().in_flight, limiter.status().waiting), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_grows_lets_in_as_many_as_there_is_room_for() {
    let puppet = Puppet::at(1);
    let limiter = Limiter::new(puppet.clone(), Queue::default());
    let mut held = limiter.acquire(Terms::default()).await.unwrap();
    let mut waiting: Vec<_> = (0..9).map(|_| task::spawn(limiter.acquire(Terms::default()))).collect();
    for waiting in &mut waiting {
        assert_pending!(waiting.poll());
    }
    puppet.limit.store(4, SeqCst);
    held.judge(Verdict::Success);
    assert_eq!(waiting.iter().filter(|waiting| waiting.is_woken()).count(), 3);
    assert_eq!((limiter.status().in_flight, limiter.status().waiting), (4, 6));
    // Permits that nobody takes out go on to the next ones.
    waiting.drain(..3);
    assert_eq!(waiting.iter().filter(|waiting| waiting.is_woken()).count(), 3);
    drop(held);
    assert_eq!((limiter.status().in_flight, limiter.status().waiting), (4, 2));
    drop(waiting);
    assert_eq!((limiter.status().in_flight, limiter.status().waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_in_time() {
    let limiter = limiter(1);
    let held = limiter.acquire(Terms::default()).await.unwrap();
    let start = TokioClock.now();
    let waited = limiter.acquire(Terms::default()).await.unwrap_err();
    assert_eq!((waited.reason, TokioClock.now() - start), (Reason::Waited, 100 * MS));
    let start = TokioClock.now();
    let late = limiter.acquire(Terms::default().deadline(start + 20 * MS)).await.unwrap_err();
    assert_eq!((late.reason, TokioClock.now() - start), (Reason::Deadline, 20 * MS));
    drop(held);
    let past = limiter.acquire(Terms::default().deadline(start)).await.unwrap_err();
    assert_eq!(past.reason, Reason::Deadline);
    let status = limiter.status();
    assert_eq!((status.shed(Reason::Waited), status.shed(Reason::Deadline)), (1, 2));
    assert_eq!((status.admitted, status.in_flight, status.waiting), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn no_patience_is_too_long_and_none_is_short() {
    let held = |queue| async move {
        let limiter = Limiter::new(Fixed::new(1).unwrap(), queue);
        (limiter.acquire(Terms::default()).await.unwrap(), limiter)
    };
    let (permit, limiter) = held(Queue::new(1, Duration::MAX)).await;
    let mut waiting = task::spawn(limiter.acquire(Terms::default()));
    assert_pending!(waiting.poll());
    advance(Duration::from_secs(3600)).await;
    assert_pending!(waiting.poll());
    drop(permit);
    drop(assert_ready_ok!(waiting.poll()));
    let (_permit, limiter) = held(Queue::new(1, Duration::ZERO)).await;
    assert_eq!(limiter.acquire(Terms::default()).await.unwrap_err().reason, Reason::Waited);
    assert_eq!(limiter.status().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn the_time_to_wait_begins_with_the_call_and_not_with_the_first_poll() {
    let mut service = Limit::new(service_fn(|()| async { Ok::<_, Infallible>(()) }), limiter(1));
    let _held = service.limiter().acquire(Terms::default()).await.unwrap();
    let call = service.call(());
    advance(500 * MS).await;
    let start = TokioClock.now();
    assert!(shed(Reason::Waited)(call.await.unwrap_err()));
    assert!(TokioClock.now() - start <= MS, "its time was over long ago");
}

/// A waker that looks at the limiter, as one might that runs its task at once.
struct Nosy {
    limiter: Limiter,
    was_locked: AtomicBool,
}

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {
        let (tell, told) = mpsc::channel();
        let limiter = self.limiter.clone();
        std::thread::spawn(move || tell.send(limiter.status()));
        let is_locked = told.recv_timeout(Duration::from_secs(5)).is_err();
        self.was_locked.fetch_or(is_locked, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_woken_under_a_lock() {
    let limiter = limiter(1);
    let _held = limiter.acquire(Terms::default()).await.unwrap();
    let nosy = Arc::new(Nosy { limiter: limiter.clone(), was_locked: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&nosy));
    let mut waiting = pin!(limiter.acquire(Terms::default()));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    advance(101 * MS).await;
    let Poll::Ready(told) = waiting.poll(&mut Context::from_waker(&waker)) else {
        panic!("its time is over")
    };
    assert_eq!(told.unwrap_err().reason, Reason::Waited);
    assert!(!nosy.was_locked.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_permit_goes_after_the_work_that_it_was_for() {
    /// Notes how many are in flight when it ends.
    struct Work(Limiter, Arc<AtomicUsize>);
    impl Drop for Work {
        fn drop(&mut self) {
            self.1.store(self.0.status().in_flight, SeqCst);
        }
    }
    let (limiter, in_flight) = (limiter(1), Arc::new(AtomicUsize::new(9)));
    let work = {
        let (limiter, in_flight) = (limiter.clone(), Arc::clone(&in_flight));
        service_fn(move |()| {
            let work = Work(limiter.clone(), Arc::clone(&in_flight));
            async move {
                let _work = work;
                std::future::pending::<Result<(), Infallible>>().await
            }
        })
    };
    let mut call = task::spawn(Limit::new(work, limiter.clone()).call(()));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!((in_flight.load(SeqCst), limiter.status().in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn one_who_matters_more_takes_the_place_of_one_who_matters_less() {
    let limiter = Limiter::new(Fixed::new(1).unwrap(), Queue::new(1, 100 * MS));
    let held = limiter.acquire(Terms::default()).await.unwrap();
    let mut low = task::spawn(limiter.acquire(Terms::new(Priority::Sheddable)));
    assert_pending!(low.poll());
    let mut high = task::spawn(limiter.acquire(Terms::new(Priority::CriticalPlus)));
    assert_pending!(high.poll());
    assert!(low.is_woken(), "it need not wait for its time to be over");
    assert_eq!(assert_ready_err!(low.poll()).reason, Reason::Displaced);
    let low = limiter.acquire(Terms::default()).await.unwrap_err();
    assert_eq!(low.reason, Reason::Full);
    drop(held);
    drop(assert_ready_ok!(high.poll()));
}

#[tokio::test(start_paused = true)]
async fn a_service_gets_no_more_at_once_than_the_limit() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        service_fn(move |request: u32| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                sleep(10 * MS).await;
                now.fetch_sub(1, SeqCst);
                Ok::<_, Infallible>(request)
            }
        })
    };
    let service = Limit::new(counted, limiter(5));
    let calls: Vec<_> = (0..100).map(|request| tokio::spawn(service.clone().oneshot(request))).collect();
    let mut answered = 0;
    for (request, call) in (0..).zip(calls) {
        match call.await.unwrap() {
            Ok(answer) => {
                assert_eq!(answer, request);
                answered += 1;
            }
            Err(error) => assert!(shed(Reason::Waited)(error)),
        }
    }
    // Ten rounds fit into the patience, and the first came in without waiting.
    assert!((50..=55).contains(&answered), "{answered}");
    assert_eq!((most.load(SeqCst), service.limiter().status().in_flight), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn the_algorithm_hears_of_each_answer_once() {
    let puppet = Puppet::at(9);
    let reply = service_fn(|(millis, answer): (u64, Result<(), io::ErrorKind>)| async move {
        sleep(MS * millis as u32).await;
        answer.map_err(io::Error::from)
    });
    let judge = |answer: Result<&(), &io::Error>| match answer.map_err(io::Error::kind) {
        Ok(()) => Verdict::Success,
        Err(io::ErrorKind::TimedOut) => Verdict::Failure(FailureKind::Timeout),
        Err(io::ErrorKind::InvalidInput) => Verdict::Neutral,
        Err(_) => Verdict::Failure(FailureKind::Transport),
    };
    let limiter = Limiter::new(puppet.clone(), Queue::default());
    let mut service = Limit::new(reply, limiter.clone()).classify(judge);
    service.call((20, Ok(()))).await.unwrap();
    for kind in [io::ErrorKind::TimedOut, io::ErrorKind::InvalidInput, io::ErrorKind::BrokenPipe] {
        service.call((30, Err(kind))).await.unwrap_err().into_service_error().unwrap();
    }
    let mut cancelled = task::spawn(service.call((50, Ok(()))));
    assert_pending!(cancelled.poll());
    advance(40 * MS).await;
    drop(cancelled);
    let sample = |millis, outcome| Sample { latency: MS * millis, in_flight: 1, outcome };
    assert_eq!(
        *puppet.samples.lock().unwrap(),
        [sample(20, Outcome::Success), sample(30, Outcome::Overloaded), sample(40, Outcome::Cancelled)]
    );
    // By hand, what is held on to after the verdict is no latency.
    let mut permit = limiter.acquire(Terms::default()).await.unwrap();
    advance(MS).await;
    permit.judge(Verdict::Success);
    permit.judge(Verdict::Failure(FailureKind::Overloaded));
    advance(90 * MS).await;
    drop(permit);
    assert_eq!(puppet.samples.lock().unwrap()[3..], [sample(1, Outcome::Success)]);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Panics {
    Nowhere,
    InTerms,
    InCall,
    InFuture,
    InVerdict,
}

/// Panics at its every sample while it is told to.
#[derive(Clone, Debug, Default)]
struct Nervous(Arc<AtomicUsize>);

impl LimitAlgorithm for Nervous {
    fn limit(&self) -> usize {
        2
    }

    fn observe(&mut self, _: Sample, _: Instant) {
        assert_eq!(self.0.load(SeqCst), 0, "as the test says");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_anywhere_gives_the_permit_back_and_breaks_nothing() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload_as_str().is_some_and(|text| text.contains("as the test says")) {
            quiet(panic);
        }
    }));
    let service = service_fn(|panics| {
        assert!(panics != Panics::InCall, "as the test says");
        async move {
            assert!(panics != Panics::InFuture, "as the test says");
            Ok::<_, Infallible>(panics)
        }
    });
    let terms = |panics: &Panics| {
        assert!(*panics != Panics::InTerms, "as the test says");
        Terms::default()
    };
    let judge = |answer: Result<&Panics, &Infallible>| {
        assert!(answer != Ok(&Panics::InVerdict), "as the test says");
        Verdict::Success
    };
    let nervous = Nervous::default();
    let limiter = Limiter::new(nervous.clone(), Queue::default());
    let mut service = Limit::new(service, limiter.clone()).terms(terms).classify(judge);
    let mut fails = |panics| {
        let call = || task::spawn(service.call(panics)).poll().is_ready();
        let failed = catch_unwind(AssertUnwindSafe(call)).is_err();
        assert_eq!(limiter.status().in_flight, 0, "{panics:?}");
        failed
    };
    for panics in [Panics::InTerms, Panics::InCall, Panics::InFuture, Panics::InVerdict] {
        assert!(fails(panics), "{panics:?}");
        assert!(!fails(Panics::Nowhere), "after {panics:?}");
    }
    nervous.0.store(1, SeqCst);
    assert!(fails(Panics::Nowhere));
    nervous.0.store(0, SeqCst);
    assert!(!fails(Panics::Nowhere));
    let _ = std::panic::take_hook();
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ready_holds_its_permit_and_says_nothing_when_it_fails() {
    #[derive(Clone)]
    struct Broken;
    impl Service<()> for Broken {
        type Response = ();
        type Error = io::Error;
        type Future = std::future::Ready<io::Result<()>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Err(io::Error::other("out of order")))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            unreachable!("it is never ready")
        }
    }
    let puppet = Puppet::at(1);
    let mut service = Limit::new(Broken, Limiter::new(puppet.clone(), Queue::default()));
    let mut call = task::spawn(service.call(()));
    let error = assert_ready!(call.poll()).unwrap_err();
    assert!(matches!(error, Error::Service(_)));
    assert_eq!(service.limiter().status().in_flight, 0);
    assert!(puppet.samples.lock().unwrap().is_empty());
}

#[test]
fn a_future_is_small() {
    fn size<S: Service<u64>>(_: &S) -> usize {
        size_of::<S::Future>()
    }
    let echo = service_fn(|request: u64| std::future::ready(Ok::<_, Infallible>(request)));
    let bytes = size(&Limit::new(echo, limiter(1)));
    assert!(bytes <= 128, "{bytes}");
}
