//! The deadlines of a shard's entries.

use super::wheel::{NEVER, TICK_BITS, Wheel};

/// How long an entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// When it ends, unless a use puts that off.
    pub(crate) deadline: u64,
    /// What no use puts it off beyond.
    pub(crate) limit: u64,
}

impl Life {
    pub(crate) const ENDLESS: Self = Self { deadline: NEVER, limit: NEVER };
}

/// The deadlines of a shard's entries, by slot. Takes memory from the first entry that has one: 16 bytes a slot, and 8
/// more if entries have both an idle time and a limit.
#[derive(Debug)]
pub(crate) struct Timers {
    wheel: Wheel,
    limits: Vec<u64>,
}

impl Timers {
    pub(crate) const fn new() -> Self {
        Self { wheel: Wheel::new(), limits: Vec::new() }
    }

    /// When the time of a slot is over: from this instant on.
    #[inline]
    pub(crate) fn deadline(&self, slot: u32) -> u64 {
        self.wheel.deadline(slot)
    }

    /// Sets how long the entry in a slot lives, whatever was set before.
    #[inline]
    pub(crate) fn set(&mut self, slot: u32, life: Life) {
        if life.deadline == NEVER { self.clear(slot) } else { self.start(slot, life) }
    }

    fn start(&mut self, slot: u32, life: Life) {
        self.wheel.schedule(slot, life.deadline);
        let index = slot as usize;
        if life.limit != NEVER && index >= self.limits.len() {
            self.limits.resize(index + 1, NEVER);
        }
        if let Some(limit) = self.limits.get_mut(index) {
            *limit = life.limit;
        }
    }

    /// The entry in a slot has gone, or lives without end.
    #[inline]
    pub(crate) fn clear(&mut self, slot: u32) {
        self.wheel.cancel(slot);
    }

    /// Notes a use of an entry whose time is not over: it lives on for the idle time, but not beyond its limit.
    ///
    /// Writes only if that makes more than a tick of difference, or 1/64 of the idle time: an entry in heavy use is otherwise
    /// written to by all cores.
    #[inline]
    pub(crate) fn touch(&self, slot: u32, now: u64, idle: u64) {
        let deadline = now.saturating_add(idle).min(self.limits.get(slot as usize).copied().unwrap_or(NEVER));
        let grain = (idle >> 6).min(1 << TICK_BITS);
        if deadline.saturating_sub(self.wheel.deadline(slot)) > grain {
            self.wheel.extend(slot, deadline);
        }
    }

    /// Takes out the timer of a slot whose time is over, in at most `budget` steps of constant time, which are counted
    /// down. `None` with budget left: there is none for now.
    #[inline]
    pub(crate) fn expired(&mut self, now: u64, budget: &mut u32) -> Option<u32> {
        self.wheel.expired(now, budget)
    }

    /// When [`expired`](Self::expired) should be asked next: at most a tick after the first deadline.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.wheel.next_deadline()
    }
}
