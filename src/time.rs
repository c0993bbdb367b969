//! The one place that reads a clock.
//!
//! Every decision in this crate is made by code that is told the time. What reads it is a [`Clock`], which the
//! application may replace: [`TokioClock`] follows `tokio::time::pause`, [`ManualClock`] stands still until moved.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// A source of monotonic time.
///
/// ```
/// use std::time::Duration;
/// use buttress::time::{Clock, ManualClock};
///
/// let clock = ManualClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(3));
/// assert_eq!(clock.now() - before, Duration::from_secs(3));
/// ```
pub trait Clock: Debug + Send + Sync + 'static {
    /// The current instant. Never earlier than an instant it gave before.
    fn now(&self) -> Instant;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Instant {
        (**self).now()
    }
}

/// When nobody waits for an answer any more: for the extensions of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(pub Instant);

/// Tokio's clock: the system's monotonic clock, or the virtual one while time is paused in a test.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioClock;

impl Clock for TokioClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// A clock that moves only when told to. Clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    origin: Instant,
    elapsed_nanos: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that stands still at an arbitrary instant.
    #[allow(clippy::disallowed_methods, reason = "this module is where clocks are read")]
    pub fn new() -> Self {
        Self { origin: Instant::now(), elapsed_nanos: Arc::default() }
    }

    /// Moves the clock forward, at most to 584 years after it was made.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let _ = self.elapsed_nanos.fetch_update(Relaxed, Relaxed, |t| Some(t.saturating_add(nanos)));
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.origin + Duration::from_nanos(self.elapsed_nanos.load(Relaxed))
    }
}
