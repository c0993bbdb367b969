//! A hierarchical timer wheel over slots.
//!
//! Level 0 has a bucket for each of the next 64 ticks, level 1 one for each 64 ticks, and so on: eight levels reach as
//! far as 64 bits of nanoseconds do. A deadline goes to the level of the highest digit (to the base 64) in which its
//! tick differs from the wheel's. So all of a level lies ahead within one turn of it, no bucket holds two turns, and
//! one word a level says which buckets are taken. When the wheel comes to a bucket of a higher level, it deals its
//! timers to the levels below: at most seven moves in the life of a timer, all in constant time.
//!
//! Source: Varghese, Lauck, "Hashed and hierarchical timing wheels", 1987, scheme 7; placement as in tokio's timer.

#![allow(clippy::cast_possible_truncation, reason = "slots and buckets are counted in 32 bits")]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A deadline that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// A tick is 2²⁰ ns, about a millisecond.
pub(crate) const TICK_BITS: u32 = 20;

const LEVEL_BITS: u32 = 6;
const WIDTH: usize = 1 << LEVEL_BITS;

/// A tick has 44 bits: seven whole levels, and two bits for the eighth.
const LEVELS: usize = 8;
const BUCKETS: usize = (LEVELS - 1) * WIDTH + 4;

/// The last deadline whose tick, rounded up, still fits. Later ones never come: 584 years after time zero.
const LAST: u64 = u64::MAX << TICK_BITS;

/// Timers for slots, at most one each, in nanoseconds since some time zero.
///
/// Knows no clock. All steps are O(1). Takes no memory until there is a deadline, then 16 bytes for each slot up to the
/// highest that was given one, and 4 kB.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// Rings: a head for each bucket, then a node for each slot. A node on its own is not scheduled.
    links: Vec<Link>,
    /// May move back while a timer is scheduled: it is then placed again when its bucket comes.
    deadlines: Vec<AtomicU64>,
    /// One bit for each bucket of a level that is not empty.
    taken: [u64; LEVELS],
    /// The tick that the wheel has come to. All buckets lie ahead of it, but one that is being emptied.
    tick: u64,
    /// No bucket begins before this tick.
    due: u64,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
}

impl Wheel {
    pub(crate) const fn new() -> Self {
        Self { links: Vec::new(), deadlines: Vec::new(), taken: [0; LEVELS], tick: 0, due: NEVER }
    }

    /// When a slot's time is up, exclusive: at this instant it is.
    #[inline]
    pub(crate) fn deadline(&self, slot: u32) -> u64 {
        self.deadlines.get(slot as usize).map_or(NEVER, |deadline| deadline.load(Relaxed))
    }

    /// Gives a slot a deadline in place of the one it has.
    pub(crate) fn schedule(&mut self, slot: u32, deadline: u64) {
        self.cancel(slot);
        if deadline > LAST {
            return;
        }
        self.reach(slot);
        *self.deadlines[slot as usize].get_mut() = deadline;
        self.place(slot, deadline);
    }

    /// Puts the deadline of a scheduled slot off, without moving its timer. An earlier one changes nothing.
    pub(crate) fn extend(&self, slot: u32, deadline: u64) {
        if let Some(current) = self.deadlines.get(slot as usize) {
            // Not beyond what can be placed: a timer must not be lost.
            current.fetch_max(deadline.min(LAST), Relaxed);
        }
    }

    /// Takes a slot's deadline away, if it has one.
    #[inline]
    pub(crate) fn cancel(&mut self, slot: u32) {
        let Some(deadline) = self.deadlines.get_mut(slot as usize) else { return };
        if std::mem::replace(deadline.get_mut(), NEVER) != NEVER {
            self.unlink(slot);
        }
    }

    /// Takes out a slot whose time is up, in at most `budget` steps, which are counted down.
    ///
    /// `None` with budget left: there is no more for now. Without: call again, it goes on where it stopped. A slot
    /// comes within a tick after its deadline, never before it; slots of one call come in no particular order.
    #[inline]
    pub(crate) fn expired(&mut self, now: u64, budget: &mut u32) -> Option<u32> {
        let tick = now >> TICK_BITS;
        while *budget > 0 {
            if tick < self.due {
                // Nothing lies between, so the wheel may turn: timers then need fewer moves.
                self.tick = self.tick.max(tick);
                return None;
            }
            let (start, bucket) = self.earliest().unwrap_or((NEVER, 0));
            self.due = start;
            if tick < start {
                continue;
            }
            self.tick = self.tick.max(start);
            *budget -= 1;
            let slot = self.links[bucket].next - BUCKETS as u32;
            self.unlink(slot);
            let deadline = self.deadline(slot);
            if deadline <= now {
                *self.deadlines[slot as usize].get_mut() = NEVER;
                return Some(slot);
            }
            self.place(slot, deadline);
        }
        None
    }

    /// When [`expired`](Self::expired) should be called next: not later than a tick after the next deadline, and
    /// at most eight times for one timer.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.earliest().map(|(start, _)| start << TICK_BITS)
    }

    /// The first bucket that is taken, with its first tick. Of two that begin together the higher level's comes first: what
    /// is in it belongs below.
    fn earliest(&self) -> Option<(u64, usize)> {
        let mut first = None;
        for (level, &taken) in self.taken.iter().enumerate() {
            if taken == 0 {
                continue;
            }
            let index = taken.trailing_zeros();
            let shift = LEVEL_BITS * level as u32;
            let turn = self.tick >> (shift + LEVEL_BITS) << LEVEL_BITS;
            let start = (turn | u64::from(index)) << shift;
            if first.is_none_or(|(earliest, _)| start <= earliest) {
                first = Some((start, level * WIDTH + index as usize));
            }
        }
        first
    }

    /// Puts a slot that is not scheduled into the bucket of its deadline.
    fn place(&mut self, slot: u32, deadline: u64) {
        let tick = deadline.div_ceil(1 << TICK_BITS).max(self.tick);
        let level = (u64::BITS - 1 - ((tick ^ self.tick) | 1).leading_zeros()) / LEVEL_BITS;
        let shift = LEVEL_BITS * level;
        let index = (tick >> shift) as usize % WIDTH;
        self.taken[level as usize] |= 1 << index;
        self.due = self.due.min(tick >> shift << shift);
        self.link(slot, level as usize * WIDTH + index);
    }

    fn link(&mut self, slot: u32, head: usize) {
        let node = node(slot);
        // At the end: what came first goes first.
        let last = self.links[head].prev;
        self.links[node] = Link { prev: last, next: head as u32 };
        self.links[last as usize].next = node as u32;
        self.links[head].prev = node as u32;
    }

    fn unlink(&mut self, slot: u32) {
        let node = node(slot);
        let Link { prev, next } = std::mem::replace(&mut self.links[node], alone(node));
        self.links[prev as usize].next = next;
        self.links[next as usize].prev = prev;
        if prev == next && (prev as usize) < BUCKETS {
            self.taken[prev as usize / WIDTH] &= !(1 << (prev as usize % WIDTH));
        }
    }

    /// Makes room for a slot.
    fn reach(&mut self, slot: u32) {
        if self.links.is_empty() {
            self.links.extend((0..BUCKETS).map(alone));
        }
        for slot in self.deadlines.len()..=slot as usize {
            self.deadlines.push(AtomicU64::new(NEVER));
            self.links.push(alone(BUCKETS + slot));
        }
    }
}

fn node(slot: u32) -> usize {
    BUCKETS + slot as usize
}

fn alone(node: usize) -> Link {
    Link { prev: node as u32, next: node as u32 }
}

#[cfg(test)]
mod tests;
