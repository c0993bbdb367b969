//! What hits leave behind.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::Slot;

/// A byte for each slot: in its low `BITS` bits the hits, which threads count at the same time; above them a tag that
/// belongs to the policy.
///
/// A count stops at its largest value, and two hits at the same moment may count as one.
///
/// ```
/// use buttress::cache::evict::Marks;
///
/// let mut marks = Marks::<2>::new();
/// marks.set(7, 0, 0);
/// (0..5).for_each(|_| marks.touch(7)); // needs no `&mut`
/// assert_eq!(marks.hits(7), 3);
/// ```
#[derive(Debug, Default)]
pub struct Marks<const BITS: u32>(Vec<AtomicU8>);

impl<const BITS: u32> Marks<BITS> {
    const MAX: u8 = u8::MAX >> (8 - BITS);

    /// No marks.
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// Counts a hit. Nothing, for a slot that was never set.
    #[inline]
    pub fn touch(&self, slot: Slot) {
        let Some(mark) = self.0.get(slot as usize) else { return };
        let old = mark.load(Relaxed);
        // No read-modify-write, which is dear: all who write at this time write the same tag and a count of their own.
        if old & Self::MAX < Self::MAX {
            mark.store(old + 1, Relaxed);
        }
    }

    /// The hits of a slot.
    #[inline]
    pub fn hits(&self, slot: Slot) -> u8 {
        self.0.get(slot as usize).map_or(0, |mark| mark.load(Relaxed) & Self::MAX)
    }

    /// The tag of a slot.
    #[inline]
    pub fn tag(&self, slot: Slot) -> u8 {
        self.0.get(slot as usize).map_or(0, |mark| mark.load(Relaxed).checked_shr(BITS).unwrap_or(0))
    }

    /// Sets the tag and the hits of a slot. What does not fit in the bits of a tag is lost; hits stop at their largest value.
    #[inline]
    pub fn set(&mut self, slot: Slot, tag: u8, hits: u8) {
        let slot = slot as usize;
        if slot >= self.0.len() {
            self.grow(slot);
        }
        *self.0[slot].get_mut() = tag.checked_shl(BITS).unwrap_or(0) | hits.min(Self::MAX);
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, slot: usize) {
        self.0.resize_with(slot + 1, AtomicU8::default);
    }
}
