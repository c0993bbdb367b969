//! How often hashes were seen lately.

use super::fold::{double, first_len, fold, index};

/// Estimates how often each hash was seen lately, in 4 bytes for each entry of the cache: a count-min sketch of 4-bit
/// counters which lie in one cache line for each hash, halved when ten times as many were seen as there are entries.
///
/// An estimate is at most 15, and rather too high than too low. Halving is done block by block, when a block is next
/// looked at, so that nothing takes longer than O(1).
///
/// Sources: Einziger, Friedman, Manes, "`TinyLFU`: A Highly Efficient Cache Admission Policy", 2017; the layout is
/// Caffeine's.
///
/// ```
/// use buttress::cache::evict::Sketch;
///
/// let mut sketch = Sketch::new(1000);
/// (0..3).for_each(|_| sketch.add(0x5eed, 1));
/// assert_eq!((sketch.estimate(0x5eed), sketch.estimate(0xbeef)), (3, 0));
/// ```
#[derive(Clone, Debug)]
pub struct Sketch {
    /// Words 2i and 2i + 1 are row i. The highest counter of the last word holds the block's epoch.
    blocks: Vec<[u64; WORDS]>,
    /// How often all counters were halved, modulo 16.
    epoch: u64,
    /// What was added since, half of what was added before that, and so on.
    additions: u64,
    /// The additions after which counters are halved.
    period: u64,
}

const WORDS: usize = 8;
const ROWS: u32 = 4;
/// Entries for which a block has counters: 8 each.
const ENTRIES: usize = 16;
const MAX: u64 = 15;
/// Caffeine's.
const SAMPLES: u64 = 10;

impl Sketch {
    /// A sketch that will grow to at most about `capacity` entries in steps of two: its first size is chosen so.
    pub fn new(capacity: u64) -> Self {
        let blocks = vec![[0; WORDS]; first_len(capacity.div_ceil(ENTRIES as u64))];
        let mut sketch = Self { blocks, epoch: 0, additions: 0, period: 0 };
        sketch.grow(0);
        sketch
    }

    /// Counts well for this many entries from now on.
    #[inline]
    pub fn grow(&mut self, entries: usize) {
        while entries > self.blocks.len() * ENTRIES {
            double(&mut self.blocks);
        }
        self.period = (entries as u64).saturating_mul(SAMPLES).max(self.period).max(64);
    }

    /// How often a hash was seen: 0 to 15.
    #[inline]
    pub fn estimate(&self, hash: u64) -> u8 {
        self.estimate_folded(fold(hash))
    }

    /// A hash was seen `times`.
    #[inline]
    pub fn add(&mut self, hash: u64, times: u8) {
        self.add_folded(fold(hash), times);
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "at most 15")]
    pub(super) fn estimate_folded(&self, hash: u32) -> u8 {
        let block = &self.blocks[index(hash, self.blocks.len())];
        (smallest(block, spread(hash)) >> self.behind(block).min(4)) as u8
    }

    #[inline]
    pub(super) fn add_folded(&mut self, hash: u32, times: u8) {
        let at = index(hash, self.blocks.len());
        let behind = self.behind(&self.blocks[at]);
        let block = &mut self.blocks[at];
        if behind > 0 {
            age(block, behind.min(4), self.epoch);
        }
        let spread = spread(hash);
        let old = smallest(block, spread);
        let new = (old + u64::from(times)).min(MAX);
        for row in 0..ROWS {
            let (word, shift) = place(spread, row);
            if (block[word] >> shift) & MAX < new {
                block[word] = block[word] & !(MAX << shift) | new << shift;
            }
        }
        self.additions += new - old;
        if self.additions >= self.period {
            self.additions /= 2;
            self.epoch = (self.epoch + 1) & MAX;
        }
    }

    /// How many halvings a block has missed. Sixteen and more are not told from fewer, but a block is looked at many
    /// times between two of them.
    #[inline]
    fn behind(&self, block: &[u64; WORDS]) -> u64 {
        self.epoch.wrapping_sub(block[WORDS - 1] >> 60) & MAX
    }
}

#[inline]
fn spread(hash: u32) -> u64 {
    (u64::from(hash) ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The word of a block, and the shift in it, where a row counts a hash.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "8 bits are wanted")]
fn place(spread: u64, row: u32) -> (usize, u64) {
    let bits = spread >> (32 + 8 * row);
    let word = (2 * u64::from(row) + (bits & 1)) as usize;
    let counter = (bits >> 1) & 15;
    // The highest counter of the last word is the epoch.
    (word, 4 * counter.min(15 - (word / (WORDS - 1)) as u64))
}

#[inline]
fn smallest(block: &[u64; WORDS], spread: u64) -> u64 {
    (0..ROWS).fold(MAX, |least, row| {
        let (word, shift) = place(spread, row);
        least.min((block[word] >> shift) & MAX)
    })
}

/// Halves each counter of a block `times`.
#[inline]
fn age(block: &mut [u64; WORDS], times: u64, epoch: u64) {
    let kept = (MAX >> times) * 0x1111_1111_1111_1111;
    for word in block.iter_mut() {
        *word = (*word >> times) & kept;
    }
    let last = &mut block[WORDS - 1];
    *last = *last & (u64::MAX >> 4) | epoch << 60;
}
