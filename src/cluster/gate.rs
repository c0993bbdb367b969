//! Where callers wait while every node is full.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering, fence},
    },
    task::{Context, Poll, Waker},
};

use tokio::sync::{Notify, futures::Notified};

/// A bounded line of callers that wait for a node to have room. Those who wait for another one to be ready meanwhile stand
/// in it too.
///
/// Each request that ends calls one caller to try, whoever came first among those not called yet. A caller keeps its
/// place until it leaves. One who leaves room behind, or goes away with its call unused, passes the call on to those
/// behind it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// How many stand in the line: read without the lock.
    waiting: AtomicUsize,
    line: Mutex<Line>,
    /// Tells those who have chosen a node and wait for it to be ready.
    changes: Notify,
}

#[derive(Debug, Default)]
struct Line {
    next_ticket: u64,
    /// How many of the callers are called.
    called: usize,
    callers: BTreeMap<u64, Caller>,
}

#[derive(Debug)]
struct Caller {
    called: bool,
    waker: Option<Waker>,
}

impl Gate {
    /// Takes a place at the end of the line, unless `limit` callers stand in it.
    pub(crate) fn enter(&self, limit: usize) -> Option<Place<'_>> {
        let mut line = self.lock();
        if line.callers.len() >= limit {
            return None;
        }
        let ticket = line.next_ticket;
        line.next_ticket += 1;
        // While nobody is called, those in front have no use for what room there may be.
        let called = line.called == 0;
        line.called += usize::from(called);
        line.callers.insert(ticket, Caller { called, waker: None });
        self.waiting.store(line.callers.len(), Ordering::Relaxed);
        drop(line);
        // Pairs with `release`: either it sees this caller, or this caller's try sees the room it made.
        fence(Ordering::SeqCst);
        Some(Place { gate: self, ticket })
    }

    /// Whether anybody waits: newcomers then queue up behind.
    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// One request has left: one caller may try.
    #[inline]
    pub(crate) fn release(&self) {
        fence(Ordering::SeqCst);
        if self.is_crowded() {
            self.call(Bound::Unbounded);
        }
    }

    /// Waits for the nodes or their health to change. What changes after this call counts, before the first poll too.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changes.notified()
    }

    /// The nodes or their health have changed: everybody may try.
    pub(crate) fn open(&self) {
        self.changes.notify_waiters();
        fence(Ordering::SeqCst);
        if self.is_crowded() {
            let mut line = self.lock();
            line.called = line.callers.len();
            let wakers: Vec<_> = line
                .callers
                .values_mut()
                .filter_map(|caller| {
                    caller.called = true;
                    caller.waker.take()
                })
                .collect();
            drop(line);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Calls the first caller behind `from` that is not called yet.
    #[cold]
    fn call(&self, from: Bound<u64>) {
        let mut line = self.lock();
        let mut behind = line.callers.range_mut((from, Bound::Unbounded));
        let Some((_, caller)) = behind.find(|(_, caller)| !caller.called) else { return };
        caller.called = true;
        let waker = caller.waker.take();
        line.called += 1;
        drop(line);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    gate: &'a Gate,
    ticket: u64,
}

impl Place<'_> {
    /// Waits for a call, and uses it up: what happens from here on calls again.
    pub(crate) fn poll_called(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Wakers are the user's code: they are cloned and dropped outside the lock.
        let waker = cx.waker().clone();
        let mut guard = self.gate.lock();
        let line = &mut *guard;
        let Some(caller) = line.callers.get_mut(&self.ticket) else { return Poll::Ready(()) };
        if std::mem::take(&mut caller.called) {
            line.called -= 1;
            return Poll::Ready(());
        }
        let old = caller.waker.replace(waker);
        drop(guard);
        drop(old);
        Poll::Pending
    }

    /// Whether others wait beside this caller.
    pub(crate) fn is_shared(&self) -> bool {
        self.gate.waiting.load(Ordering::Relaxed) > 1
    }

    /// Lets the next one behind try.
    pub(crate) fn pass_on(&self) {
        self.gate.call(Bound::Excluded(self.ticket));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut line = self.gate.lock();
        let caller = line.callers.remove(&self.ticket);
        let unused = caller.as_ref().is_some_and(|caller| caller.called);
        line.called -= usize::from(unused);
        self.gate.waiting.store(line.callers.len(), Ordering::Relaxed);
        drop(line);
        if unused {
            self.pass_on();
        }
        // Its waker is dropped here, outside the lock.
        drop(caller);
    }
}
