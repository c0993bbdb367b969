//! When which node is checked: spread out, so that checks do not come in bursts.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use crate::{cluster::NodeId, rng::Rng};

/// How many slots an interval is divided into to see where it is crowded.
const SLOTS: u32 = 200;

/// The checks that are planned.
///
/// A thousand random times are not spread evenly: of the slots that hold 20 on average, some hold 40. So two times are
/// drawn, and the check goes where there are fewer: the fullest slot then holds hardly more than the others, with all the
/// randomness kept. Source: Azar, Broder, Karlin, Upfal, "Balanced Allocations", 1994. O(log n) for each check.
#[derive(Debug)]
pub(super) struct Agenda {
    origin: Instant,
    slot: Duration,
    planned: BTreeSet<(Instant, NodeId)>,
    /// How many checks each slot holds, where it holds any.
    crowd: HashMap<u128, u32>,
    rng: Rng,
}

impl Agenda {
    pub(super) fn new(origin: Instant, interval: Duration, rng: Rng) -> Self {
        let slot = (interval / SLOTS).max(Duration::from_nanos(1));
        Self { origin, slot, planned: BTreeSet::new(), crowd: HashMap::new(), rng }
    }

    /// Plans a check at a random time from `earliest` to `latest`, and says when.
    pub(super) fn plan(&mut self, id: &NodeId, earliest: Instant, latest: Instant) -> Instant {
        let [a, b] = [(); 2].map(|()| self.draw(earliest, latest));
        let at = if self.crowd_at(b) < self.crowd_at(a) { b } else { a };
        self.insert(id, at);
        at
    }

    /// A random time from `earliest` to `latest`.
    pub(super) fn draw(&mut self, earliest: Instant, latest: Instant) -> Instant {
        earliest + latest.saturating_duration_since(earliest).mul_f64(self.rng.unit())
    }

    /// Plans a check at this time.
    pub(super) fn insert(&mut self, id: &NodeId, at: Instant) {
        if self.planned.insert((at, id.clone())) {
            *self.crowd.entry(self.slot_of(at)).or_default() += 1;
        }
    }

    /// Takes back a check that was planned at this time.
    pub(super) fn cancel(&mut self, id: &NodeId, at: Instant) {
        if self.planned.remove(&(at, id.clone())) {
            self.leave(at);
        }
    }

    /// When the next check is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.planned.first().map(|(at, _)| *at)
    }

    /// Takes the next check out that is due at `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<NodeId> {
        if self.next()? > now {
            return None;
        }
        let (at, id) = self.planned.pop_first()?;
        self.leave(at);
        Some(id)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let crowd: u32 = self.crowd.values().sum();
        assert_eq!(crowd as usize, self.planned.len());
        self.planned.len()
    }

    fn leave(&mut self, at: Instant) {
        let slot = self.slot_of(at);
        if let Some(count) = self.crowd.get_mut(&slot) {
            *count -= 1;
            if *count == 0 {
                self.crowd.remove(&slot);
            }
        }
    }

    fn crowd_at(&self, at: Instant) -> u32 {
        self.crowd.get(&self.slot_of(at)).copied().unwrap_or(0)
    }

    fn slot_of(&self, at: Instant) -> u128 {
        at.saturating_duration_since(self.origin).as_nanos() / self.slot.as_nanos()
    }
}
