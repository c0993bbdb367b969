//! The future of one caller.

use std::{
    fmt,
    future::Ready,
    hash::Hash,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::{FlightError, SingleFlight, shared::Caller};

/// How many loads may panic under one caller before it gives up.
const HAND_OVERS: u8 = 3;

/// What [`SingleFlight::run`] returns: the result of a load, once it is there.
///
/// It may be dropped at any time; the load goes on as long as somebody waits for it. A few who hold theirs without polling it
/// are no danger to others who wait for the same. Eight or more may be, until they poll again or a new caller comes:
/// say a buffer of many futures that nobody looks at for a while. [`SingleFlight::spawned`] is for these.
#[must_use = "futures do nothing unless polled"]
pub struct Join<K: Hash + Eq + Clone, T, F> {
    flights: SingleFlight<K, T>,
    key: K,
    /// None when it led.
    begin: Option<F>,
    caller: Option<Caller<T>>,
    hand_overs: u8,
}

/// What a caller begins who never leads.
type Nothing<T> = fn(&mut Leader) -> Ready<T>;

/// Whoever begins a load: says who may join it.
#[derive(Default)]
pub struct Leader {
    valid: Option<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl Leader {
    /// Lets others join as long as `valid` says so. Those who come later begin a load of their own, say because what this
    /// one finds is out of date by now.
    pub fn joinable_while(&mut self, valid: impl Fn() -> bool + Send + Sync + 'static) {
        self.valid = Some(Box::new(valid));
    }
}

impl fmt::Debug for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").finish_non_exhaustive()
    }
}

impl<K, T, F, Fut> Join<K, T, F>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
    F: FnOnce(&mut Leader) -> Fut,
    Fut: Future<Output = T> + Send + 'static,
{
    pub(super) fn new(flights: SingleFlight<K, T>, key: K, begin: F) -> Self {
        let mut join = Self { flights, key, begin: None, caller: None, hand_overs: HAND_OVERS };
        join.enter(begin);
        join
    }

    /// Whether the load was begun by this caller.
    pub(crate) fn leads(&self) -> bool {
        self.begin.is_none()
    }

    /// A caller that begins no load any more, whatever becomes of the one that it waits for.
    pub(crate) fn without_hand_over(mut self) -> Self {
        self.hand_overs = 0;
        self
    }

    /// Joins the load, or leads it.
    fn enter(&mut self, begin: F) {
        let (caller, leads) = self.flights.table.enter(&self.key);
        if leads {
            let goes_on = caller.start(|| {
                let mut leader = Leader::default();
                let load = begin(&mut leader);
                (Box::pin(load), leader.valid)
            });
            if !goes_on {
                self.flights.table.forget(&self.key, caller.flight());
            } else if self.flights.spawned {
                self.spawn(&caller);
            }
        } else {
            self.begin = Some(begin);
        }
        self.caller = Some(caller);
    }

    /// A task that waits as well, for nothing but that somebody does.
    fn spawn(&self, caller: &Caller<T>) {
        let (Ok(runtime), Some(caller)) = (tokio::runtime::Handle::try_current(), caller.flight().join())
        else {
            return;
        };
        let (flights, key) = (self.flights.clone(), self.key.clone());
        let join: Join<K, T, Nothing<T>> =
            Join { flights, key, begin: None, caller: Some(caller), hand_overs: 0 };
        runtime.spawn(async move { drop(join.await) });
    }
}

impl<K, T, F, Fut> Future for Join<K, T, F>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
    F: FnOnce(&mut Leader) -> Fut,
    Fut: Future<Output = T> + Send + 'static,
{
    type Output = Result<T, FlightError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let Some(caller) = &mut this.caller else { return Poll::Pending };
            let ended = ready!(caller.poll(cx));
            if ended.by_me {
                this.flights.table.forget(&this.key, caller.flight());
            }
            this.caller = None;
            if matches!(ended.outcome, Err(FlightError::Panicked(_)))
                && this.hand_overs > 0
                && let Some(begin) = this.begin.take()
            {
                this.hand_overs -= 1;
                this.enter(begin);
                continue;
            }
            return Poll::Ready(ended.outcome);
        }
    }
}

/// Nothing in it is pinned: the load has a place of its own.
impl<K: Hash + Eq + Clone, T, F> Unpin for Join<K, T, F> {}

impl<K: Hash + Eq + Clone, T, F> Drop for Join<K, T, F> {
    fn drop(&mut self) {
        let Some(mut caller) = self.caller.take() else { return };
        let remains = caller.leave();
        if remains.is_some() {
            self.flights.table.forget(&self.key, caller.flight());
        }
    }
}

impl<K: Hash + Eq + Clone, T, F> fmt::Debug for Join<K, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").field("leads", &self.begin.is_none()).finish_non_exhaustive()
    }
}
