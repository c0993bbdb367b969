//! A shared load without a key.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use super::{FlightError, shared::Caller};

/// A future whose result many wait for: whoever joined it polls it.
pub(crate) struct Shared<T>(Caller<T>);

impl<T: Clone + Send + Sync + 'static> Shared<T> {
    pub(crate) fn new(load: impl Future<Output = T> + Send + 'static) -> Self {
        let caller = Caller::new();
        caller.start(|| (Box::pin(load), None));
        Self(caller)
    }

    /// Another one who waits for it. None if it is over.
    pub(crate) fn join(&self) -> Option<Self> {
        self.0.flight().join().map(Self)
    }
}

impl<T: Clone + Send + Sync + 'static> Future for Shared<T> {
    type Output = Result<T, FlightError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx).map(|ended| ended.outcome)
    }
}
