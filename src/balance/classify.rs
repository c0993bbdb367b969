//! The judgement on an answer.

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
