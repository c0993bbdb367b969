//! How a value is kept.

use std::time::Duration;

/// How to keep one value: unless it says otherwise, as the cache does.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Keep {
    pub(super) ttl: Option<Duration>,
}

impl Keep {
    /// As the cache keeps all.
    pub const fn new() -> Self {
        Self { ttl: None }
    }

    /// Sets how long the value lives. With no time at all it is not kept.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}
