//! The future of a call that a limiter decides on.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{Error, Overloaded, Permit, limiter::Entry};
use crate::{
    balance::{Classify, Complete},
    cluster::Verdict,
};

/// Boxed, as it is off the usual path.
type Waiting = Pin<Box<dyn Future<Output = Result<Permit, Overloaded>> + Send>>;

pin_project! {
    /// The answer of a service behind a [`Limit`](super::Limit).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, J, C>
    where
        S: Service<Req>,
    {
        #[pin]
        step: Step<S, Req>,
        judge: J,
        complete: C,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<S, Req>
    where
        S: Service<Req>,
    {
        Waiting { waiting: Waiting, call: Option<(S, Req)> },
        // What a permit is for is dropped before it.
        Readying { service: S, request: Option<Req>, permit: Option<Permit> },
        Calling { #[pin] call: S::Future, permit: Option<Permit> },
        Shed { overloaded: Option<Overloaded> },
    }
}

impl<S: Service<Req>, Req, J, C> ResponseFuture<S, Req, J, C> {
    pub(super) fn new(entry: Entry, service: S, request: Req, judge: J, complete: C) -> Self {
        let step = match entry {
            Entry::Admitted(permit) => {
                Step::Readying { service, request: Some(request), permit: Some(permit) }
            }
            Entry::Waiting(waiting) => {
                Step::Waiting { waiting: Box::pin(waiting.permit()), call: Some((service, request)) }
            }
            Entry::Shed(overloaded) => Step::Shed { overloaded: Some(overloaded) },
        };
        Self { step, judge, complete }
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
    C: Complete<S::Response, Permit>,
{
    type Output = Result<C::Response, Error<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.step.as_mut().project() {
                StepProj::Waiting { waiting, call } => {
                    let permit = ready!(waiting.as_mut().poll(cx));
                    let Some((service, request)) = call.take() else { return Poll::Pending };
                    this.step.set(match permit {
                        Ok(permit) => {
                            Step::Readying { service, request: Some(request), permit: Some(permit) }
                        }
                        Err(overloaded) => Step::Shed { overloaded: Some(overloaded) },
                    });
                }
                StepProj::Readying { service, request, permit } => {
                    let ready = ready!(service.poll_ready(cx));
                    let (Some(mut permit), Some(request)) = (permit.take(), request.take()) else {
                        return Poll::Pending;
                    };
                    if let Err(error) = ready {
                        // It has seen nothing of the request.
                        permit.judge(Verdict::Neutral);
                        return Poll::Ready(Err(Error::Service(error)));
                    }
                    let call = service.call(request);
                    this.step.set(Step::Calling { call, permit: Some(permit) });
                }
                StepProj::Calling { call, permit } => {
                    if permit.is_none() {
                        return Poll::Pending;
                    }
                    let result = ready!(call.poll(cx));
                    let Some(mut permit) = permit.take() else { return Poll::Pending };
                    permit.judge(this.judge.classify(result.as_ref()));
                    return Poll::Ready(match result {
                        Ok(response) => Ok(this.complete.complete(permit, response)),
                        Err(error) => Err(Error::Service(error)),
                    });
                }
                StepProj::Shed { overloaded } => {
                    let Some(overloaded) = overloaded.take() else { return Poll::Pending };
                    return Poll::Ready(Err(Error::Overloaded(overloaded)));
                }
            }
        }
    }
}
