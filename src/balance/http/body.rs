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
            // Who counted it further inside goes on to do so.
            let inner: Option<UpgradeLease> = head.extensions.remove();
            head.extensions.insert(UpgradeLease::new((guard, inner)));
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Held(#[allow(dead_code, reason = "it is counted")] Arc<()>);

    impl Guard for Held {}

    #[test]
    fn an_upgrade_that_is_counted_twice_lasts_for_both() {
        let counts = [Arc::new(()), Arc::new(())];
        let mut response = Response::new(http_body_util::Empty::<bytes::Bytes>::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let response = OnBody.complete(Held(Arc::clone(&counts[0])), response);
        let mut response = OnBody.complete(Held(Arc::clone(&counts[1])), response);
        let lease: Option<UpgradeLease> = response.extensions_mut().remove();
        drop(response);
        assert_eq!(counts.each_ref().map(Arc::strong_count), [2, 2]);
        drop(lease);
        assert_eq!(counts.each_ref().map(Arc::strong_count), [1, 1]);
    }
}
