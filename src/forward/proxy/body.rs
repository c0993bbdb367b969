use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of an answer: the server's, passed through, or a short text of the proxy's own.
    #[derive(Debug)]
    pub struct ProxyBody<R> {
        #[pin]
        kind: Kind<R>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = Projected]
    enum Kind<R> {
        Passed { #[pin] body: R },
        Own { text: Option<Bytes> },
    }
}

impl<R> ProxyBody<R> {
    pub(super) fn passed(body: R) -> Self {
        Self { kind: Kind::Passed { body } }
    }

    pub(super) fn own(text: String) -> Self {
        Self { kind: Kind::Own { text: Some(text.into()) } }
    }

    pub(super) fn empty() -> Self {
        Self { kind: Kind::Own { text: None } }
    }
}

/// Empty.
impl<R> Default for ProxyBody<R> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<R: Body<Data = Bytes>> Body for ProxyBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        match self.project().kind.project() {
            Projected::Passed { body } => body.poll_frame(cx),
            Projected::Own { text } => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passed { body } => body.is_end_stream(),
            Kind::Own { text } => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Passed { body } => body.size_hint(),
            Kind::Own { text } => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}
