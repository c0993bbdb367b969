//! The bodies of answers.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};

use super::{
    fill::{self, FillError},
    policy::Stored,
    store::{self, Object},
};

/// The body of an answer: from the store, from an answer that is on its way, or straight from the origin.
///
/// Bytes are shared, never copied.
pub struct Body {
    kind: Kind,
}

/// What is known of an answer that may be shared when its head is there.
#[derive(Clone, Debug)]
pub(super) enum Head {
    /// It is being fetched: its body comes.
    Growing(Arc<Growing>),
    /// It was stored before, and the origin says that it is still good.
    Good(Arc<Object>),
    /// The origin failed, but there is this.
    Failed(Arc<Object>, super::policy::Failure),
}

#[derive(Debug)]
pub(super) struct Growing {
    pub(super) stored: Stored,
    /// The length that the origin declared.
    pub(super) length: Option<u64>,
}

enum Kind {
    Empty,
    Stored(store::Reader),
    Filling { reader: fill::Reader<Head>, left: Option<u64> },
    Passing(UnsyncBoxBody<Bytes, BodyError>),
    Chain(VecDeque<Body>),
}

/// Why a body ended before its end.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The origin's body ended with an error.
    #[error("the origin's answer broke off")]
    Origin(#[source] Arc<dyn Error + Send + Sync>),
    /// It was fetched for several clients, and came to nothing.
    #[error(transparent)]
    Fill(#[from] FillError),
    /// What is stored cannot be read.
    #[error("what is stored cannot be read")]
    Store(#[source] Arc<std::io::Error>),
}

impl Body {
    pub(super) const fn empty() -> Self {
        Self { kind: Kind::Empty }
    }

    pub(super) const fn stored(reader: store::Reader) -> Self {
        Self { kind: Kind::Stored(reader) }
    }

    pub(super) const fn filling(reader: fill::Reader<Head>, length: Option<u64>) -> Self {
        Self { kind: Kind::Filling { reader, left: length } }
    }

    /// One body after another. Trailers are left out.
    pub(super) fn chain(bodies: impl IntoIterator<Item = Self>) -> Self {
        Self { kind: Kind::Chain(bodies.into_iter().collect()) }
    }

    /// A body that the cache has no part in.
    pub(super) fn passing<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        let body = body.map_err(|error| BodyError::Origin(Arc::from(error.into())));
        Self { kind: Kind::Passing(body.boxed_unsync()) }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.kind {
            Kind::Empty => None,
            Kind::Passing(body) => return Pin::new(body).poll_frame(cx),
            Kind::Stored(reader) => match ready!(reader.poll_next(cx)) {
                Some(Ok(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Err(error)) => Some(Err(BodyError::Store(Arc::new(error)))),
                None => None,
            },
            Kind::Chain(bodies) => {
                while let Some(first) = bodies.front_mut() {
                    match ready!(Pin::new(first).poll_frame(cx)) {
                        Some(Ok(frame)) if frame.is_data() => return Poll::Ready(Some(Ok(frame))),
                        Some(Err(error)) => {
                            bodies.clear();
                            return Poll::Ready(Some(Err(error)));
                        }
                        _ => _ = bodies.pop_front(),
                    }
                }
                None
            }
            Kind::Filling { reader, left } => match ready!(reader.poll_read(cx)) {
                Ok(Ok(bytes)) => {
                    if let Some(left) = left {
                        *left = left.saturating_sub(bytes.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                // What was promised, and may stand before other bytes in a chain.
                Ok(Err(_)) if left.is_some_and(|left| left > 0) => Some(Err(FillError::Incomplete.into())),
                Ok(Err(trailers)) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
                Err(error) => Some(Err(error.into())),
            },
        };
        self.kind = Kind::Empty;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Stored(reader) => reader.left() == 0,
            // Even after the last byte the end may be an error.
            Kind::Filling { .. } => false,
            Kind::Passing(body) => body.is_end_stream(),
            Kind::Chain(bodies) => bodies.iter().all(Self::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Stored(reader) => SizeHint::with_exact(reader.left()),
            Kind::Filling { left: Some(left), .. } => SizeHint::with_exact(*left),
            Kind::Filling { left: None, .. } => SizeHint::default(),
            Kind::Passing(body) => body.size_hint(),
            Kind::Chain(bodies) => {
                let lengths: Option<Vec<_>> = bodies.iter().map(|body| body.size_hint().exact()).collect();
                let sum = lengths.and_then(|it| it.into_iter().try_fold(0, u64::checked_add));
                sum.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Empty => "empty",
            Kind::Stored(_) => "stored",
            Kind::Filling { .. } => "filling",
            Kind::Passing(_) => "passing",
            Kind::Chain(_) => "chain",
        };
        f.debug_struct("Body").field("kind", &kind).finish_non_exhaustive()
    }
}
