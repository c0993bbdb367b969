//! One future that many wait for.
//!
//! All state is behind one lock, which is never held while somebody else's code runs: no future is polled or dropped under
//! it, and no waker or value cloned, woken or dropped. Model-checked in `tests/flight_model`.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Wake, Waker},
};

use super::FlightError;
use crate::sync::{
    Mutex, MutexGuard, PoisonError,
    thread::{self, ThreadId},
};

/// A wake-up of the load goes to whoever polled it last, and to so many others in turn: a caller that is held without being
/// polled does not stop the rest, and ten thousand are not woken for each step of the load.
const DEPUTIES: usize = 7;

type Load<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Outcome<T> = Result<T, FlightError>;
type Valid = Box<dyn Fn() -> bool + Send + Sync>;

/// A load in progress.
pub(super) struct Flight<T> {
    state: Mutex<State<T>>,
    /// Says whether more callers may join.
    valid: OnceLock<Valid>,
}

struct State<T> {
    step: Step<T>,
    /// The load has something to do, and nobody has polled it since.
    woken: bool,
    /// The wakers of the callers by slot; of those who wait to be woken.
    wakers: Vec<Option<Waker>>,
    /// Slots that no caller has.
    free: Vec<usize>,
    /// Who polled last.
    last: usize,
    /// Where the search for deputies goes on.
    next: usize,
}

enum Step<T> {
    /// This thread is starting or polling it.
    Busy(ThreadId),
    Waiting(Load<T>),
    Over(Arc<Outcome<T>>),
    /// All callers have left.
    Abandoned,
}

impl<T> State<T> {
    /// Takes the wakers of those who are to poll next.
    fn successors(&mut self) -> Vec<Waker> {
        let mut wakers: Vec<_> = self.wakers.get_mut(self.last).and_then(Option::take).into_iter().collect();
        for _ in 0..self.wakers.len() {
            if wakers.len() > DEPUTIES {
                break;
            }
            self.next = (self.next + 1) % self.wakers.len();
            wakers.extend(self.wakers[self.next].take());
        }
        wakers
    }

    fn everybody(&mut self) -> Vec<Waker> {
        self.wakers.iter_mut().filter_map(Option::take).collect()
    }
}

impl<T> Flight<T> {
    /// Joins a load that still goes on.
    pub(super) fn join(self: &Arc<Self>) -> Option<Caller<T>> {
        if self.valid.get().is_some_and(|valid| !valid()) {
            return None;
        }
        let mut state = self.lock();
        if matches!(state.step, Step::Over(_) | Step::Abandoned) {
            return None;
        }
        let slot = state.free.pop().unwrap_or_else(|| {
            state.wakers.push(None);
            state.wakers.len() - 1
        });
        drop(state);
        Some(Caller { flight: Arc::clone(self), slot: Some(slot) })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that panics runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + Sync + 'static> Wake for Flight<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let successors = {
            let mut state = self.lock();
            state.woken = true;
            match state.step {
                Step::Waiting(_) => state.successors(),
                // Whoever is busy with it looks at the mark afterwards.
                _ => return,
            }
        };
        successors.into_iter().for_each(Waker::wake);
    }
}

/// One of those who wait for a load, and poll it.
pub(super) struct Caller<T> {
    flight: Arc<Flight<T>>,
    /// None once it has left.
    slot: Option<usize>,
}

impl<T> Caller<T> {
    /// The first caller of a load that this thread is about to [`start`](Self::start).
    pub(super) fn new() -> Self {
        let state = State {
            step: Step::Busy(thread::current().id()),
            woken: true,
            wakers: vec![None],
            free: Vec::new(),
            last: 0,
            next: 0,
        };
        let flight = Flight { state: Mutex::new(state), valid: OnceLock::new() };
        Self { flight: Arc::new(flight), slot: Some(0) }
    }

    /// Starts the load. A panic in `begin` is one of the load, which is over then. Whether it goes on.
    pub(super) fn start(&self, begin: impl FnOnce() -> (Load<T>, Option<Valid>)) -> bool {
        let step = match catch_unwind(AssertUnwindSafe(begin)) {
            Ok((load, valid)) => {
                if let Some(valid) = valid {
                    let _ = self.flight.valid.set(valid);
                }
                Step::Waiting(load)
            }
            Err(panic) => Step::Over(Arc::new(Err(FlightError::Panicked(message(&*panic))))),
        };
        let goes_on = matches!(step, Step::Waiting(_));
        let wakers = {
            let mut state = self.flight.lock();
            state.step = step;
            state.everybody()
        };
        wakers.into_iter().for_each(Waker::wake);
        goes_on
    }

    pub(super) fn flight(&self) -> &Arc<Flight<T>> {
        &self.flight
    }

    /// Gives the place up. Whoever is the last gets what is left of the load, to drop it, and the load is over.
    pub(super) fn leave(&mut self) -> Option<Remains<T>> {
        let slot = self.slot.take()?;
        let mut state = self.flight.lock();
        let waker = state.wakers[slot].take();
        state.free.push(slot);
        let (mut remains, mut successors) = (None, Vec::new());
        if state.free.len() == state.wakers.len() {
            remains = Some(Remains { _step: mem::replace(&mut state.step, Step::Abandoned) });
        } else if (state.woken || state.last == slot) && matches!(state.step, Step::Waiting(_)) {
            // It may have been the turn of this caller. And what it waited for as the last to poll may end with its
            // runtime: Tokio keeps the wake-ups of tasks that yield until the thread that polled them is idle.
            state.woken = true;
            successors = state.successors();
        }
        drop(state);
        drop(waker);
        successors.into_iter().for_each(Waker::wake);
        remains
    }
}

/// What nobody waits for any more.
pub(super) struct Remains<T> {
    _step: Step<T>,
}

impl<T> Drop for Caller<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// How a load ended, for one of its callers.
pub(super) struct Ended<T> {
    pub(super) outcome: Outcome<T>,
    /// Whether it was this caller whose poll was the last.
    pub(super) by_me: bool,
}

impl<T> Caller<T>
where
    T: Clone + Send + Sync + 'static,
{
    /// Waits for the load, and polls it when there is something to poll.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended<T>> {
        let Some(slot) = self.slot else { return Poll::Pending };
        let me = thread::current().id();
        // Takes the place of an older one, which is dropped when the lock is free.
        let mut waker = Some(cx.waker().clone());
        let mut state = self.flight.lock();
        match &state.step {
            Step::Over(outcome) => {
                let outcome = Arc::clone(outcome);
                drop(state);
                drop(self.leave());
                return Poll::Ready(Ended { outcome: Arc::unwrap_or_clone(outcome), by_me: false });
            }
            Step::Busy(thread) if *thread == me => {
                drop(state);
                return Poll::Ready(Ended { outcome: Err(FlightError::Recursive), by_me: false });
            }
            Step::Waiting(_) if state.woken => {}
            Step::Waiting(_) | Step::Busy(_) | Step::Abandoned => {
                mem::swap(&mut state.wakers[slot], &mut waker);
                drop(state);
                return Poll::Pending;
            }
        }
        let Step::Waiting(load) = mem::replace(&mut state.step, Step::Busy(me)) else { return Poll::Pending };
        (state.woken, state.last) = (false, slot);
        mem::swap(&mut state.wakers[slot], &mut waker);
        drop(state);
        drop(waker);
        self.advance(load)
    }

    fn advance(&mut self, mut load: Load<T>) -> Poll<Ended<T>> {
        let notify = Waker::from(Arc::clone(&self.flight));
        let polled = catch_unwind(AssertUnwindSafe(move || {
            match load.as_mut().poll(&mut Context::from_waker(&notify)) {
                Poll::Pending => Err(load),
                Poll::Ready(value) => {
                    drop(load);
                    Ok(value)
                }
            }
        }));
        let (outcome, panic) = match polled {
            Ok(Err(load)) => {
                self.put_back(load);
                return Poll::Pending;
            }
            Ok(Ok(value)) => (Ok(value), None),
            Err(panic) => (Err(FlightError::Panicked(message(&*panic))), Some(panic)),
        };
        let outcome = Arc::new(outcome);
        let mut state = self.flight.lock();
        state.step = Step::Over(Arc::clone(&outcome));
        let wakers = state.everybody();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        drop(self.leave());
        // Should dropping it panic in turn, nobody waits for this any more.
        drop(panic);
        Poll::Ready(Ended { outcome: Arc::unwrap_or_clone(outcome), by_me: true })
    }

    fn put_back(&self, load: Load<T>) {
        let mut state = self.flight.lock();
        state.step = Step::Waiting(load);
        let successors = if state.woken { state.successors() } else { Vec::new() };
        drop(state);
        successors.into_iter().for_each(Waker::wake);
    }
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> Arc<str> {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").into()
}
