//! The future of a balanced call.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{Classify, Complete, Error, RetryAfter, acquire::Acquired};
use crate::cluster::{FailureKind, LoadGuard, Member, NodeId, Verdict};

/// Finds a service that is ready. Boxed, as it is off the usual path.
pub(super) type Acquire<S, E> = Pin<Box<dyn Future<Output = Result<Acquired<S>, Error<E>>> + Send>>;

/// What came of a request at one node.
pub(super) struct Outcome<T, E> {
    pub(super) result: Result<T, Error<E>>,
    /// Unless the node did its work, or none had the request.
    pub(super) failure: Option<Failure>,
}

/// How a node failed a request that it had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) retry_after: Option<RetryAfter>,
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
        Over { error: Option<Error<S::Error>> },
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
        Self { step: Step::Over { error: Some(error) } }
    }

    /// One that stays pending, as all do after their outcome.
    pub(super) fn over() -> Self {
        Self { step: Step::Over { error: None } }
    }

    /// Whether no node could take it.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.step, Step::Over { error: Some(_) })
    }

    /// Whether it waits for a node to take it.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.step, Step::Acquiring { .. })
    }

    /// The node that has the request at the moment.
    pub(super) fn node(&self) -> Option<&Member> {
        match &self.step {
            Step::Calling { guard, .. } => guard.as_ref().map(LoadGuard::member),
            _ => None,
        }
    }

    /// Gives the request up, because the node that has it takes too long. Says which one.
    pub(super) fn time_out(mut self: Pin<&mut Self>) -> Option<NodeId> {
        let StepProj::Calling { guard, .. } = self.as_mut().project().step.project() else { return None };
        let mut guard = guard.take()?;
        guard.judge(Verdict::Failure(FailureKind::Timeout));
        let node = guard.member().node.id.clone();
        // The call first, then the guard: it counts until nothing of it is left.
        self.set(Self::over());
        Some(node)
    }
}

impl<S, Req, J, C> Attempt<S, Req, J, C>
where
    S: Service<Req>,
    J: Classify<S::Response, S::Error>,
    C: Complete<S::Response>,
{
    /// As `Future::poll`, but stays pending after it was ready. Nodes that fail, or fail to become ready, are added to
    /// `tried`.
    pub(super) fn poll_outcome(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        tried: &mut Vec<NodeId>,
    ) -> Poll<Outcome<C::Response, S::Error>> {
        let mut step = self.project().step;
        loop {
            match step.as_mut().project() {
                StepProj::Acquiring { acquire, rest } => {
                    let acquired = ready!(acquire.as_mut().poll(cx));
                    let Some((request, judge, complete)) = rest.take() else { return Poll::Pending };
                    step.set(match acquired {
                        Ok(Acquired { mut service, guard, failed }) => {
                            tried.extend(failed);
                            let call = service.call(request);
                            Step::Calling { call, guard: Some(guard), judge, complete }
                        }
                        Err(error) => Step::Over { error: Some(error) },
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
                    let failure = match verdict {
                        Verdict::Failure(kind) => {
                            tried.push(node());
                            let is_refusal = matches!(kind, FailureKind::Overloaded | FailureKind::Throttled);
                            let retry_after =
                                if is_refusal { judge.retry_after(result.as_ref()) } else { None };
                            Some(Failure { kind, retry_after })
                        }
                        _ => None,
                    };
                    let result = match result {
                        Ok(response) => Ok(complete.complete(guard, response)),
                        Err(source) => Err(Error::Node { node: node(), source }),
                    };
                    return Poll::Ready(Outcome { result, failure });
                }
                StepProj::Over { error } => {
                    let Some(error) = error.take() else { return Poll::Pending };
                    return Poll::Ready(Outcome { result: Err(error), failure: None });
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
        self.project().attempt.poll_outcome(cx, &mut Vec::new()).map(|outcome| outcome.result)
    }
}
