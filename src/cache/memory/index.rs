//! Where the entry of a hash is: a table of cache lines.
//!
//! The layout is that of F14 (Bronson and Shi, "Open-sourcing F14 for faster, more memory-efficient hash tables", 2019).

use std::hint::black_box;

/// How many slots there are in a bucket.
const WIDTH: usize = 12;

/// How many slots a bucket holds on average when the index is full: at 8 of 12, as slots come and go, one in twelve is not at
/// home, and one search in seven for what is not there looks at a second bucket.
const LOAD: usize = 8;

/// The lowest bit of each byte, and the highest of those that are tags.
const LOW: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = 0x0000_8080_8080_8080;

/// Where the counts of what passed begin, in the second word: four of four bits, by two bits of the tag. And their last value,
/// which they keep.
const PASSED: u32 = 48;
const MANY: u64 = 15;

/// The most slots that an index can name.
pub(super) const MOST: usize = i32::MAX as usize;

/// No slot.
pub(super) const NOWHERE: u32 = u32::MAX;

/// A hash table of slots which looks at one cache line for most hashes.
///
/// A bucket is a line: twelve slots, and a byte of each one's hash, its *tag*. The high bits of a hash choose the bucket, its
/// *home*. What has no room at home goes to the next bucket that has, and every bucket that it passed counts it: so a
/// search knows where to stop, and a removal leaves nothing behind.
#[derive(Debug)]
pub(super) struct Index {
    buckets: Box<[Bucket]>,
    /// How many entries there may be.
    limit: usize,
}

#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Bucket {
    /// Six tags each, from the low byte up, 0 where there is no slot: those of the odd places, those of the even ones. At the
    /// top of the second, how many slots passed this bucket, by their tags.
    meta: [u64; 2],
    slots: [u32; WIDTH],
}

impl Bucket {
    const EMPTY: Self = Self { meta: [0; 2], slots: [NOWHERE; WIDTH] };

    /// Marks the places with this tag, and a few others: above a byte that matches, the next may look alike. The lowest mark of
    /// all is always right.
    #[inline(always)]
    fn matching(&self, tag: u8) -> Marks {
        // A byte that is 0 borrows when 1 is taken from it ("haszero" in Anderson's "Bit Twiddling Hacks").
        let zeros = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
        let wanted = LOW * u64::from(tag);
        let [odd, even] = self.meta;
        Marks(zeros(odd ^ wanted) | zeros(even ^ wanted) >> 4)
    }

    #[inline(always)]
    fn slot(&self, place: usize) -> u32 {
        self.slots.get(place).copied().unwrap_or(NOWHERE)
    }

    #[inline]
    fn set(&mut self, place: usize, tag: u8, slot: u32) {
        let shift = place / 2 * 8;
        let word = &mut self.meta[(place % 2) ^ 1];
        *word = *word & !(0xff << shift) | u64::from(tag) << shift;
        self.slots[place] = slot;
    }

    /// Puts a slot in, if there is room.
    #[inline]
    fn put(&mut self, tag: u8, slot: u32) -> bool {
        let free = self.matching(0).next();
        free.inspect(|&place| self.set(place, tag, slot)).is_some()
    }

    /// Takes a slot out, if it is here.
    #[inline]
    fn take(&mut self, tag: u8, slot: u32) -> bool {
        let found = self.matching(tag).find(|&place| self.slot(place) == slot);
        found.inspect(|&place| self.set(place, 0, NOWHERE)).is_some()
    }

    /// How many slots with tags like this went past this bucket to a later one.
    #[inline(always)]
    fn passed(&self, tag: u8) -> u64 {
        self.meta[1] >> group(tag) & MANY
    }

    fn pass(&mut self, tag: u8) {
        if self.passed(tag) < MANY {
            self.meta[1] += 1 << group(tag);
        }
    }

    /// A slot that passed is gone. When there were too many to count, nobody knows how many are left.
    fn unpass(&mut self, tag: u8) {
        if self.passed(tag) < MANY {
            self.meta[1] -= 1 << group(tag);
        }
    }
}

/// Where tags like this are counted.
#[inline(always)]
fn group(tag: u8) -> u32 {
    PASSED + u32::from(tag >> 6) * 4
}

/// Places in a bucket: of every four bits, the highest stands for the next one.
struct Marks(u64);

impl Iterator for Marks {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let place = self.0.trailing_zeros() / 4;
        self.0 &= self.0 - 1;
        Some(place as usize)
    }
}

/// The byte of a hash that is kept with its slot. 0 stands for no slot.
#[inline(always)]
fn tag(hash: u32) -> u8 {
    (hash as u8).max(1)
}

impl Index {
    /// Without any room.
    pub(super) fn new() -> Self {
        Self { buckets: Box::default(), limit: 0 }
    }

    /// With room for `limit` entries.
    fn with_limit(limit: usize) -> Self {
        let limit = limit.min(MOST);
        Self { buckets: vec![Bucket::EMPTY; limit.div_ceil(LOAD).max(1)].into(), limit }
    }

    /// How many entries there is room for.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The bucket where the search for a hash begins.
    #[inline(always)]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// The slot where this hash probably is, if anywhere; else one that does not exist.
    #[inline]
    pub(super) fn hint(&self, hash: u32) -> u32 {
        let Some(bucket) = self.buckets.get(self.home(hash)) else { return NOWHERE };
        bucket.matching(tag(hash)).next().map_or(NOWHERE, |place| bucket.slot(place))
    }

    /// Has the bucket of a hash fetched which is asked for soon.
    #[inline]
    pub(super) fn warm(&self, hash: u32) {
        black_box(self.buckets.get(self.home(hash)).map(|bucket| bucket.meta[0]));
    }

    /// What `is_it` makes of the first slot with this hash, or one that looks alike, of which it makes anything.
    #[inline(always)]
    pub(super) fn find<T>(&self, hash: u32, mut is_it: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let (tag, home) = (tag(hash), self.home(hash));
        let bucket = self.buckets.get(home)?;
        if let Some(it) = bucket.matching(tag).find_map(|place| is_it(bucket.slot(place))) {
            return Some(it);
        }
        if bucket.passed(tag) == 0 { None } else { self.find_further(home, tag, &mut is_it) }
    }

    #[cold]
    #[inline(never)]
    fn find_further<T>(&self, home: usize, tag: u8, is_it: &mut impl FnMut(u32) -> Option<T>) -> Option<T> {
        let mut at = self.next(home);
        while at != home {
            let bucket = &self.buckets[at];
            if let Some(it) = bucket.matching(tag).find_map(|place| is_it(bucket.slot(place))) {
                return Some(it);
            }
            if bucket.passed(tag) == 0 {
                break;
            }
            at = self.next(at);
        }
        None
    }

    /// Adds a slot. There is room if fewer than `limit` are here.
    #[inline]
    pub(super) fn insert(&mut self, hash: u32, slot: u32) {
        let (tag, mut at) = (tag(hash), self.home(hash));
        for _ in 0..self.buckets.len() {
            let bucket = &mut self.buckets[at];
            if bucket.put(tag, slot) {
                return;
            }
            bucket.pass(tag);
            at = self.next(at);
        }
        debug_assert!(false, "an index is made for as many entries as there may be");
    }

    /// Takes a slot out that was inserted with this hash.
    #[inline]
    pub(super) fn remove(&mut self, hash: u32, slot: u32) {
        let (tag, mut at) = (tag(hash), self.home(hash));
        for _ in 0..self.buckets.len() {
            let bucket = &mut self.buckets[at];
            if bucket.take(tag, slot) {
                return;
            }
            bucket.unpass(tag);
            at = self.next(at);
        }
        debug_assert!(false, "only what is here is removed");
    }

    /// Makes room for `limit` entries; `all` are those that are here.
    pub(super) fn grow(&mut self, limit: usize, all: impl Iterator<Item = (u32, u32)>) {
        *self = Self::with_limit(limit);
        all.for_each(|(slot, hash)| self.insert(hash, slot));
    }

    /// How many slots are in it.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.buckets.iter().flat_map(|bucket| bucket.slots).filter(|slot| *slot != NOWHERE).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_that_lost_count_of_what_passed_sends_every_search_on() {
        let mut bucket = Bucket::EMPTY;
        for tag in [1, 0x40, 0x80, 0xff] {
            (0..MANY - 1).for_each(|_| bucket.pass(tag));
            (0..MANY - 1).for_each(|_| bucket.unpass(tag));
            assert_eq!(bucket.passed(tag), 0);
            (0..2 * MANY).for_each(|_| bucket.pass(tag));
            (0..2 * MANY).for_each(|_| bucket.unpass(tag));
            assert_eq!((bucket.passed(tag), bucket.matching(0).count()), (MANY, WIDTH));
        }
    }
}
