//! One answer from the origin, read by any number of clients while it arrives, and the table of those on their way.

mod core;
mod table;

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;

use self::core::{Core, Piece};
pub(crate) use self::{
    core::Declined,
    table::{Entered, Fills},
};

/// Why a body ended before its end.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FillError {
    /// The origin's body ended with an error.
    #[error("the origin's answer broke off")]
    Origin(#[source] Arc<dyn Error + Send + Sync>),
    /// It was shorter than its `Content-Length`.
    #[error("the origin's answer ended after {received} of {declared} bytes")]
    Truncated {
        /// The bytes that came.
        received: u64,
        /// What `Content-Length` said.
        declared: u64,
    },
    /// It was shorter than the range that it was to be.
    #[error("the origin's answer has not all of the bytes that it announced")]
    Incomplete,
    /// It was longer than its `Content-Length`.
    #[error("the origin's answer is longer than the {declared} bytes that it declared")]
    TooLong {
        /// What `Content-Length` said.
        declared: u64,
    },
    /// Others read an answer that is too large to be kept so much faster that there was no waiting for this client.
    #[error("the client reads too slowly to share an answer with others")]
    TooSlow,
    /// Whoever fetched it went away: the runtime was shut down, or the service panicked.
    #[error("the fetch was given up")]
    Aborted,
}

/// How many bytes may be in memory at once for answers on their way.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicU64,
    /// What was taken beyond it.
    debt: AtomicU64,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(bytes), debt: AtomicU64::new(0) })
    }

    fn take(&self, bytes: u64) -> bool {
        self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn force(&self, bytes: u64) {
        if !self.take(bytes) {
            self.debt.fetch_add(bytes, Relaxed);
        }
    }

    /// Whether more was taken than there is.
    fn is_spent(&self) -> bool {
        self.debt.load(Relaxed) > 0
    }

    fn give_back(&self, bytes: u64) {
        let mut paid = 0;
        let pay = |debt: u64| {
            paid = debt.min(bytes);
            (paid > 0).then(|| debt - paid)
        };
        if self.debt.fetch_update(Relaxed, Relaxed, pay).is_err() {
            paid = 0;
        }
        self.left.fetch_add(bytes - paid, Relaxed);
    }
}

/// An answer on its way: see [`Core`].
pub(crate) struct Fill<H> {
    core: Arc<Mutex<Core<H>>>,
}

impl<H> Fill<H> {
    /// One that nobody reads yet. If everybody leaves, it goes on only if `go_on`.
    pub(crate) fn new(go_on: bool, budget: Arc<Budget>) -> (Writer<H>, Self) {
        let fill = Self { core: Arc::new(Mutex::new(Core::new(go_on, budget))) };
        (Writer { fill: fill.clone() }, fill)
    }

    /// A reader, if whoever comes now still gets the whole answer.
    pub(crate) fn join(&self) -> Option<Reader<H>> {
        let id = self.lock().join()?;
        Some(Reader { fill: self.clone(), id })
    }

    /// The bytes that have come.
    pub(crate) fn received(&self) -> u64 {
        self.lock().received()
    }

    /// Whether it can be joined, to what `test` says about its head, if there is one.
    fn is_open(&self, test: impl FnOnce(Option<&H>) -> bool) -> bool {
        let core = self.lock();
        core.is_open() && test(core.head())
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    fn lock(&self) -> MutexGuard<'_, Core<H>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H> Clone for Fill<H> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core) }
    }
}

impl<H> fmt::Debug for Fill<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fill").field("received", &self.received()).finish_non_exhaustive()
    }
}

/// One who waits for an answer, and reads it.
pub(crate) struct Reader<H> {
    fill: Fill<H>,
    id: usize,
}

impl<H> Reader<H> {
    pub(crate) fn fill(&self) -> &Fill<H> {
        &self.fill
    }

    /// Reads these bytes only. For a reader that has read nothing yet.
    pub(crate) fn seek(&self, range: &Range<u64>) {
        self.fill.lock().seek(self.id, range);
    }

    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Piece> {
        let (poll, waker) = self.fill.lock().poll_read(self.id, cx);
        wake(waker);
        poll
    }

    /// The next piece of the body; the trailers at its end.
    #[allow(clippy::type_complexity, reason = "what a body gives")]
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Result<Bytes, Option<HeaderMap>>, FillError>> {
        self.poll_piece(cx).map(|piece| match piece {
            Piece::Data(bytes) => Ok(Ok(bytes)),
            Piece::End(trailers) => Ok(Err(trailers)),
            Piece::Broken(error) => Err(error),
        })
    }
}

impl<H: Clone> Reader<H> {
    /// The head, when it has come.
    pub(crate) async fn head(&self) -> Result<H, Declined> {
        poll_fn(|cx| self.fill.lock().poll_head(self.id, cx).map(Result::<&H, Declined>::cloned)).await
    }
}

impl<H> Drop for Reader<H> {
    fn drop(&mut self) {
        let waker = self.fill.lock().leave(self.id);
        wake(waker);
    }
}

impl<H> fmt::Debug for Reader<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("fill", &self.fill).finish_non_exhaustive()
    }
}

/// The one who fetches an answer. If it goes without a word, the answer has broken off.
pub(crate) struct Writer<H> {
    fill: Fill<H>,
}

impl<H> Writer<H> {
    pub(crate) fn fill(&self) -> &Fill<H> {
        &self.fill
    }

    /// Gives the head to all who wait. Bodies longer than `limit` are not kept; `go_on` says whether the fetch goes on when
    /// nobody reads.
    pub(crate) fn answer(&self, head: H, declared: Option<u64>, limit: u64, go_on: bool) {
        let wakers = self.fill.lock().answer(head, declared, limit, go_on);
        wake(wakers);
    }

    /// Tells all who wait that there is nothing for them.
    pub(crate) fn decline(&self, why: Declined) {
        let wakers = self.fill.lock().decline(why);
        wake(wakers);
    }

    /// Ready when nobody wants the answer any more.
    pub(crate) fn poll_abandoned(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.fill.lock().poll_abandoned(cx)
    }

    /// Ready when there is room for more of the body, or, with false, when nobody wants it any more.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<bool> {
        self.fill.lock().poll_room(cx)
    }

    /// Adds to the body.
    pub(crate) fn push(&self, bytes: Bytes) -> Result<(), FillError> {
        let wakers = self.fill.lock().push(bytes)?;
        wake(wakers);
        Ok(())
    }

    /// The body, if it was kept, and has its declared length.
    pub(crate) fn whole(&self) -> Option<Vec<Bytes>> {
        self.fill.lock().whole()
    }

    /// Whether it is all kept so far.
    pub(crate) fn is_keeping(&self) -> bool {
        self.fill.lock().is_keeping()
    }

    /// Ends the body. Whoever reads is told.
    pub(crate) fn end(&self, end: Result<Option<HeaderMap>, FillError>) {
        let wakers = self.fill.lock().end(end);
        wake(wakers);
    }
}

impl<H> Drop for Writer<H> {
    fn drop(&mut self) {
        let mut core = self.fill.lock();
        let wakers = if core.is_over() { Vec::new() } else { core.end(Err(FillError::Aborted)) };
        drop(core);
        wake(wakers);
    }
}

impl<H> fmt::Debug for Writer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("fill", &self.fill).finish_non_exhaustive()
    }
}

/// Never under a lock.
fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}
