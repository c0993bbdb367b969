//! How many requests at once are good for a service: algorithms that find out.

mod aimd;
mod gradient;

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

pub use self::{aimd::Aimd, gradient::Gradient};

/// Learns from each answer how many requests a service should have at once.
///
/// It is told the time and reads no clock, so the same samples give the same limits. What ends while another sample is
/// learned from waits for a lock: be quick. A limit of 0 counts as 1.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress::overload::{LimitAlgorithm, Limiter, Outcome, Queue, Sample};
///
/// /// Half of the limit for a minute after each sign of overload.
/// #[derive(Debug)]
/// struct StepBack {
///     full: usize,
///     last_overload: Option<Instant>,
///     limit: usize,
/// }
///
/// impl LimitAlgorithm for StepBack {
///     fn limit(&self) -> usize {
///         self.limit
///     }
///
///     fn observe(&mut self, sample: Sample, now: Instant) {
///         if sample.outcome == Outcome::Overloaded {
///             self.last_overload = Some(now);
///         }
///         let is_recent = |at| now.saturating_duration_since(at) < Duration::from_secs(60);
///         self.limit = if self.last_overload.is_some_and(is_recent) { self.full / 2 } else { self.full };
///     }
/// }
///
/// let algorithm = StepBack { full: 100, last_overload: None, limit: 100 };
/// let limiter = Limiter::new(algorithm, Queue::default());
/// assert_eq!(limiter.status().limit, 100);
/// ```
pub trait LimitAlgorithm: Debug + Send + 'static {
    /// The limit as it stands, at least 1. Asked for after each sample.
    fn limit(&self) -> usize;

    /// Takes one request into account, which ended `now`.
    fn observe(&mut self, sample: Sample, now: Instant);
}

impl<T: LimitAlgorithm + ?Sized> LimitAlgorithm for Box<T> {
    fn limit(&self) -> usize {
        (**self).limit()
    }

    fn observe(&mut self, sample: Sample, now: Instant) {
        (**self).observe(sample, now);
    }
}

/// What one request tells about the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// From its admission to its answer. The time in the queue is not in it.
    pub latency: Duration,
    /// How many were in flight when it was admitted, itself included.
    pub in_flight: usize,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a request, as far as the limit is concerned.
///
/// Other failures say nothing: one that fails at once is not fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The service did its work.
    Success,
    /// The service had too much to do: it refused, or took too long.
    Overloaded,
    /// The caller gave up. An answer would have taken longer.
    Cancelled,
}

/// A limit that stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed(usize);

impl Fixed {
    /// This limit, and no other.
    ///
    /// # Errors
    /// If it is 0.
    pub const fn new(limit: usize) -> Result<Self, InvalidSetting> {
        if limit == 0 { Err(InvalidSetting::Bounds { min: 0, max: 0 }) } else { Ok(Self(limit)) }
    }
}

impl LimitAlgorithm for Fixed {
    fn limit(&self) -> usize {
        self.0
    }

    fn observe(&mut self, _: Sample, _: Instant) {}
}

/// Where a limit starts, and the range that it never leaves.
///
/// By default it starts at 20 and moves between 4 and 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    min: usize,
    max: usize,
    initial: usize,
}

impl Bounds {
    /// From `min` to `max`, starting at 20 or at what is nearest to it.
    ///
    /// ```
    /// use buttress::overload::Bounds;
    ///
    /// assert!(Bounds::new(1, 200).is_ok());
    /// assert!(Bounds::new(0, 200).is_err(), "nothing would ever be admitted");
    /// assert!(Bounds::new(9, 8).is_err());
    /// ```
    ///
    /// # Errors
    /// If `min` is 0 or above `max`.
    pub fn new(min: usize, max: usize) -> Result<Self, InvalidSetting> {
        if min == 0 || min > max {
            return Err(InvalidSetting::Bounds { min, max });
        }
        Ok(Self { min, max, initial: Self::default().initial.clamp(min, max) })
    }

    /// Starts at `limit`, or at the bound that is nearest to it.
    #[must_use]
    pub fn initial(self, limit: usize) -> Self {
        Self { initial: limit.clamp(self.min, self.max), ..self }
    }

    fn start(self) -> f64 {
        self.initial as f64
    }

    fn clamp(self, limit: f64) -> f64 {
        limit.clamp(self.min as f64, self.max as f64)
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { min: 4, max: 1000, initial: 20 }
    }
}

/// A setting that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSetting {
    /// Not a range of limits.
    #[error("limits from {min} to {max} make no sense: the least is 1, and not above the most")]
    Bounds {
        /// The least that was asked for.
        min: usize,
        /// The most.
        max: usize,
    },
    /// Not a ratio to cut a limit by.
    #[error("a backoff to {0} of the limit makes no sense: give a ratio from 0.5 to 1, and below 1")]
    Backoff(f64),
    /// Not a factor of latency.
    #[error("a tolerance of {0} makes no sense: give a factor from 1 to 1.9")]
    Tolerance(f64),
}

/// A limit as a whole number.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to bounds that are counts"
)]
fn whole(limit: f64) -> usize {
    (limit as usize).max(1)
}
