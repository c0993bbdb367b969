//! Request bodies that can be sent again.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

/// Sends one body several times: hands out one [`ReplayBody`] for each attempt of a retry.
///
/// The first attempt streams the body through, without waiting for its end, and at most `limit` bytes of it are
/// remembered on the way. A later attempt sends what is remembered and goes on with the rest. When an attempt has
/// taken more than `limit` bytes, the body cannot be sent again and [`attempt`](Self::attempt) says so; an attempt
/// that took nothing, as when no connection came about, can always be repeated, whatever the size.
///
/// Only the newest attempt may read. One that is still around when the next begins, in a connection that has yet to
/// notice, ends with [`Superseded`] instead of taking bytes away from its successor. Attempts that begin when the whole
/// body is remembered have it for themselves, and can run side by side.
///
/// Drop this handle once no further attempt is wanted, and nothing more is remembered.
///
/// ```
/// use bytes::Bytes;
/// use buttress::forward::Replay;
/// use http_body_util::{BodyExt, Full};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let replay = Replay::new(Full::new(Bytes::from("hello")), 64 * 1024);
///
/// let first = replay.attempt().ok_or("nothing was sent yet")?;
/// assert_eq!(first.collect().await?.to_bytes(), "hello");
///
/// let second = replay.attempt().ok_or("five bytes are within the limit")?;
/// assert_eq!(second.collect().await?.to_bytes(), "hello");
/// # Ok(())
/// # }
/// ```
pub struct Replay<B> {
    shared: Arc<Mutex<Shared<B>>>,
}

impl<B: Body<Data = Bytes>> Replay<B> {
    /// Makes `body` repeatable, remembering at most `limit` bytes of it.
    pub fn new(body: B, limit: usize) -> Self {
        // Most requests have no body, and need no room for one.
        let ended = body.is_end_stream();
        let shared = Shared {
            rest: (!ended).then(|| Box::pin(body)),
            attempt: 0,
            waker: None,
            record: Some(Record { limit, left: limit, parts: Vec::new(), tail: BytesMut::new() }),
            ended,
            trailers: None,
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Makes `body` repeatable, remembering at most `limit` bytes of it, and begins the first attempt.
    pub fn start(body: B, limit: usize) -> (Self, ReplayBody<B>) {
        let replay = Self::new(body, limit);
        lock(&replay.shared).attempt = 1;
        let shared = Arc::clone(&replay.shared);
        let whole = replay.is_whole();
        let first = ReplayBody { shared, attempt: 1, whole, queue: Vec::new(), trailers: None, done: false };
        (replay, first)
    }
}

impl<B> Replay<B> {
    /// Whether another attempt can send the body from its beginning.
    pub fn can_replay(&self) -> bool {
        lock(&self.shared).can_replay()
    }

    /// Whether the body came to its end and all of it is remembered: attempts from now on do not end each other.
    pub fn is_whole(&self) -> bool {
        let shared = lock(&self.shared);
        shared.record.is_some() && shared.ended
    }

    /// Begins an attempt, and ends the one before if that is still to read from the body. None when too much of the body,
    /// or the body itself, is gone.
    pub fn attempt(&self) -> Option<ReplayBody<B>> {
        let mut shared = lock(&self.shared);
        if !shared.can_replay() {
            return None;
        }
        let queue = shared.record.as_mut()?.parts();
        let trailers = shared.trailers.clone();
        shared.attempt += 1;
        let (attempt, whole) = (shared.attempt, shared.ended);
        let older = shared.waker.take();
        drop(shared);
        // The older attempt may be waiting for the body; nobody else will tell it that it waits in vain.
        if let Some(older) = older {
            older.wake();
        }
        Some(ReplayBody { shared: Arc::clone(&self.shared), attempt, whole, queue, trailers, done: false })
    }
}

impl<B> Drop for Replay<B> {
    fn drop(&mut self) {
        lock(&self.shared).record = None;
    }
}

impl<B> fmt::Debug for Replay<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = lock(&self.shared);
        let remembered = shared.record.as_ref().map(|record| record.limit - record.left);
        f.debug_struct("Replay")
            .field("can_replay", &shared.can_replay())
            .field("attempts", &shared.attempt)
            .field("remembered", &remembered)
            .finish_non_exhaustive()
    }
}

/// The body of one attempt, from [`Replay::attempt`].
pub struct ReplayBody<B> {
    shared: Arc<Mutex<Shared<B>>>,
    attempt: u64,
    /// Whether the body had ended when the attempt began, which then needs nothing but what was remembered.
    whole: bool,
    /// What earlier attempts took, the next part last.
    queue: Vec<Bytes>,
    /// The trailers, when an earlier attempt came to the end.
    trailers: Option<HeaderMap>,
    done: bool,
}

impl<B> Body for ReplayBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        let mut shared = lock(&this.shared);
        if shared.attempt != this.attempt && !this.whole {
            this.done = true;
            return Poll::Ready(Some(Err(Superseded.into())));
        }
        if let Some(part) = this.queue.pop() {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        if let Some(trailers) = this.trailers.take() {
            this.done = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(shared.poll_rest(cx));
        this.done = shared.ended || !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        if self.done {
            return true;
        }
        let shared = lock(&self.shared);
        (shared.attempt == self.attempt || self.whole)
            && self.queue.is_empty()
            && self.trailers.is_none()
            && match &shared.rest {
                Some(rest) => rest.is_end_stream(),
                None => shared.ended,
            }
    }

    fn size_hint(&self) -> SizeHint {
        if self.done {
            return SizeHint::with_exact(0);
        }
        let shared = lock(&self.shared);
        if shared.attempt != self.attempt && !self.whole {
            return SizeHint::default();
        }
        let queued = self.queue.iter().map(|part| part.len() as u64).sum();
        match &shared.rest {
            Some(rest) => plus(&rest.size_hint(), queued),
            None if shared.ended => SizeHint::with_exact(queued),
            None => SizeHint::default(),
        }
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody")
            .field("attempt", &self.attempt)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

/// The error of an attempt that was still reading when the next one began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a newer attempt has taken over the request body")]
pub struct Superseded;

/// The error of a body that was polled after it had failed or panicked.
#[derive(Debug, thiserror::Error)]
#[error("the request body has failed before")]
struct Gone;

struct Shared<B> {
    /// What no attempt has taken yet. None after its end or its failure.
    rest: Option<Pin<Box<B>>>,
    /// The number of the newest attempt.
    attempt: u64,
    /// Who waits for the rest.
    waker: Option<Waker>,
    /// What was taken so far; None once that is too much, or nobody will want it.
    record: Option<Record>,
    /// Whether the body came to its end.
    ended: bool,
    /// The trailers it ended with, as part of the record.
    trailers: Option<HeaderMap>,
}

impl<B> Shared<B> {
    fn can_replay(&self) -> bool {
        self.record.is_some() && (self.rest.is_some() || self.ended)
    }
}

impl<B> Shared<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // Taken out while it runs: a body that panics is not polled again.
        let Some(mut rest) = self.rest.take() else {
            return Poll::Ready(if self.ended { None } else { Some(Err(Gone.into())) });
        };
        let frame = match rest.as_mut().poll_frame(cx) {
            Poll::Pending => {
                self.rest = Some(rest);
                self.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(frame) => frame,
        };
        self.waker = None;
        match frame {
            Some(Ok(frame)) => {
                self.remember(&frame);
                if let Some(trailers) = frame.trailers_ref() {
                    // Nothing may follow the trailers.
                    self.ended = true;
                    self.trailers = self.record.is_some().then(|| trailers.clone());
                } else if rest.is_end_stream() {
                    // Whoever knows the length does not poll for the end.
                    self.ended = true;
                } else {
                    self.rest = Some(rest);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn remember(&mut self, frame: &Frame<Bytes>) {
        let Some(record) = &mut self.record else { return };
        let fits = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => record.push(data),
            (None, Some(trailers)) => record.reserve(size_of_fields(trailers)),
            (None, None) => false,
        };
        if !fits {
            self.record = None;
        }
    }
}

/// The bytes taken so far, copied: a slice of a read buffer would keep the whole buffer alive, and the limit would
/// be a limit no more.
struct Record {
    limit: usize,
    left: usize,
    parts: Vec<Bytes>,
    tail: BytesMut,
}

impl Record {
    fn reserve(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    fn push(&mut self, data: &Bytes) -> bool {
        let fits = self.reserve(data.len());
        if fits {
            self.tail.extend_from_slice(data);
        }
        fits
    }

    /// All parts, the first one last. Frozen, so that attempts share them.
    fn parts(&mut self) -> Vec<Bytes> {
        if !self.tail.is_empty() {
            // A fresh buffer next time; what `split` leaves behind would keep this one from being freed.
            self.parts.push(std::mem::take(&mut self.tail).freeze());
        }
        self.parts.iter().rev().cloned().collect()
    }
}

fn size_of_fields(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

fn plus(hint: &SizeHint, bytes: u64) -> SizeHint {
    let mut sum = SizeHint::new();
    sum.set_lower(hint.lower().saturating_add(bytes));
    if let Some(upper) = hint.upper().and_then(|upper| upper.checked_add(bytes)) {
        sum.set_upper(upper);
    }
    sum
}

fn lock<B>(shared: &Mutex<Shared<B>>) -> MutexGuard<'_, Shared<B>> {
    // A body that panicked was taken out first, so what is left behind is in order.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
