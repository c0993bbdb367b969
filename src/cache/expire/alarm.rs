//! What wakes the maintenance of a cache: deadlines that are earlier than it knows.

use crate::sync::{
    Notify,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Lets a task sleep until the first deadline of many timers, which change while it sleeps.
///
/// The task calls [`look`](Self::look), then asks all timers, each under its lock, and sleeps until what
/// [`plan`](Self::plan) was told or until [`rung`](Self::rung). Whoever sets a timer does so under that lock, and
/// calls [`note`](Self::note) after it. So either the task sees the timer, or the one who set it sees that the task looks.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    /// The earliest deadline that the task knows or has been told of; 0 while there is no task.
    until: AtomicU64,
    bell: Notify,
}

impl Alarm {
    /// A deadline was set. Costs one load, unless it is earlier than those known.
    #[inline]
    pub(crate) fn note(&self, deadline: u64) {
        if deadline < self.until.load(Relaxed) && deadline < self.until.fetch_min(deadline, Relaxed) {
            self.bell.notify_one();
        }
    }

    /// The task is about to ask all timers.
    pub(crate) fn look(&self) {
        self.until.store(u64::MAX, Relaxed);
    }

    /// The task is about to sleep until this deadline, the earliest that it found.
    pub(crate) fn plan(&self, deadline: u64) {
        self.until.fetch_min(deadline, Relaxed);
    }

    /// Wakes the task in any case.
    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits for the bell. What rang before counts.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }
}
