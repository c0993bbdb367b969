//! What left lately.

use super::fold::{double, first_len, fold, index};

/// Remembers the hashes of entries that left, in 2 bytes each: sets of 16 fingerprints, each set a queue of its own.
///
/// It forgets the oldest to make room, and knows a stranger by mistake once in 4,000 times. It is made for a few hundred
/// entries and doubles its size, in time and memory of the order of its size, when told that there are more.
///
/// ```
/// use buttress::cache::evict::Ghost;
///
/// let mut ghost = Ghost::new(1000);
/// ghost.put(0x5eed);
/// assert!(ghost.take(0x5eed), "it left lately");
/// assert!(!ghost.take(0x5eed), "and is told once");
/// ```
#[derive(Clone, Debug)]
pub struct Ghost {
    sets: Vec<[u16; SET]>,
}

const SET: usize = 16;

impl Ghost {
    /// A memory that will grow to at most about `capacity` hashes in steps of two: its first size is chosen so.
    pub fn new(capacity: u64) -> Self {
        Self { sets: vec![[0; SET]; first_len(capacity.div_ceil(SET as u64))] }
    }

    /// Has room for the hashes of this many entries from now on.
    #[inline]
    pub fn grow(&mut self, entries: usize) {
        while entries > self.sets.len() * SET {
            double(&mut self.sets);
        }
    }

    /// Remembers a hash.
    #[inline]
    pub fn put(&mut self, hash: u64) {
        self.put_folded(fold(hash));
    }

    /// Forgets a hash, and says whether it was known.
    #[inline]
    pub fn take(&mut self, hash: u64) -> bool {
        self.take_folded(fold(hash))
    }

    #[inline]
    pub(super) fn put_folded(&mut self, hash: u32) {
        let (set, print) = self.place(hash);
        let set = &mut self.sets[set];
        set.copy_within(..SET - 1, 1);
        set[0] = print;
    }

    #[inline]
    pub(super) fn take_folded(&mut self, hash: u32) -> bool {
        let (set, print) = self.place(hash);
        let set = &mut self.sets[set];
        let Some(at) = set.iter().position(|&known| known == print) else { return false };
        set.copy_within(at + 1.., at);
        set[SET - 1] = 0;
        true
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "16 bits are wanted")]
    fn place(&self, hash: u32) -> (usize, u16) {
        // The set comes from the high bits, the fingerprint from a mix of all. 0 marks an empty place.
        let print = (hash.wrapping_mul(0x9e37_79b1) >> 15) as u16;
        (index(hash, self.sets.len()), print.max(1))
    }
}
