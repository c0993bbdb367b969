//! The future of a balanced call.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{Classify, Complete, Error};
use crate::cluster::{LoadGuard, NodeId, Verdict};

/// Finds a service that is ready. Boxed, as it is off the usual path.
pub(super) type Acquire<S, E> = Pin<Box<dyn Future<Output = Result<(S, LoadGuard), Error<E>>> + Send>>;

/// What came of a request at one node.
pub(super) struct Outcome<T, E> {
    pub(super) result: Result<T, Error<E>>,
    /// The verdict on the node that answered, if one did.
    pub(super) verdict: Option<Verdict>,
    /// The node that failed.
    pub(super) failed: Option<NodeId>,
}

pin_project! {
    /// A request on its way to one node.
    pub(super) struct Attempt<S, Req, J, C>
    where
        S: Service<Req>,
    {
        #[pin]
        step: Step<S, Req, J, C>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S, Req, J, C>
    where
        S: Service<Req>,
    {
        Acquiring { acquire: Acquire<S, S::Error>, rest: Option<(Req, J, C)> },
        Calling { #[pin] call: S::Future, guard: Option<LoadGuard>, judge: J, complete: C },
        Failed { error: Option<Error<S::Error>> },
    }
}

impl<S: Service<Req>, Req, J, C> Attempt<S, Req, J, C> {
    pub(super) fn calling(call: S::Future, guard: LoadGuard, judge: J, complete: C) -> Self {
        Self { step: Step::Calling { call, guard: Some(guard), judge, complete } }
    }

    pub(super) fn acquiring(acquire: Acquire<S, S::Error>, request: Req, judge: J, complete: C) -> Self {
        Self { step: Step::Acquiring { acquire, rest: Some((request, judge, complete)) } }
    }

    pub(super) fn failed(error: Error<S::Error>) -> Self {
        Self { step: Step::Failed { error: Some(error) } }
    }
}

impl<S, Req, J, C> Attempt<S, Req, J, C>
where
    S: Service<Req>,
    J: Classify<S::Response, S::Error>,
    C: Complete<S::Response>,
{
    /// As `Future::poll`, which must not be called again after it was ready; then it stays pending.
    pub(super) fn poll_outcome(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome<C::Response, S::Error>> {
        let mut step = self.project().step;
        loop {
            match step.as_mut().project() {
                StepProj::Acquiring { acquire, rest } => {
                    let acquired = ready!(acquire.as_mut().poll(cx));
                    let Some((request, judge, complete)) = rest.take() else { return Poll::Pending };
                    step.set(match acquired {
                        Ok((mut service, guard)) => {
                            let call = service.call(request);
                            Step::Calling { call, guard: Some(guard), judge, complete }
                        }
                        Err(error) => Step::Failed { error: Some(error) },
                    });
                }
                StepProj::Calling { call, guard, judge, complete } => {
                    if guard.is_none() {
                        return Poll::Pending;
                    }
                    let result = ready!(call.poll(cx));
                    let Some(mut guard) = guard.take() else { return Poll::Pending };
                    let verdict = judge.classify(result.as_ref());
                    guard.judge(verdict);
                    let node = || guard.member().node.id.clone();
                    let failed = matches!(verdict, Verdict::Failure(_)).then(node);
                    let result = match result {
                        Ok(response) => Ok(complete.complete(guard, response)),
                        Err(source) => Err(Error::Node { node: node(), source }),
                    };
                    return Poll::Ready(Outcome { result, verdict: Some(verdict), failed });
                }
                StepProj::Failed { error } => {
                    let Some(error) = error.take() else { return Poll::Pending };
                    return Poll::Ready(Outcome { result: Err(error), verdict: None, failed: None });
                }
            }
        }
    }
}

pin_project! {
    /// The answer of the node that [`Balance`](super::Balance) chose.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, J, C>
    where
        S: Service<Req>,
    {
        #[pin]
        attempt: Attempt<S, Req, J, C>,
    }
}

impl<S: Service<Req>, Req, J, C> ResponseFuture<S, Req, J, C> {
    pub(super) fn new(attempt: Attempt<S, Req, J, C>) -> Self {
        Self { attempt }
    }
}

impl<S: Service<Req>, Req, J, C> fmt::Debug for ResponseFuture<S, Req, J, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<S, Req, J, C> Future for ResponseFuture<S, Req, J, C>
where
    S: Service<Req>,
    J: Classify<S::Response, S::Error>,
    C: Complete<S::Response>,
{
    type Output = Result<C::Response, Error<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().attempt.poll_outcome(cx).map(|outcome| outcome.result)
    }
}
