//! Why a request was turned away.

use std::{error, fmt, time::Duration};

/// A request that was turned away, before it cost anything. It may be sent again, later or elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much to do: {reason}")]
#[non_exhaustive]
pub struct Overloaded {
    /// Why.
    pub reason: Reason,
}

impl Overloaded {
    pub(super) const fn new(reason: Reason) -> Self {
        Self { reason }
    }

    /// When it makes sense to come back: in a second. A wait that is the same for all keeps them as far apart as they
    /// were when they came.
    pub const fn retry_after(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// Why a request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The limit was reached, and the queue full of requests that matter more, or there was none.
    Full,
    /// It had a place in the queue, which was then given to one that matters more, or is younger.
    Displaced,
    /// It waited in the queue for as long as any may.
    Waited,
    /// There was not enough time left to answer it before its deadline.
    Deadline,
}

impl Reason {
    pub(super) const COUNT: usize = 4;

    /// Its place in a table of counts.
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue is full",
            Self::Displaced => "another request took the place in the queue",
            Self::Waited => "waited too long in the queue",
            Self::Deadline => "the deadline would be missed",
        })
    }
}

/// Why a [`Limit`](super::Limit) has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error<E> {
    /// The request was turned away. The service has seen nothing of it.
    Overloaded(Overloaded),
    /// The service failed.
    Service(E),
}

impl<E> Error<E> {
    /// The error of the service, if it was reached.
    pub fn into_service_error(self) -> Option<E> {
        match self {
            Self::Service(error) => Some(error),
            Self::Overloaded(_) => None,
        }
    }
}

impl<E> From<Overloaded> for Error<E> {
    fn from(overloaded: Overloaded) -> Self {
        Self::Overloaded(overloaded)
    }
}

impl<E> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded(overloaded) => overloaded.fmt(f),
            Self::Service(_) => f.write_str("the service failed"),
        }
    }
}

impl<E: error::Error + 'static> error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Overloaded(overloaded) => Some(overloaded),
            Self::Service(error) => Some(error),
        }
    }
}
