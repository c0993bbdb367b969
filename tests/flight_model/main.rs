//! The single flight core under a model checker: the threads of each run are interleaved at random, at every lock.

#[path = "../../src/cache/flight/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, unnameable_types)]
mod flight;

/// The checker's types in place of `std`'s.
mod sync {
    pub(crate) use shuttle::{
        sync::{Mutex, MutexGuard},
        thread,
    };
    pub(crate) use std::sync::PoisonError;
}

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use flight::{FlightError, SingleFlight};
use shuttle::{
    future::block_on,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

/// Runs of each test. More of them are worth it after a change: a million take some hours.
fn runs() -> usize {
    std::env::var("MODEL_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(1_000)
}

/// Something that happens once, and wakes whoever waits for it: the I/O of a load.
#[derive(Clone, Default)]
struct Event(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Event {
    fn happen(&self) {
        let wakers = {
            let mut state = self.0.lock().unwrap();
            state.0 = true;
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Future for Event {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap();
        if state.0 {
            return Poll::Ready(());
        }
        // Whoever polls last is woken, and nobody else: a load that is polled by another must pass that on.
        state.1 = vec![cx.waker().clone()];
        Poll::Pending
    }
}

/// Counts the loads that are not dropped yet.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn begin(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, SeqCst);
        Self(Arc::clone(running))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Polls so many times at most, then gives up.
async fn with_patience<F: Future + Unpin>(mut future: F, mut polls: usize) -> Option<F::Output> {
    poll_fn(|cx| {
        let polled = Pin::new(&mut future).poll(cx).map(Some);
        if polled.is_ready() {
            return polled;
        }
        polls -= 1;
        if polls == 0 {
            return Poll::Ready(None);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[test]
fn every_caller_gets_the_result_of_one_load_at_a_time() {
    shuttle::check_random(
        || {
            let flights = SingleFlight::<u8, usize>::new();
            let (running, loads) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let event = Event::default();
            let callers: Vec<_> = (0..3)
                .map(|_| {
                    let (flights, event) = (flights.clone(), event.clone());
                    let (running, loads) = (Arc::clone(&running), Arc::clone(&loads));
                    thread::spawn(move || {
                        let join = flights.run(7, |_| async move {
                            let one = Counted::begin(&running);
                            assert_eq!(running.load(SeqCst), 1, "two loads at once");
                            event.await;
                            drop(one);
                            loads.fetch_add(1, SeqCst)
                        });
                        block_on(join).unwrap()
                    })
                })
                .collect();
            event.happen();
            let results: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
            assert!(results.iter().all(|result| *result < loads.load(SeqCst)));
            assert!(flights.is_empty(), "a load was left behind");
        },
        runs(),
    );
}

#[test]
fn callers_who_leave_take_no_wake_up_with_them() {
    shuttle::check_random(
        || {
            let flights = SingleFlight::<u8, usize>::new();
            let running = Arc::new(AtomicUsize::new(0));
            let event = Event::default();
            let callers: Vec<_> = [None, Some(1), Some(2), None]
                .into_iter()
                .map(|patience| {
                    let (flights, event) = (flights.clone(), event.clone());
                    let running = Arc::clone(&running);
                    thread::spawn(move || {
                        let join = flights.run(7, |_| async move {
                            let _one = Counted::begin(&running);
                            event.await;
                            7
                        });
                        match patience {
                            None => assert_eq!(block_on(join), Ok(7)),
                            Some(polls) => {
                                let left = block_on(with_patience(join, polls));
                                assert!(left.is_none_or(|result| result == Ok(7)));
                            }
                        }
                    })
                })
                .collect();
            event.happen();
            for caller in callers {
                caller.join().unwrap();
            }
            assert!(flights.is_empty(), "a load was left behind");
            assert_eq!(running.load(SeqCst), 0, "a load was not dropped");
        },
        runs(),
    );
}

#[test]
fn a_load_that_nobody_wants_is_dropped_and_leaves_its_place() {
    shuttle::check_random(
        || {
            let flights = SingleFlight::<u8, usize>::new();
            let running = Arc::new(AtomicUsize::new(0));
            let callers: Vec<_> = (1..4)
                .map(|polls| {
                    let (flights, running) = (flights.clone(), Arc::clone(&running));
                    thread::spawn(move || {
                        let join = flights.run(7, |_| async move {
                            let _one = Counted::begin(&running);
                            std::future::pending().await
                        });
                        assert_eq!(block_on(with_patience(join, polls)), None);
                    })
                })
                .collect();
            for caller in callers {
                caller.join().unwrap();
            }
            assert!(flights.is_empty(), "a load was left behind");
            assert_eq!(running.load(SeqCst), 0, "a load was not dropped");
        },
        runs(),
    );
}

#[test]
fn after_a_panic_somebody_else_leads() {
    shuttle::check_random(
        || {
            let flights = SingleFlight::<u8, usize>::new();
            let (event, begun) = (Event::default(), Arc::new(AtomicUsize::new(0)));
            let callers: Vec<_> = (0..3)
                .map(|_| {
                    let (flights, event, begun) = (flights.clone(), event.clone(), Arc::clone(&begun));
                    thread::spawn(move || {
                        let join = flights.run(7, |_| {
                            let first = begun.fetch_add(1, SeqCst) == 0;
                            async move {
                                event.await;
                                // `panic!` would end the run of the checker's thread: this one is quiet, and caught.
                                if first {
                                    std::panic::resume_unwind(Box::new("the first"));
                                }
                                7
                            }
                        });
                        block_on(join)
                    })
                })
                .collect();
            event.happen();
            let results: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
            let panicked = results.iter().filter(|result| matches!(result, Err(FlightError::Panicked(_))));
            assert_eq!(panicked.count(), 1, "{results:?}");
            assert_eq!(results.iter().filter(|result| **result == Ok(7)).count(), 2);
            assert!(flights.is_empty());
        },
        runs(),
    );
}

#[test]
fn whoever_comes_after_an_invalidation_gets_what_was_loaded_after_it() {
    shuttle::check_random(
        || {
            let flights = SingleFlight::<u8, usize>::new();
            let origin = Arc::new(AtomicUsize::new(0));
            // Each change of the origin is followed by an invalidation, as by a lease.
            let invalidations = Arc::new(AtomicUsize::new(0));
            let read = {
                let (flights, origin, invalidations) =
                    (flights.clone(), Arc::clone(&origin), Arc::clone(&invalidations));
                move || {
                    let join = flights.run(7, |leader| {
                        let begun = invalidations.load(SeqCst);
                        leader.joinable_while({
                            let invalidations = Arc::clone(&invalidations);
                            move || invalidations.load(SeqCst) == begun
                        });
                        async move {
                            let read = origin.load(SeqCst);
                            thread::yield_now();
                            read
                        }
                    });
                    block_on(join).unwrap()
                }
            };
            let early: Vec<_> = (0..2).map(|_| thread::spawn(read.clone())).collect();
            for change in 1..3 {
                origin.store(change, SeqCst);
                invalidations.store(change, SeqCst);
                assert_eq!(read.clone()(), change, "a stale result");
            }
            for caller in early {
                caller.join().unwrap();
            }
            assert!(flights.is_empty());
        },
        runs(),
    );
}
