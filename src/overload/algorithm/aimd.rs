//! Additive increase, multiplicative decrease.

use std::time::{Duration, Instant};

use super::{Bounds, InvalidSetting, LimitAlgorithm, Outcome, Sample, whole};

const BACKOFF: f64 = 0.9;

/// Adds one while all is well, and cuts a share off when it is not, as TCP does.
///
/// Reach for this when you know which latency is too much. The limit grows by one for each limit's worth of answers, but
/// only while at least half of it is in use; an answer that is refused, or later than the threshold, cuts it to 0.9 of
/// itself. What was admitted before a cut does not cut again: one overload is one cut for each round trip, however many
/// requests it hits. O(1) for each sample.
///
/// Source: Chiu and Jain, "Analysis of the increase and decrease algorithms for congestion avoidance", 1989; the
/// condition of use is from Netflix's concurrency-limits.
///
/// ```
/// use std::time::Duration;
/// use buttress::overload::{Aimd, Bounds};
///
/// # fn main() -> Result<(), buttress::overload::InvalidSetting> {
/// let algorithm = Aimd::new(Bounds::new(1, 500)?, Duration::from_millis(100)).backoff(0.8)?;
/// # let _ = algorithm;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Aimd {
    bounds: Bounds,
    threshold: Duration,
    backoff: f64,
    limit: f64,
    last_cut: Option<Instant>,
}

impl Aimd {
    /// A limit within `bounds` that keeps latencies below `threshold`.
    pub fn new(bounds: Bounds, threshold: Duration) -> Self {
        Self { bounds, threshold, backoff: BACKOFF, limit: bounds.start(), last_cut: None }
    }

    /// Sets what is left of the limit after a cut.
    ///
    /// # Errors
    /// If `ratio` is not at least 0.5 and below 1.
    pub fn backoff(self, ratio: f64) -> Result<Self, InvalidSetting> {
        if !(0.5..1.0).contains(&ratio) {
            return Err(InvalidSetting::Backoff(ratio));
        }
        Ok(Self { backoff: ratio, ..self })
    }
}

impl LimitAlgorithm for Aimd {
    fn limit(&self) -> usize {
        whole(self.limit)
    }

    fn observe(&mut self, sample: Sample, now: Instant) {
        let is_late = sample.latency > self.threshold;
        match sample.outcome {
            Outcome::Cancelled if !is_late => {}
            Outcome::Success if !is_late => {
                if sample.in_flight.saturating_mul(2) >= self.limit() {
                    self.limit = self.bounds.clamp(self.limit + 1.0 / self.limit);
                }
            }
            _ => {
                let since_cut = self.last_cut.map(|cut| now.saturating_duration_since(cut));
                if since_cut.is_none_or(|since| sample.latency <= since) {
                    self.limit = self.bounds.clamp(self.limit * self.backoff);
                    self.last_cut = Some(now);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Clock, ManualClock};

    const QUICK: Duration = Duration::from_millis(10);
    const LATE: Duration = Duration::from_secs(1);

    fn aimd() -> Aimd {
        Aimd::new(Bounds::new(2, 50).unwrap(), Duration::from_millis(100))
    }

    fn sample(latency: Duration, in_flight: usize, outcome: Outcome) -> Sample {
        Sample { latency, in_flight, outcome }
    }

    #[test]
    fn the_limit_grows_by_one_a_round_and_only_while_it_is_used() {
        let (mut aimd, now) = (aimd(), ManualClock::new().now());
        (0..1000).for_each(|_| aimd.observe(sample(QUICK, 9, Outcome::Success), now));
        assert_eq!(aimd.limit(), 20, "less than half of it is in use");
        (0..21).for_each(|_| aimd.observe(sample(QUICK, 20, Outcome::Success), now));
        assert_eq!(aimd.limit(), 21);
        (0..100_000).for_each(|_| aimd.observe(sample(QUICK, 50, Outcome::Success), now));
        assert_eq!(aimd.limit(), 50);
    }

    #[test]
    fn one_overload_is_one_cut() {
        let (mut aimd, clock) = (aimd(), ManualClock::new());
        for outcome in [Outcome::Overloaded, Outcome::Success, Outcome::Cancelled] {
            let before = aimd.limit;
            clock.advance(LATE * 2);
            (0..20).for_each(|_| aimd.observe(sample(LATE, 20, outcome), clock.now()));
            assert!((aimd.limit - before * BACKOFF).abs() < 1e-9, "{outcome:?}: {}", aimd.limit);
        }
        for _ in 0..1000 {
            clock.advance(LATE * 2);
            aimd.observe(sample(Duration::MAX, usize::MAX, Outcome::Overloaded), clock.now());
            aimd.observe(sample(LATE, usize::MAX, Outcome::Overloaded), clock.now());
        }
        assert_eq!(aimd.limit(), 2);
    }

    #[test]
    fn a_caller_that_gives_up_early_says_nothing() {
        let (mut aimd, now) = (aimd(), ManualClock::new().now());
        (0..1000).for_each(|_| aimd.observe(sample(QUICK, 20, Outcome::Cancelled), now));
        assert_eq!(aimd.limit(), 20);
    }

    #[test]
    fn a_ratio_out_of_range_is_refused() {
        for ratio in [0.0, 0.49, 1.0, 2.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(aimd().backoff(ratio).is_err(), "{ratio}");
        }
    }
}
