//! When to leave a server alone: pure.

use std::time::{Duration, Instant};

/// Failures in a row after which the server is left alone.
const FAILURES: u32 = 3;

/// Counts failures in a row; after a few, lets one call through per pause until one succeeds.
#[derive(Debug)]
pub(super) struct Breaker {
    pause: Duration,
    failures: u32,
    /// While it is open, when the next attempt may be.
    retry_at: Option<Instant>,
}

impl Breaker {
    pub(super) fn new(pause: Duration) -> Self {
        Self { pause, failures: 0, retry_at: None }
    }

    /// Whether a call may be made now. Each call then ends in `succeed` or `fail`, or in neither if it was given up.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        match self.retry_at {
            None => true,
            Some(at) if now < at => false,
            Some(_) => {
                // Only this one: the next may try after another pause, whatever becomes of this one.
                self.retry_at = now.checked_add(self.pause);
                true
            }
        }
    }

    pub(super) fn succeed(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }

    pub(super) fn fail(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            self.retry_at = now.checked_add(self.pause);
        }
    }

    #[cfg(any(test, feature = "redis"))]
    pub(super) fn is_open(&self) -> bool {
        self.retry_at.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Clock, ManualClock};

    const PAUSE: Duration = Duration::from_secs(1);

    #[test]
    fn a_few_failures_in_a_row_open_it_and_one_call_per_pause_may_try() {
        let clock = ManualClock::new();
        let mut breaker = Breaker::new(PAUSE);
        for _ in 0..FAILURES {
            assert!(breaker.admit(clock.now()));
            breaker.fail(clock.now());
        }
        assert!(breaker.is_open() && !breaker.admit(clock.now()));
        clock.advance(PAUSE);
        assert!(breaker.admit(clock.now()));
        assert!(!breaker.admit(clock.now()), "one at a time");
        breaker.fail(clock.now());
        assert!(!breaker.admit(clock.now()));
        clock.advance(PAUSE);
        assert!(breaker.admit(clock.now()));
        breaker.succeed();
        assert!(!breaker.is_open() && breaker.admit(clock.now()));
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let clock = ManualClock::new();
        let mut breaker = Breaker::new(PAUSE);
        for _ in 0..10 {
            breaker.fail(clock.now());
            breaker.fail(clock.now());
            breaker.succeed();
            assert!(breaker.admit(clock.now()));
        }
    }

    #[test]
    fn an_attempt_that_is_given_up_does_not_keep_it_open_for_ever() {
        let clock = ManualClock::new();
        let mut breaker = Breaker::new(PAUSE);
        (0..FAILURES).for_each(|_| breaker.fail(clock.now()));
        for _ in 0..3 {
            clock.advance(PAUSE);
            assert!(breaker.admit(clock.now()), "the last attempt never ended");
        }
    }
}
