//! What left lately.

use std::hint::black_box;

use super::hash::{double, fingerprint, first_len, index};

/// Remembers the hashes of entries that left, in 2 bytes each: sets of 16 fingerprints, each set a queue of its own.
///
/// It forgets the oldest to make room, and takes a stranger for known once in 4,000 times. It is made for a few hundred
/// entries and doubles its size, in time and memory of the order of its size, when told that there are more. Hashes are
/// [`short`](super::short).
///
/// ```
/// use buttress::cache::evict::{Ghost, short};
///
/// let mut ghost = Ghost::new(1000);
/// ghost.put(short(0x5eed));
/// assert!(ghost.take(short(0x5eed)), "it left lately");
/// assert!(!ghost.take(short(0x5eed)), "and is told once");
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
    pub fn put(&mut self, hash: u32) {
        let at = index(hash, self.sets.len());
        push(&mut self.sets[at], fingerprint(hash));
    }

    /// Has the place of a hash fetched which is asked for soon.
    #[inline]
    pub(super) fn warm(&self, hash: u32) {
        black_box(self.sets[index(hash, self.sets.len())][0]);
    }

    /// Forgets a hash. Whether it was known.
    #[inline]
    pub fn take(&mut self, hash: u32) -> bool {
        let at = index(hash, self.sets.len());
        pull(&mut self.sets[at], fingerprint(hash))
    }
}

/// Puts a fingerprint first in a set; the last one is forgotten.
#[inline]
pub(super) fn push<const N: usize>(set: &mut [u16; N], print: u16) {
    let old = *set;
    set[1..].copy_from_slice(&old[..N - 1]);
    set[0] = print;
}

/// Takes a fingerprint out of a set. Whether it was there.
#[inline]
pub(super) fn pull<const N: usize>(set: &mut [u16; N], print: u16) -> bool {
    // Most are strangers. Without a branch for each place this takes a few vector instructions.
    if set.map(|known| known == print) == [false; N] {
        return false;
    }
    if let Some(at) = set.iter().position(|&known| known == print) {
        set.copy_within(at + 1.., at);
        set[N - 1] = 0;
    }
    true
}
