//! Queues threaded through slots.

use std::mem;

use super::Slot;

/// `N` queues of slots in one array: 8 bytes a slot, and every operation takes O(1).
///
/// What most policies are made of. A slot is in one of the queues or in none, and leaves without being told which one
/// that was. A queue is named by its index, from 0 to `N` - 1. The array grows to the highest slot that was ever pushed.
///
/// ```
/// use buttress::cache::evict::Lists;
///
/// let mut queue = Lists::<1>::new();
/// (0..3).for_each(|slot| queue.push(0, slot));
/// assert_eq!(queue.oldest(0), Some(0));
/// queue.push(0, 0); // once more, as the newest
/// queue.unlink(1);
/// assert_eq!((queue.oldest(0), queue.newest(0)), (Some(2), Some(0)));
/// ```
///
/// # Panics
/// Methods panic if a queue's index is not below `N`.
#[derive(Clone, Debug)]
pub struct Lists<const N: usize> {
    /// Rings: the first `N` are the heads of the queues, then come the slots. What is in no queue is a ring of its own.
    links: Vec<Link>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    newer: u32,
    older: u32,
}

impl<const N: usize> Lists<N> {
    /// Empty queues.
    pub fn new() -> Self {
        Self { links: (0..Self::HEADS).map(Link::alone).collect() }
    }

    /// Puts a slot at the newer end of a queue, out of the one that it is in.
    #[inline]
    pub fn push(&mut self, queue: usize, slot: Slot) {
        self.unlink(slot);
        self.enter(queue, slot);
    }

    /// Puts a slot that is in no queue at the newer end of one.
    #[inline]
    pub(super) fn enter(&mut self, queue: usize, slot: Slot) {
        let head = Self::head(queue);
        let at = slot + Self::HEADS;
        if at as usize >= self.links.len() {
            self.grow(at);
        }
        let older = mem::replace(&mut self.links[queue].older, at);
        self.links[older as usize].newer = at;
        self.links[at as usize] = Link { newer: head, older };
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, at: u32) {
        let len = u32::try_from(self.links.len()).unwrap_or(u32::MAX);
        self.links.extend((len..=at).map(Link::alone));
    }

    /// Takes a slot out of the queue that it is in, if any.
    #[inline]
    pub fn unlink(&mut self, slot: Slot) {
        let at = slot + Self::HEADS;
        let Some(link) = self.links.get_mut(at as usize) else { return };
        let Link { newer, older } = mem::replace(link, Link::alone(at));
        self.links[newer as usize].older = older;
        self.links[older as usize].newer = newer;
    }

    /// The slot that was pushed last of those in a queue.
    #[inline]
    pub fn newest(&self, queue: usize) -> Option<Slot> {
        self.links[Self::head(queue) as usize].older.checked_sub(Self::HEADS)
    }

    /// The slot that was pushed first of those in a queue.
    #[inline]
    pub fn oldest(&self, queue: usize) -> Option<Slot> {
        self.links[Self::head(queue) as usize].newer.checked_sub(Self::HEADS)
    }

    /// The slot that was pushed after this one, in the same queue. `None` if there is none, or if it is in no queue.
    #[inline]
    pub fn newer(&self, slot: Slot) -> Option<Slot> {
        let at = slot + Self::HEADS;
        let newer = self.links.get(at as usize)?.newer;
        (newer != at).then(|| newer.checked_sub(Self::HEADS))?
    }

    #[allow(clippy::cast_possible_truncation, reason = "a handful of queues")]
    const HEADS: u32 = N as u32;

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "a handful of queues")]
    fn head(queue: usize) -> u32 {
        assert!(queue < N, "no queue {queue}");
        queue as u32
    }
}

impl<const N: usize> Default for Lists<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl Link {
    fn alone(at: u32) -> Self {
        Self { newer: at, older: at }
    }
}
