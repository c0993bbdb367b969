//! The time, as caches count it.

use std::{sync::Arc, time::Instant};

use super::NEVER;
use crate::time::Clock;

/// A clock, read as nanoseconds since the cache was made.
#[derive(Clone, Debug)]
pub(crate) struct Time {
    clock: Arc<dyn Clock>,
    origin: Instant,
}

impl Time {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let origin = clock.now();
        Self { clock, origin }
    }

    /// Nanoseconds since the cache was made: 0 if the clock shows less.
    pub(crate) fn now(&self) -> u64 {
        let elapsed = self.clock.now().saturating_duration_since(self.origin);
        u64::try_from(elapsed.as_nanos()).unwrap_or(NEVER - 1).min(NEVER - 1)
    }
}
