//! The guard that rides in a response body.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    balance::{Complete, Guard},
    cluster::LoadGuard,
    forward::UpgradeLease,
};

/// A request is over when the body of its response is: read to the end, broken or dropped.
///
/// When the response switches protocols, the request lasts as long as the [`UpgradeLease`] in the response's extensions.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnBody;

impl<B: Body, G: Guard> Complete<Response<B>, G> for OnBody {
    type Response = Response<TrackedBody<B, G>>;

    fn complete(&self, guard: G, response: Response<B>) -> Self::Response {
        let (mut head, body) = response.into_parts();
        let guard = if head.status == StatusCode::SWITCHING_PROTOCOLS {
            head.extensions.insert(UpgradeLease::new(guard));
            None
        } else {
            // A body that has ended already may never be polled.
            (!body.is_end_stream()).then_some(guard)
        };
        Response::from_parts(head, TrackedBody { body, guard })
    }
}

pin_project! {
    /// A response body that counts as in flight until its end.
    pub struct TrackedBody<B, G = LoadGuard> {
        #[pin]
        body: B,
        guard: Option<G>,
    }
}

impl<B, G> TrackedBody<B, G> {
    /// The body itself. The request then counts as over.
    pub fn into_inner(self) -> B {
        self.body
    }
}

impl<B: Body, G: Guard> Body for TrackedBody<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        match &frame {
            // A server that knows the length stops polling when it has it all.
            Some(Ok(_)) => {
                if this.body.is_end_stream() {
                    *this.guard = None;
                }
            }
            None => *this.guard = None,
            Some(Err(_)) => {
                if let Some(mut guard) = this.guard.take() {
                    guard.break_off();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Default, G> Default for TrackedBody<B, G> {
    fn default() -> Self {
        Self { body: B::default(), guard: None }
    }
}

impl<B, G> fmt::Debug for TrackedBody<B, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackedBody").field("in_flight", &self.guard.is_some()).finish_non_exhaustive()
    }
}
