//! Why there is no value.

use std::{convert::Infallible, error, fmt, sync::Arc, time::Duration};

use crate::cache::flight::FlightError;

/// Why a load gave no value. Those who waited for the same load share it, as do its clones.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The load failed.
    Failed(Arc<E>),
    /// It took longer than it may.
    TimedOut(Duration),
    /// It panicked, or asked for its own key.
    Broken(FlightError),
}

impl<E> LoadError<E> {
    /// What the load says went wrong, if it said something.
    pub fn inner(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::TimedOut(_) | Self::Broken(_) => None,
        }
    }
}

impl LoadError<Infallible> {
    /// # Panics
    /// If the load panicked or asked for its own key.
    pub(super) fn panic(&self) -> ! {
        match self {
            Self::Failed(never) => match **never {},
            Self::TimedOut(_) | Self::Broken(_) => panic!("{self}"),
        }
    }
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::TimedOut(limit) => Self::TimedOut(*limit),
            Self::Broken(error) => Self::Broken(error.clone()),
        }
    }
}

impl<E> From<FlightError> for LoadError<E> {
    fn from(error: FlightError) -> Self {
        Self::Broken(error)
    }
}

impl<E> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(_) => f.write_str("the value could not be loaded"),
            Self::TimedOut(limit) => write!(f, "the value was not loaded within {limit:?}"),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

impl<E: error::Error + 'static> error::Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            Self::TimedOut(_) | Self::Broken(_) => None,
        }
    }
}
