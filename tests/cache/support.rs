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
pub struct WildClock {
    origin: Instant,
    nanos: Arc<AtomicU64>,
    reads: Arc<AtomicUsize>,
}

impl WildClock {
    /// Shows an hour.
    pub fn new() -> Self {
        Self {
            origin: ManualClock::new().now(),
            nanos: Arc::new(3_600_000_000_000.into()),
            reads: Arc::default(),
        }
    }

    pub fn nanos(&self) -> u64 {
        self.nanos.load(Relaxed)
    }

    pub fn set(&self, nanos: u64) {
        self.nanos.store(nanos, Relaxed);
    }

    pub fn advance(&self, by: Duration) {
        self.set(self.nanos() + by.as_nanos() as u64);
    }

    pub fn reads(&self) -> usize {
        self.reads.swap(0, Relaxed)
    }
}

impl Clock for WildClock {
    fn now(&self) -> Instant {
        self.reads.fetch_add(1, Relaxed);
        self.origin + Duration::from_nanos(self.nanos())
    }
}

/// Counts how often a future is polled.
pub struct Polls<F> {
    future: Pin<Box<F>>,
    count: Arc<AtomicUsize>,
}

impl<F: Future> Polls<F> {
    pub fn of(future: F) -> (Self, Arc<AtomicUsize>) {
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
