//! Clocks and futures that tests look into.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use buttress::time::{Clock, ManualClock};

/// A clock that can be set back, and counts who reads it.
#[derive(Clone, Debug)]
pub(crate) struct WildClock {
    origin: Instant,
    nanos: Arc<AtomicU64>,
    reads: Arc<AtomicUsize>,
}

impl WildClock {
    /// Shows an hour.
    pub(crate) fn new() -> Self {
        Self {
            origin: ManualClock::new().now(),
            nanos: Arc::new(3_600_000_000_000.into()),
            reads: Arc::default(),
        }
    }

    pub(crate) fn nanos(&self) -> u64 {
        self.nanos.load(Relaxed)
    }

    pub(crate) fn set(&self, nanos: u64) {
        self.nanos.store(nanos, Relaxed);
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.set(self.nanos() + nanos(by));
    }

    pub(crate) fn reads(&self) -> usize {
        self.reads.swap(0, Relaxed)
    }
}

impl Clock for WildClock {
    fn now(&self) -> Instant {
        self.reads.fetch_add(1, Relaxed);
        self.origin + Duration::from_nanos(self.nanos())
    }
}

/// For times of less than 584 years.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

/// Counts how often a future is polled.
pub(crate) struct Polls<F> {
    future: Pin<Box<F>>,
    count: Arc<AtomicUsize>,
}

impl<F: Future> Polls<F> {
    pub(crate) fn of(future: F) -> (Self, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        (Self { future: Box::pin(future), count: Arc::clone(&count) }, count)
    }
}

impl<F: Future> Future for Polls<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.count.fetch_add(1, Relaxed);
        self.future.as_mut().poll(cx)
    }
}
