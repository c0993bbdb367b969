//! A moment, on both clocks.

use std::time::{Duration, Instant, SystemTime};

use crate::time::Clock;

/// One moment on two clocks: ages run on the monotonic one, dates of messages are compared with the time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// On the monotonic clock.
    pub instant: Instant,
    /// The time of day.
    pub wall: SystemTime,
}

impl From<Moment> for Instant {
    fn from(moment: Moment) -> Self {
        moment.instant
    }
}

impl Moment {
    /// Now.
    pub fn now<C: Clock + ?Sized>(clock: &C) -> Self {
        Self { instant: clock.now(), wall: clock.wall() }
    }

    /// The time since `earlier`, or none if that is later.
    pub fn since(self, earlier: Instant) -> Duration {
        self.instant.saturating_duration_since(earlier)
    }
}
