//! How often hashes were seen lately, and which left last.

use std::hint::black_box;

use super::{
    ghost::{pull, push},
    hash::{double, fingerprint, first_len, index},
};

/// Remembers how often hashes were seen lately, and which entries left last, in 5⅓ bytes for each entry. All that it knows of a
/// hash lies in one cache line.
///
/// A count-min sketch of 4-bit counters, four rows of 16 for each 12 entries, beside a [`Ghost`](super::Ghost) for 16. An estimate is
/// at most 15, and rather too high than too low. All counters are halved when ten times as many hashes were seen as there are
/// entries; each line is so when it is next looked at, and nothing takes longer than O(1). Hashes are [`short`](super::short).
///
/// Sources: Einziger, Friedman, Manes, "`TinyLFU`: A Highly Efficient Cache Admission Policy", 2017; the layout in blocks is
/// Caffeine's.
///
/// ```
/// use buttress::cache::evict::{Recall, short};
///
/// let mut recall = Recall::new(1000);
/// (0..3).for_each(|_| recall.see(short(0x5eed), 1));
/// assert_eq!((recall.seen(short(0x5eed)), recall.seen(short(0xbeef))), (3, 0));
/// recall.leave(short(0x5eed));
/// assert!(recall.back(short(0x5eed)), "it left lately");
/// ```
#[derive(Clone, Debug)]
pub struct Recall {
    lines: Vec<Line>,
    /// The most that it was told of.
    entries: usize,
    /// How often all counters were halved, modulo 16.
    epoch: u64,
    /// What was seen since, half of what was seen before that, and so on.
    sightings: u64,
    /// The sightings after which counters are halved.
    period: u64,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line {
    /// A row of 16 counters each. The last counter of all is the line's epoch.
    rows: [u64; ROWS],
    left: [u16; LEFT],
}

/// Those that a line is for.
const ENTRIES: usize = 12;
/// Those that left: two vectors of them.
const LEFT: usize = 16;
const ROWS: usize = 4;
const LAST: usize = ROWS - 1;
const MAX: u64 = 15;
/// Sightings for each entry between two halvings: Caffeine's.
const SAMPLES: u64 = 10;
/// The fewest sightings between two halvings.
const LEAST: u64 = 64;

impl Recall {
    /// A memory that will grow to at most about `capacity` entries in steps of two: its first size is chosen so.
    pub fn new(capacity: u64) -> Self {
        let empty = Line { rows: [0; ROWS], left: [0; LEFT] };
        let lines = vec![empty; first_len(capacity.div_ceil(ENTRIES as u64))];
        Self { lines, entries: 0, epoch: 0, sightings: 0, period: LEAST }
    }

    /// Has room for this many entries from now on.
    #[inline]
    pub fn grow(&mut self, entries: usize) {
        if entries > self.entries {
            self.grow_to(entries);
        }
    }

    #[cold]
    #[inline(never)]
    fn grow_to(&mut self, entries: usize) {
        self.entries = entries;
        while entries > self.lines.len() * ENTRIES {
            double(&mut self.lines);
        }
        self.period = (entries as u64).saturating_mul(SAMPLES).max(LEAST);
    }

    /// Counts anew how many entries there are, from the next time that it is told: the room for them changed.
    #[inline]
    pub(super) fn recount(&mut self) {
        self.entries = 0;
    }

    /// How often a hash was seen: 0 to 15.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "at most 15")]
    pub fn seen(&self, hash: u32) -> u8 {
        let line = &self.lines[index(hash, self.lines.len())];
        (least(&line.counters(shifts(hash))) >> line.behind(self.epoch).min(4)) as u8
    }

    /// A hash was seen so many times.
    #[inline]
    pub fn see(&mut self, hash: u32, times: u8) {
        let at = index(hash, self.lines.len());
        let news = self.lines[at].see(hash, times, self.epoch);
        self.sight(news);
    }

    /// A hash was seen, of an entry that comes. Forgets that it left, and says whether it had, lately.
    #[inline]
    pub(super) fn come(&mut self, hash: u32) -> bool {
        let at = index(hash, self.lines.len());
        let line = &mut self.lines[at];
        let news = line.see(hash, 1, self.epoch);
        let back = pull(&mut line.left, fingerprint(hash));
        self.sight(news);
        back
    }

    #[inline]
    fn sight(&mut self, news: u64) {
        self.sightings += news;
        if self.sightings >= self.period {
            self.sightings /= 2;
            self.epoch = (self.epoch + 1) & MAX;
        }
    }

    /// An entry left.
    #[inline]
    pub fn leave(&mut self, hash: u32) {
        let at = index(hash, self.lines.len());
        push(&mut self.lines[at].left, fingerprint(hash));
    }

    /// Has the line of a hash fetched which is asked for soon.
    #[inline]
    pub(super) fn warm(&self, hash: u32) {
        black_box(self.lines[index(hash, self.lines.len())].left[0]);
    }

    /// Forgets that an entry left. Whether it had, lately.
    #[inline]
    pub fn back(&mut self, hash: u32) -> bool {
        let at = index(hash, self.lines.len());
        pull(&mut self.lines[at].left, fingerprint(hash))
    }
}

impl Line {
    /// By how much the estimate of a hash grows when it is seen so many times.
    #[inline]
    fn see(&mut self, hash: u32, times: u8, epoch: u64) -> u64 {
        let behind = self.behind(epoch);
        if behind > 0 {
            self.age(behind.min(4), epoch);
        }
        let shifts = shifts(hash);
        let counters = self.counters(shifts);
        let old = least(&counters);
        let new = (old + u64::from(times)).min(MAX);
        for row in 0..ROWS {
            self.rows[row] += new.saturating_sub(counters[row]) << shifts[row];
        }
        new - old
    }

    /// How many halvings this has missed. Sixteen are not told from none, but a line is looked at many times between two.
    #[inline]
    fn behind(&self, epoch: u64) -> u64 {
        epoch.wrapping_sub(self.rows[LAST] >> 60) & MAX
    }

    #[inline]
    fn counters(&self, shifts: [u64; ROWS]) -> [u64; ROWS] {
        std::array::from_fn(|row| self.rows[row] >> shifts[row] & MAX)
    }

    /// Halves each counter so many times.
    #[inline(never)]
    fn age(&mut self, times: u64, epoch: u64) {
        let kept = (MAX >> times) * 0x1111_1111_1111_1111;
        for row in &mut self.rows {
            *row = *row >> times & kept;
        }
        let last = &mut self.rows[LAST];
        *last = *last & (u64::MAX >> 4) | epoch << 60;
    }
}

#[inline]
fn least(counters: &[u64; ROWS]) -> u64 {
    counters.iter().fold(MAX, |least, &counter| least.min(counter))
}

/// Where in each row a hash is counted.
#[inline]
fn shifts(hash: u32) -> [u64; ROWS] {
    let bits = (u64::from(hash) ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let mut shifts = std::array::from_fn(|row| bits >> (4 * row) & (MAX << 2));
    // The place of the epoch is taken.
    shifts[LAST] = shifts[LAST].min(56);
    shifts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_for_fewer_entries_forgets_sooner() {
        let mut recall = Recall::new(10_000);
        recall.grow(10_000);
        recall.see(0x5eed, 8);
        recall.recount();
        recall.grow(10);
        (0..500_u32).for_each(|n| recall.see(n.wrapping_mul(0x9e37_79b1), 1));
        assert!(recall.seen(0x5eed) <= 1);
    }
}
