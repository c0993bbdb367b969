use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Request;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{Error, Unmatched};

pin_project! {
    /// The future of [`Route`](super::Route).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        step: Step<S, S::Future, B>,
    }
}

pin_project! {
    #[project = Projected]
    enum Step<S, F, B> {
        Waiting { service: S, request: Option<Request<B>> },
        Calling { #[pin] answer: F },
        Failed { error: Unmatched },
    }
}

impl<S: Service<Request<B>>, B> ResponseFuture<S, B> {
    pub(super) fn waiting(service: S, request: Request<B>) -> Self {
        Self { step: Step::Waiting { service, request: Some(request) } }
    }

    pub(super) fn failed(error: Unmatched) -> Self {
        Self { step: Step::Failed { error } }
    }
}

impl<S: Service<Request<B>>, B> Future for ResponseFuture<S, B> {
    type Output = Result<S::Response, Error<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        loop {
            match step.as_mut().project() {
                Projected::Waiting { service, request } => {
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        return Poll::Ready(Err(Error::Service(error)));
                    }
                    let request = request.take().expect("left in place until the service is ready");
                    let answer = service.call(request);
                    step.set(Step::Calling { answer });
                }
                Projected::Calling { answer } => return answer.poll(cx).map_err(Error::Service),
                Projected::Failed { error } => return Poll::Ready(Err(Error::Unmatched(*error))),
            }
        }
    }
}

impl<S: Service<Request<B>>, B> fmt::Debug for ResponseFuture<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
