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
    use std::{convert::Infallible, io, sync::Arc, task::Waker};

    use bytes::Bytes;
    use http_body_util::{Empty, Full};

    use super::*;
    use crate::cluster::{Cluster, FailureKind, Node, NodeState, Verdict};

    /// One frame, perhaps an error after it, and no word about the end.
    struct Blind {
        frames: u32,
        breaks: bool,
    }

    impl Body for Blind {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            Poll::Ready(match self.frames.checked_sub(1) {
                Some(left) => {
                    self.frames = left;
                    Some(Ok(Frame::data(Bytes::from_static(b"x"))))
                }
                None => self.breaks.then(|| Err(io::Error::other("broken"))),
            })
        }
    }

    /// A response with this body, whose head was judged, and the state of the node that it came from.
    fn respond<B: Body>(body: B, verdict: Verdict) -> (Response<TrackedBody<B>>, Arc<NodeState>) {
        let cluster = Cluster::new([(Node::new("a"), ())]).unwrap();
        let member = Arc::clone(&cluster.get("a").unwrap().member);
        let mut guard = LoadGuard::start(&member).unwrap();
        guard.judge(verdict);
        (OnBody.complete(guard, Response::new(body)), Arc::clone(&member.state))
    }

    fn poll<B: Body + Unpin>(body: &mut TrackedBody<B>) -> Option<Result<Frame<B::Data>, B::Error>> {
        match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => frame,
            Poll::Pending => panic!("it has it all"),
        }
    }

    fn counts(state: &NodeState) -> (u32, u64, u64) {
        (state.in_flight(), state.failures(), state.cancelled())
    }

    #[test]
    fn a_body_that_nobody_polls_to_its_end_is_over_with_its_last_frame() {
        let (mut response, state) = respond(Full::<Bytes>::from("all of it"), Verdict::Success);
        assert_eq!(counts(&state), (1, 0, 0));
        assert!(poll(response.body_mut()).is_some());
        assert_eq!(counts(&state), (0, 0, 0));
        drop(response);
        assert_eq!(counts(&state), (0, 0, 0));
    }

    #[test]
    fn a_body_that_is_empty_is_over_at_once() {
        let (response, state) = respond(Empty::<Bytes>::new(), Verdict::Success);
        assert_eq!(counts(&state), (0, 0, 0));
        drop(response);
        let (_, state): (Response<TrackedBody<Full<Bytes>>>, _) = respond(Full::default(), Verdict::Neutral);
        assert_eq!(counts(&state), (0, 0, 0));
    }

    #[test]
    fn a_body_that_is_dropped_before_its_end_is_no_failure() {
        let (mut response, state) = respond(Blind { frames: 1, breaks: false }, Verdict::Success);
        assert!(poll(response.body_mut()).is_some());
        assert_eq!(counts(&state), (1, 0, 0), "there may be more");
        drop(response);
        assert_eq!(counts(&state), (0, 0, 0));
    }

    #[test]
    fn a_body_that_breaks_is_a_failure_unless_the_answer_was_one_already() {
        for (verdict, failures) in
            [(Verdict::Success, 1), (Verdict::Neutral, 1), (Verdict::Failure(FailureKind::Response), 1)]
        {
            let (mut response, state) = respond(Blind { frames: 1, breaks: true }, verdict);
            assert!(matches!(poll(response.body_mut()), Some(Ok(_))));
            assert!(matches!(poll(response.body_mut()), Some(Err(_))));
            assert_eq!(counts(&state), (0, failures, 0), "{verdict:?}");
        }
    }

    #[test]
    fn a_connection_that_switches_protocols_is_over_with_its_lease() {
        let cluster = Cluster::new([(Node::new("a"), ())]).unwrap();
        let member = Arc::clone(&cluster.get("a").unwrap().member);
        let guard = LoadGuard::start(&member).unwrap();
        let mut response: Response<Empty<Bytes>> = Response::new(Empty::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let mut response: Response<TrackedBody<_>> = OnBody.complete(guard, response);
        let lease = response.extensions_mut().remove::<UpgradeLease>().unwrap();
        let body: Option<Result<_, Infallible>> = poll(response.body_mut());
        assert!(body.is_none());
        drop(response);
        let copy = lease.clone();
        drop(lease);
        assert_eq!(member.state.in_flight(), 1);
        drop(copy);
        assert_eq!(member.state.in_flight(), 0);
    }

    struct Held(#[allow(dead_code, reason = "it is counted")] Arc<()>);

    impl Guard for Held {}

    #[test]
    fn an_upgrade_that_is_counted_twice_lasts_for_both() {
        let counts = [Arc::new(()), Arc::new(())];
        let mut response = Response::new(Empty::<Bytes>::new());
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
