//! The judgement on an answer.

use std::time::{Duration, Instant, SystemTime};

use crate::cluster::{FailureKind, Verdict};

/// Judges each answer once; the latency estimate, suspension and retries all follow that one verdict.
///
/// Closures from `Result<&Response, &Error>` to [`Verdict`] will do.
///
/// ```
/// use buttress::{balance::{Classify, ErrorsFail}, cluster::{FailureKind, Verdict}};
///
/// let verdict = Classify::<u16, String>::classify(&ErrorsFail, Err(&"broken pipe".into()));
/// assert_eq!(verdict, Verdict::Failure(FailureKind::Transport));
/// ```
pub trait Classify<Res, E> {
    /// What the answer says about the node that gave it.
    fn classify(&self, answer: Result<&Res, &E>) -> Verdict;

    /// When the node wants to be asked again, if it says so. Asked of answers that were judged to be failures of the kinds
    /// [`Overloaded`](FailureKind::Overloaded) and [`Throttled`](FailureKind::Throttled).
    fn retry_after(&self, answer: Result<&Res, &E>) -> Option<RetryAfter> {
        let _ = answer;
        None
    }
}

/// When a node that turned a request away wants to be asked again (RFC 9110, section 10.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// After this much time.
    Delay(Duration),
    /// At this time of day.
    Date(SystemTime),
}

impl RetryAfter {
    /// When that is. `None` if nobody lives to see it.
    pub(super) fn instant(self, now: Instant, time_of_day: SystemTime) -> Option<Instant> {
        now.checked_add(match self {
            Self::Delay(delay) => delay,
            Self::Date(date) => date.duration_since(time_of_day).unwrap_or_default(),
        })
    }
}

impl<Res, E, F: Fn(Result<&Res, &E>) -> Verdict> Classify<Res, E> for F {
    fn classify(&self, answer: Result<&Res, &E>) -> Verdict {
        self(answer)
    }
}

/// Every response is a success, and every error a failure of transport.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorsFail;

impl<Res, E> Classify<Res, E> for ErrorsFail {
    fn classify(&self, answer: Result<&Res, &E>) -> Verdict {
        match answer {
            Ok(_) => Verdict::Success,
            Err(_) => Verdict::Failure(FailureKind::Transport),
        }
    }
}
