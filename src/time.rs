//! The one place that reads a clock.
//!
//! Every decision in this crate is made by code that is told the time. What reads it is a [`Clock`], which the
//! application may replace: [`TokioClock`] follows `tokio::time::pause`, [`ManualClock`] stands still until moved,
//! [`CoarseClock`] is for those who ask all the time.

mod coarse;

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

pub use self::coarse::CoarseClock;

/// When the answer to a request is no longer wanted: what a request carries along, as an extension if it is an HTTP one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(pub Instant);

/// A source of time.
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

    /// The time of day, for what other machines have to understand: it may jump either way.
    #[allow(clippy::disallowed_methods, reason = "this module is where clocks are read")]
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    /// What notes this clock's time for those who ask all the time, if anything does (default: nothing).
    fn coarse(&self) -> Option<CoarseClock> {
        None
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Instant {
        (**self).now()
    }

    fn wall(&self) -> SystemTime {
        (**self).wall()
    }

    fn coarse(&self) -> Option<CoarseClock> {
        (**self).coarse()
    }
}

/// Tokio's clock: the system's monotonic clock, or the virtual one while time is paused in a test.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioClock;

impl Clock for TokioClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// Where the time of day of a [`ManualClock`] begins, after the Unix epoch.
const MANUAL_EPOCH: Duration = Duration::from_secs(1_577_836_800);

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

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_nanos.load(Relaxed))
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
        self.origin + self.elapsed()
    }

    /// Begins at 2020-01-01 00:00:00 UTC.
    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + MANUAL_EPOCH + self.elapsed()
    }
}
