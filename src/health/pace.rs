//! How often nodes are checked, and how many answers it takes.

use std::time::Duration;

/// Timers are no finer.
const SHORTEST: Duration = Duration::from_millis(1);
/// So that no arithmetic on time can overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Settings that make sense.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) interval: Duration,
    /// Between checks while answers differ from what the node is taken for.
    pub(super) fast: Duration,
    /// Between checks of a node that is down.
    pub(super) down: Duration,
    pub(super) timeout: Duration,
    /// By which part of it an interval may be shorter.
    pub(super) jitter: f64,
    pub(super) rise: u32,
    pub(super) fall: u32,
}

/// Settings as they were given; some defaults follow from others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) interval: Duration,
    pub(super) fast: Option<Duration>,
    pub(super) down: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) jitter: f64,
    pub(super) rise: u32,
    pub(super) fall: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let interval = Duration::from_secs(5);
        Self { interval, fast: None, down: None, timeout: None, jitter: 0.1, rise: 2, fall: 3 }
    }
}

impl Settings {
    pub(super) fn check(self) -> Result<Pace, MonitorError> {
        let Self { interval, fast, down, timeout, jitter, rise, fall } = self;
        let fast = fast.unwrap_or(interval.min(Duration::from_secs(1)));
        let down = down.unwrap_or(interval);
        let timeout = timeout.unwrap_or((interval / 2).min(Duration::from_secs(2)));
        if let Some(span) =
            [interval, fast, down].into_iter().find(|span| !(SHORTEST..=LONGEST).contains(span))
        {
            return Err(MonitorError::Interval(span));
        }
        if fast > interval {
            return Err(MonitorError::FastInterval { fast, interval });
        }
        if timeout.is_zero() || timeout >= interval {
            return Err(MonitorError::Timeout { timeout, interval });
        }
        if !(0.0..=0.5).contains(&jitter) {
            return Err(MonitorError::Jitter(jitter));
        }
        if rise == 0 || fall == 0 {
            return Err(MonitorError::NoThreshold);
        }
        Ok(Pace { interval, fast, down, timeout, jitter, rise, fall })
    }
}

/// Why a [`Monitor`](super::Monitor) does not start.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// An interval is out of range.
    #[error("checks cannot be {0:?} apart: give an interval between a millisecond and a year")]
    Interval(Duration),
    /// The fast interval is not fast.
    #[error("the fast interval of {fast:?} is longer than the interval of {interval:?}: make it shorter")]
    FastInterval {
        /// The fast interval.
        fast: Duration,
        /// The interval.
        interval: Duration,
    },
    /// A check could still run when the next one is due, or has no time at all.
    #[error(
        "a timeout of {timeout:?} does not fit an interval of {interval:?}: give one above zero and below it"
    )]
    Timeout {
        /// The timeout.
        timeout: Duration,
        /// The interval.
        interval: Duration,
    },
    /// The jitter is not a part.
    #[error("a jitter of {0} makes no sense: give a part from 0 to 0.5")]
    Jitter(f64),
    /// Zero answers would decide.
    #[error("rise and fall count answers: both must be 1 at least")]
    NoThreshold,
    /// Another monitor checks the nodes already.
    #[error("the cluster has a monitor: clone that one, or drop it first")]
    AlreadyMonitored,
    /// There is nothing that could run the checks.
    #[error("checks need a tokio runtime: start the monitor in one")]
    NoRuntime,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn with(change: impl FnOnce(&mut Settings)) -> Result<Pace, MonitorError> {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.check()
    }

    #[test]
    fn defaults_follow_the_interval() -> Result<(), MonitorError> {
        let pace = Settings::default().check()?;
        assert_eq!((pace.fast, pace.down, pace.timeout), (SECOND, 5 * SECOND, 2 * SECOND));
        let pace = with(|settings| settings.interval = SECOND / 2)?;
        assert_eq!((pace.fast, pace.down, pace.timeout), (SECOND / 2, SECOND / 2, SECOND / 4));
        Ok(())
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for span in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let refused = Some(MonitorError::Interval(span));
            assert_eq!(with(|settings| settings.interval = span).err(), refused);
            assert_eq!(with(|settings| settings.fast = Some(span)).err(), refused);
            assert_eq!(with(|settings| settings.down = Some(span)).err(), refused);
        }
        for timeout in [Duration::ZERO, 5 * SECOND, Duration::MAX] {
            let refused = Some(MonitorError::Timeout { timeout, interval: 5 * SECOND });
            assert_eq!(with(|settings| settings.timeout = Some(timeout)).err(), refused);
        }
        assert!(matches!(with(|s| s.fast = Some(6 * SECOND)).err(), Some(MonitorError::FastInterval { .. })));
        for jitter in [-0.1, 0.6, f64::INFINITY, f64::NAN] {
            assert!(matches!(with(|s| s.jitter = jitter).err(), Some(MonitorError::Jitter(_))), "{jitter}");
        }
        assert_eq!(with(|settings| settings.rise = 0).err(), Some(MonitorError::NoThreshold));
        assert_eq!(with(|settings| settings.fall = 0).err(), Some(MonitorError::NoThreshold));
    }
}
