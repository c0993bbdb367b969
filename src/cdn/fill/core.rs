//! What an answer from the origin goes through while several clients read it: pure, but for the wakers that it keeps.

use std::{
    collections::VecDeque,
    mem,
    ops::Range,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;

use super::{Budget, FillError};

/// What may wait for readers once an answer is not kept any more, while none of them waits for it.
const WINDOW: u64 = 256 * 1024;

/// An answer on its way: first asked for, then a head, then a body that grows.
///
/// Readers hold positions of their own. As long as the answer is being *kept* (for a store), all of its body is here, so
/// nobody waits for anybody and more readers may come. A body that outgrows its limit, or the budget of all, goes on without
/// being kept: what all have read is then forgotten, a lone reader slows the origin down, and a reader who falls behind by the
/// limit, or a little once the budget is spent, while another waits for more is cut off.
#[derive(Debug)]
pub(super) struct Core<H> {
    phase: Phase<H>,
    readers: Vec<Slot>,
    free: Vec<usize>,
    present: usize,
    /// Nobody reads any more, and nothing goes on for nobody: whoever comes is too late.
    abandoned: bool,
    /// Whether it goes on when nobody reads it.
    go_on: bool,

    chunks: VecDeque<Chunk>,
    /// The number of the first of them.
    base: usize,
    /// How many readers are past the last one.
    at_tail: usize,
    received: u64,
    declared: Option<u64>,
    keeping: bool,
    kept: u64,
    limit: u64,
    budget: Arc<Budget>,
    writer: Option<Waker>,
}

#[derive(Debug)]
enum Phase<H> {
    Asked,
    Growing(H),
    Ended(H, Option<HeaderMap>),
    Broken(H, FillError),
    Declined(Declined),
}

/// Why there is no head for those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declined {
    /// The answer is for one client only, and so would the next one be.
    Unshared,
    /// There is no answer: the next attempt may have more luck.
    Failed,
}

#[derive(Debug)]
struct Chunk {
    start: u64,
    bytes: Bytes,
    /// How many readers are at it.
    readers: usize,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

#[derive(Debug)]
enum Slot {
    Free,
    Taken(Place),
}

#[derive(Debug)]
struct Place {
    /// The number of the chunk that is read next.
    chunk: usize,
    at: u64,
    end: u64,
    waker: Option<Waker>,
}

/// What a reader gets.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Data(Bytes),
    End(Option<HeaderMap>),
    Broken(FillError),
}

impl<H> Core<H> {
    /// Nothing yet, and no readers.
    pub(super) fn new(go_on: bool, budget: Arc<Budget>) -> Self {
        Self {
            phase: Phase::Asked,
            readers: Vec::new(),
            free: Vec::new(),
            present: 0,
            abandoned: false,
            go_on,
            chunks: VecDeque::new(),
            base: 0,
            at_tail: 0,
            received: 0,
            declared: None,
            keeping: true,
            kept: 0,
            limit: u64::MAX,
            budget,
            writer: None,
        }
    }

    // Readers.

    /// Whether a reader who comes now gets all of the body.
    pub(super) fn is_open(&self) -> bool {
        self.keeping && !self.abandoned && !matches!(self.phase, Phase::Broken(..) | Phase::Declined(_))
    }

    /// A reader who comes now, at the beginning. `None` if it is too late.
    pub(super) fn join(&mut self) -> Option<usize> {
        if !self.is_open() {
            return None;
        }
        let place = Place { chunk: self.base, at: 0, end: u64::MAX, waker: None };
        self.enter(self.base);
        self.present += 1;
        Some(if let Some(id) = self.free.pop() {
            self.readers[id] = Slot::Taken(place);
            id
        } else {
            self.readers.push(Slot::Taken(place));
            self.readers.len() - 1
        })
    }

    /// A reader goes. The writer is woken if that makes room, or was the last one.
    pub(super) fn leave(&mut self, id: usize) -> Option<Waker> {
        let Slot::Taken(place) = mem::replace(self.readers.get_mut(id)?, Slot::Free) else { return None };
        self.free.push(id);
        self.present -= 1;
        self.exit(place.chunk);
        self.trim();
        if self.present == 0 {
            self.abandoned |= !self.go_on || !self.keeping;
        }
        if self.keeping && !self.abandoned { None } else { self.writer.take() }
    }

    /// The head, when it is there.
    pub(super) fn head(&self) -> Option<&H> {
        match &self.phase {
            Phase::Growing(head) | Phase::Ended(head, _) | Phase::Broken(head, _) => Some(head),
            Phase::Asked | Phase::Declined(_) => None,
        }
    }

    pub(super) fn poll_head(&mut self, id: usize, cx: &mut Context<'_>) -> Poll<Result<&H, Declined>> {
        match &self.phase {
            Phase::Asked => {
                if let Some(Slot::Taken(place)) = self.readers.get_mut(id) {
                    keep(&mut place.waker, cx);
                }
                Poll::Pending
            }
            Phase::Declined(why) => Poll::Ready(Err(*why)),
            Phase::Growing(head) | Phase::Ended(head, _) | Phase::Broken(head, _) => Poll::Ready(Ok(head)),
        }
    }

    /// Restricts a reader that has read nothing yet to a range of the body.
    pub(super) fn seek(&mut self, id: usize, range: &Range<u64>) {
        let Some(Slot::Taken(place)) = self.readers.get_mut(id) else { return };
        (place.at, place.end) = (range.start, range.end.max(range.start));
        if self.keeping {
            let before = place.chunk;
            let chunk = self.base + self.chunks.partition_point(|chunk| chunk.end() <= range.start);
            place.chunk = chunk;
            self.exit(before);
            self.enter(chunk);
        }
    }

    /// What a reader reads next, and whether the writer is to be woken for it.
    pub(super) fn poll_read(&mut self, id: usize, cx: &mut Context<'_>) -> (Poll<Piece>, Option<Waker>) {
        loop {
            let Some(Slot::Taken(place)) = self.readers.get_mut(id) else {
                return (Poll::Ready(Piece::End(None)), None);
            };
            if place.at >= place.end {
                return (Poll::Ready(Piece::End(None)), None);
            }
            let Some(index) = place.chunk.checked_sub(self.base) else {
                return (Poll::Ready(Piece::Broken(FillError::TooSlow)), None);
            };
            let Some(chunk) = self.chunks.get(index) else { break };
            let from = place.at.saturating_sub(chunk.start).min(chunk.bytes.len() as u64);
            let to = place.end.saturating_sub(chunk.start).min(chunk.bytes.len() as u64);
            #[allow(clippy::cast_possible_truncation, reason = "both are at most the length of the chunk")]
            let bytes = chunk.bytes.slice(from as usize..to as usize);
            place.at += bytes.len() as u64;
            if place.at >= chunk.end() || bytes.is_empty() {
                place.chunk += 1;
                let done = place.chunk;
                self.exit(done - 1);
                self.enter(done);
                self.trim();
            }
            if !bytes.is_empty() {
                // The window has room again, or someone waits for more.
                let waker = if self.keeping { None } else { self.writer.take() };
                return (Poll::Ready(Piece::Data(bytes)), waker);
            }
        }
        match &self.phase {
            Phase::Ended(_, trailers) => return (Poll::Ready(Piece::End(trailers.clone())), None),
            Phase::Broken(_, error) => return (Poll::Ready(Piece::Broken(error.clone())), None),
            Phase::Declined(_) => return (Poll::Ready(Piece::Broken(FillError::Aborted)), None),
            Phase::Asked | Phase::Growing(_) => {}
        }
        if let Some(Slot::Taken(place)) = self.readers.get_mut(id) {
            keep(&mut place.waker, cx);
        }
        // A writer that waits for room gives way to whoever has read everything.
        let waker = if self.keeping { None } else { self.writer.take() };
        (Poll::Pending, waker)
    }

    // The writer.

    /// Ready when nobody wants the answer any more.
    pub(super) fn poll_abandoned(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.abandoned {
            return Poll::Ready(());
        }
        keep(&mut self.writer, cx);
        Poll::Pending
    }

    /// Ready when there is room for more, or, with false, when nobody wants it.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.abandoned {
            return Poll::Ready(false);
        }
        let room = self.keeping || self.kept < WINDOW || (self.at_tail > 0 && self.make_room());
        keep(&mut self.writer, cx);
        if room { Poll::Ready(true) } else { Poll::Pending }
    }

    /// The head is there. A body longer than `limit` is not kept.
    pub(super) fn answer(&mut self, head: H, declared: Option<u64>, limit: u64, go_on: bool) -> Vec<Waker> {
        if !matches!(self.phase, Phase::Asked) {
            return Vec::new();
        }
        self.phase = Phase::Growing(head);
        (self.declared, self.limit, self.go_on) = (declared, limit, go_on);
        self.keeping = declared.is_none_or(|declared| declared <= limit);
        if self.present == 0 {
            self.abandoned |= !self.go_on || !self.keeping;
        }
        self.wake_all()
    }

    /// There is no head for those who wait.
    pub(super) fn decline(&mut self, why: Declined) -> Vec<Waker> {
        if !matches!(self.phase, Phase::Asked) {
            return Vec::new();
        }
        self.phase = Phase::Declined(why);
        self.wake_all()
    }

    /// More of the body.
    pub(super) fn push(&mut self, bytes: Bytes) -> Result<Vec<Waker>, FillError> {
        if bytes.is_empty() || !matches!(self.phase, Phase::Growing(_)) {
            return Ok(Vec::new());
        }
        let length = bytes.len() as u64;
        let received = self.received.saturating_add(length);
        if let Some(declared) = self.declared.filter(|declared| received > *declared) {
            return Err(FillError::TooLong { declared });
        }
        if self.keeping && (received > self.limit || !self.budget.take(length)) {
            self.stop_keeping();
        }
        if !self.keeping {
            // Room was asked for before: one chunk more than there is budget for does no harm.
            self.budget.force(length);
        }
        self.kept += length;
        self.chunks.push_back(Chunk { start: self.received, bytes, readers: mem::take(&mut self.at_tail) });
        self.received = received;
        self.trim();
        Ok(self.wake_all())
    }

    /// Whether the body may end here.
    pub(super) fn check_end(&self) -> Result<(), FillError> {
        match self.declared {
            Some(declared) if self.received < declared => {
                Err(FillError::Truncated { received: self.received, declared })
            }
            _ => Ok(()),
        }
    }

    /// The body, if it is all there and was kept.
    pub(super) fn whole(&self) -> Option<Vec<Bytes>> {
        let whole = self.keeping && self.check_end().is_ok() && matches!(self.phase, Phase::Growing(_));
        whole.then(|| self.chunks.iter().map(|chunk| chunk.bytes.clone()).collect())
    }

    /// The end of the body, or of it all.
    pub(super) fn end(&mut self, end: Result<Option<HeaderMap>, FillError>) -> Vec<Waker> {
        let end = end.and_then(|trailers| self.check_end().map(|()| trailers));
        self.phase = match (mem::replace(&mut self.phase, Phase::Declined(Declined::Failed)), end) {
            (Phase::Growing(head), Ok(trailers)) => Phase::Ended(head, trailers),
            (Phase::Growing(head), Err(error)) => Phase::Broken(head, error),
            (Phase::Asked, _) => Phase::Declined(Declined::Failed),
            (over, _) => over,
        };
        self.wake_all()
    }

    pub(super) fn is_over(&self) -> bool {
        !matches!(self.phase, Phase::Asked | Phase::Growing(_))
    }

    pub(super) fn is_keeping(&self) -> bool {
        self.keeping
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    // Both.

    fn stop_keeping(&mut self) {
        self.keeping = false;
        self.abandoned |= self.present == 0;
        self.trim();
    }

    /// Forgets what everybody has read, once that is not kept.
    fn trim(&mut self) {
        if self.keeping {
            return;
        }
        while self.chunks.front().is_some_and(|chunk| chunk.readers == 0) {
            self.forget_first();
        }
    }

    /// Cuts off those who are far behind. Whether there is room for more then.
    fn make_room(&mut self) -> bool {
        // When there is no room for all of them together, not even that far.
        let most = if self.budget.is_spent() { WINDOW } else { self.limit.max(WINDOW) };
        while self.kept >= most {
            self.forget_first();
        }
        self.trim();
        true
    }

    fn forget_first(&mut self) {
        let Some(chunk) = self.chunks.pop_front() else { return };
        self.base += 1;
        let length = chunk.bytes.len() as u64;
        self.kept -= length;
        self.budget.give_back(length);
    }

    fn enter(&mut self, chunk: usize) {
        match chunk.checked_sub(self.base).map(|index| self.chunks.get_mut(index)) {
            Some(Some(chunk)) => chunk.readers += 1,
            Some(None) => self.at_tail += 1,
            None => {}
        }
    }

    fn exit(&mut self, chunk: usize) {
        match chunk.checked_sub(self.base).map(|index| self.chunks.get_mut(index)) {
            Some(Some(chunk)) => chunk.readers -= 1,
            Some(None) => self.at_tail -= 1,
            None => {}
        }
    }

    fn wake_all(&mut self) -> Vec<Waker> {
        let taken = self.readers.iter_mut().filter_map(|slot| match slot {
            Slot::Taken(place) => place.waker.take(),
            Slot::Free => None,
        });
        taken.collect()
    }
}

impl<H> Drop for Core<H> {
    fn drop(&mut self) {
        self.budget.give_back(self.kept);
    }
}

fn keep(kept: &mut Option<Waker>, cx: &Context<'_>) {
    match kept {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *kept = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests;
