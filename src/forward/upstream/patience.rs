use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Response;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

use super::progress::Progress;
use super::{UpstreamBody, UpstreamError, UpstreamErrorKind};

pin_project! {
    /// An answer that must begin before the server was silent for too long.
    pub(super) struct Patience<F> {
        #[pin]
        answer: F,
        #[pin]
        silence: Option<Sleep>,
        limit: Option<Duration>,
        frames: u64,
        progress: Arc<Progress>,
    }
}

impl<F> Patience<F> {
    pub(super) fn new(answer: F, limit: Option<Duration>, progress: Arc<Progress>) -> Self {
        Self { answer, silence: None, limit, frames: 0, progress }
    }
}

impl<F> Future for Patience<F>
where
    F: Future<Output = Result<Response<UpstreamBody>, UpstreamError>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(answer) = this.answer.poll(cx) {
            // The transports tell a failed request body in several ways, some of which look like the server's fault.
            let whose = |error: UpstreamError| {
                if this.progress.failed() { error.with_kind(UpstreamErrorKind::Request) } else { error }
            };
            return Poll::Ready(answer.map_err(whose));
        }
        let Some(limit) = *this.limit else { return Poll::Pending };
        loop {
            if let Some(silence) = this.silence.as_mut().as_pin_mut() {
                ready!(silence.poll(cx));
                let frames = this.progress.frames();
                if frames == *this.frames {
                    return Poll::Ready(Err(too_long(this.progress)));
                }
                // A long upload is no silence.
                *this.frames = frames;
            }
            this.silence.set(Some(sleep(limit)));
        }
    }
}

fn too_long(progress: &Progress) -> UpstreamError {
    if progress.waits_for_client() {
        UpstreamError::new(UpstreamErrorKind::Request, "the client stopped sending")
    } else {
        UpstreamError::new(UpstreamErrorKind::Timeout, "the server was silent for too long")
    }
}
