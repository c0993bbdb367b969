use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::BoxError;

/// How a request body is getting on, for whoever waits for the answer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    frames: AtomicU64,
    waiting: AtomicBool,
    failed: AtomicBool,
}

impl Progress {
    /// How many frames the connection has taken.
    pub(super) fn frames(&self) -> u64 {
        self.frames.load(Relaxed)
    }

    /// Whether the connection would take more, but there is none.
    pub(super) fn waits_for_client(&self) -> bool {
        self.waiting.load(Relaxed)
    }

    /// Whether the body failed.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Relaxed)
    }
}

pin_project! {
    /// A body that keeps its [`Progress`] up to date.
    pub(super) struct Tracked<B> {
        #[pin]
        body: B,
        progress: Arc<Progress>,
    }
}

impl<B> Tracked<B> {
    pub(super) fn new(body: B, progress: Arc<Progress>) -> Self {
        Self { body, progress }
    }
}

impl<B> Body for Tracked<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        this.progress.waiting.store(frame.is_pending(), Relaxed);
        let frame = ready!(frame);
        this.progress.frames.fetch_add(1, Relaxed);
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| {
                this.progress.failed.store(true, Relaxed);
                error.into()
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
