//! What each slot weighs.

use super::Slot;

/// The weight of each slot; no memory where all weigh 1.
#[derive(Debug, Default)]
pub(super) struct Weights(Vec<u64>);

impl Weights {
    #[inline]
    pub(super) fn get(&self, slot: Slot) -> u64 {
        self.0.get(slot as usize).copied().unwrap_or(1)
    }

    #[inline]
    pub(super) fn set(&mut self, slot: Slot, weight: u64) {
        if weight == 1 && self.0.is_empty() {
            return;
        }
        let slot = slot as usize;
        if slot >= self.0.len() {
            self.grow(slot);
        }
        self.0[slot] = weight;
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, slot: usize) {
        self.0.resize(slot + 1, 1);
    }
}
