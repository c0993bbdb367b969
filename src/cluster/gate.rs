//! Where callers wait while every node is full.

use std::sync::atomic::{AtomicUsize, Ordering, fence};

use tokio::sync::{Notify, futures::Notified};

/// A bounded queue of callers that wait for a node to have room.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    waiting: AtomicUsize,
    freed: Notify,
}

impl Gate {
    /// Takes a place in the queue, unless `limit` callers stand in it.
    pub(crate) fn enter(&self, limit: usize) -> Option<Place<'_>> {
        let entered =
            self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < limit).then_some(n + 1));
        // Pairs with `release`: either it sees this caller, or this caller's next try sees the room it made.
        fence(Ordering::SeqCst);
        entered.ok().map(|_| Place { gate: self })
    }

    /// Whether anybody waits: newcomers then queue up behind.
    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// One request has left: one caller may try again.
    #[inline]
    pub(crate) fn release(&self) {
        fence(Ordering::SeqCst);
        if self.is_crowded() {
            self.freed.notify_one();
        }
    }

    /// The nodes or their health have changed: everybody may try again.
    pub(crate) fn open(&self) {
        self.freed.notify_waiters();
    }
}

/// A place in the queue, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    gate: &'a Gate,
}

impl Place<'_> {
    /// Waits for room. Register before trying, or the room that appears in between is missed.
    pub(crate) fn freed(&self) -> Notified<'_> {
        self.gate.freed.notified()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gate.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
