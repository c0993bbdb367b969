use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::pool::{Line, Pool, quiet};

/// The body of an answer from an [`Upstream`](super::Upstream).
///
/// Reading it is what moves an HTTP/1.1 connection on; when it is read to its end the connection serves the next
/// request, and when it is dropped before, the connection is closed.
pub struct UpstreamBody {
    body: Incoming,
    line: Option<(Line, Arc<Pool>)>,
    broken: Option<hyper::Error>,
}

impl UpstreamBody {
    /// A body whose connection something else drives.
    pub(super) fn shared(body: Incoming) -> Self {
        Self { body, line: None, broken: None }
    }

    pub(super) fn driven(body: Incoming, line: Line, pool: Arc<Pool>) -> Self {
        Self { body, line: Some((line, pool)), broken: None }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let mut body = Pin::new(&mut this.body);
        let Some((line, _)) = &mut this.line else { return body.poll_frame(cx) };
        // The body and its connection wake each other; as both are polled here, that would only cost. What is there
        // already is taken quietly, and only to wait is the caller's waker left with the connection.
        let mut frame = body.as_mut().poll_frame(&mut quiet());
        if frame.is_pending() {
            line.settle();
            frame = body.as_mut().poll_frame(&mut quiet());
        }
        if frame.is_pending() {
            line.drive(cx);
            frame = body.as_mut().poll_frame(&mut quiet());
        }
        match frame {
            Poll::Ready(Some(Err(error))) => {
                this.line = None;
                this.broken = Some(error);
                // Servers drop what they have yet to send when a body fails. A pause lets them send what came before.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(None) => this.release(),
            Poll::Ready(Some(Ok(_))) if this.body.is_end_stream() => this.release(),
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl UpstreamBody {
    fn release(&mut self) {
        if let Some((line, pool)) = self.line.take() {
            pool.put_back(line);
        }
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UpstreamBody").field(&self.body).finish()
    }
}
