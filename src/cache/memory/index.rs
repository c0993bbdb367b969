//! Where the entry of a hash is: a table of cache lines.
//!
//! The layout is that of F14 (Bronson and Shi, "Open-sourcing F14 for faster, more memory-efficient hash tables", 2019).

use std::{array, sync::OnceLock};

use crate::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// How many slots there are in a bucket.
const WIDTH: usize = 12;

/// How many slots a bucket holds on average when the index is full: at 9 of 12, one bucket in eight runs over.
const LOAD: usize = 9;

/// The lowest bit of each byte, and the highest of those that are tags.
const LOW: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = 0x0000_8080_8080_8080;

/// Where the count of what passed begins, in the second word, and its last value, which it keeps.
const PASSED: u32 = 48;
const MANY: u64 = 0xffff;

/// How often an index can grow, to at least twice as much each time.
const TABLES: usize = 32;

/// The most slots that an index can name.
pub(super) const MOST: usize = i32::MAX as usize;

/// A hash table of slots which looks at one cache line for most hashes.
///
/// A bucket is a line: twelve slots, and a byte of each one's hash, its *tag*. The high bits of a hash choose the bucket, its
/// *home*. What has no room at home goes to the next bucket that has, and every bucket that it passed counts it: so a
/// search knows where to stop, and a removal leaves nothing behind.
///
/// Whoever holds the lock of the shard sees the index as it is. But [`hint`](Self::hint) asks for no lock: a lookup has the
/// line of its bucket on the way while it waits for the lock, or for the entry of the lookup before. That is why everything
/// here is atomic, and why the table of an index that has grown stays until the index is dropped.
#[derive(Debug)]
pub(super) struct Index {
    current: AtomicUsize,
    tables: [OnceLock<Table>; TABLES],
}

#[derive(Debug)]
struct Table {
    buckets: Box<[Bucket]>,
    /// How many entries there may be.
    limit: usize,
}

#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Bucket {
    /// Six tags each, from the low byte up, 0 where there is no slot: those of the odd places, those of the even ones. At the
    /// top of the second, how many slots passed this bucket.
    meta: [AtomicU64; 2],
    slots: [AtomicU32; WIDTH],
}

impl Bucket {
    /// Marks the places with this tag, and a few others: above a byte that matches, the next may look alike. The lowest mark of
    /// all is always right.
    #[inline(always)]
    fn matching(&self, tag: u8) -> Marks {
        // A byte that is 0 borrows when 1 is taken from it ("haszero" in Anderson's "Bit Twiddling Hacks").
        let zeros = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
        let wanted = LOW * u64::from(tag);
        let [odd, even] = &self.meta;
        Marks(zeros(odd.load(Relaxed) ^ wanted) | zeros(even.load(Relaxed) ^ wanted) >> 4)
    }

    #[inline(always)]
    fn slot(&self, place: usize) -> u32 {
        self.slots.get(place).map_or(u32::MAX, |slot| slot.load(Relaxed))
    }

    #[inline]
    fn set(&self, place: usize, tag: u8, slot: u32) {
        let shift = place / 2 * 8;
        let word = &self.meta[(place % 2) ^ 1];
        self.slots[place].store(slot, Relaxed);
        word.store(word.load(Relaxed) & !(0xff << shift) | u64::from(tag) << shift, Relaxed);
    }

    /// Whether this slot is in this place, with this tag: what looks alike may be a place without any, which is 0 all over.
    fn is(&self, place: usize, tag: u8, slot: u32) -> bool {
        let word = self.meta[(place % 2) ^ 1].load(Relaxed);
        (word >> (place / 2 * 8)) & 0xff == u64::from(tag) && self.slot(place) == slot
    }

    /// How many slots went past this bucket to a later one.
    #[inline(always)]
    fn passed(&self) -> u64 {
        self.meta[1].load(Relaxed) >> PASSED
    }

    fn pass(&self) {
        if self.passed() < MANY {
            self.meta[1].store(self.meta[1].load(Relaxed) + (1 << PASSED), Relaxed);
        }
    }

    /// A slot that passed is gone. When there were too many to count, nobody knows how many are left.
    fn unpass(&self) {
        if self.passed() < MANY {
            self.meta[1].store(self.meta[1].load(Relaxed) - (1 << PASSED), Relaxed);
        }
    }

    fn clear(&self) {
        self.meta.iter().for_each(|word| word.store(0, Relaxed));
    }
}

/// Places in a bucket: of every four bits, the highest stands for the next one.
#[derive(Clone, Copy)]
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

impl Table {
    fn new(limit: usize) -> Self {
        let limit = limit.min(MOST);
        Self { buckets: (0..limit.div_ceil(LOAD).max(1)).map(|_| Bucket::default()).collect(), limit }
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

    #[cold]
    #[inline(never)]
    fn find_further<T>(&self, home: usize, hash: u32, is_it: &mut impl FnMut(u32) -> Option<T>) -> Option<T> {
        let mut at = self.next(home);
        while at != home {
            let bucket = &self.buckets[at];
            if let Some(it) = bucket.matching(tag(hash)).find_map(|place| is_it(bucket.slot(place))) {
                return Some(it);
            }
            if bucket.passed() == 0 {
                break;
            }
            at = self.next(at);
        }
        None
    }

    fn insert(&self, hash: u32, slot: u32) {
        let mut at = self.home(hash);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            if let Some(free) = bucket.matching(0).next() {
                bucket.set(free, tag(hash), slot);
                return;
            }
            bucket.pass();
            at = self.next(at);
        }
        debug_assert!(false, "an index is made for as many entries as there may be");
    }

    fn remove(&self, hash: u32, slot: u32) {
        let home = self.home(hash);
        let mut at = home;
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            if let Some(place) = bucket.matching(tag(hash)).find(|place| bucket.is(*place, tag(hash), slot)) {
                bucket.set(place, 0, 0);
                let mut passed = home;
                while passed != at {
                    self.buckets[passed].unpass();
                    passed = self.next(passed);
                }
                return;
            }
            at = self.next(at);
        }
        debug_assert!(false, "only what is here is removed");
    }
}

impl Index {
    pub(super) fn new() -> Self {
        Self { current: AtomicUsize::new(0), tables: array::from_fn(|_| OnceLock::new()) }
    }

    #[inline(always)]
    fn table(&self) -> Option<&Table> {
        // Acquire, for those who ask without a lock.
        self.tables.get(self.current.load(Acquire))?.get()
    }

    /// How many entries there is room for.
    pub(super) fn limit(&self) -> usize {
        self.table().map_or(0, |table| table.limit)
    }

    /// The slot where this hash probably is, if anywhere. It may be out of date when it is returned.
    #[inline(always)]
    pub(super) fn hint(&self, hash: u32) -> Option<u32> {
        let table = self.table()?;
        let bucket = table.buckets.get(table.home(hash))?;
        bucket.matching(tag(hash)).next().map(|place| bucket.slot(place))
    }

    /// What `is_it` makes of the first slot with this hash, or one that looks alike, of which it makes anything.
    #[inline(always)]
    pub(super) fn find<T>(&self, hash: u32, mut is_it: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let table = self.table()?;
        let home = table.home(hash);
        let bucket = table.buckets.get(home)?;
        if let Some(it) = bucket.matching(tag(hash)).find_map(|place| is_it(bucket.slot(place))) {
            return Some(it);
        }
        if bucket.passed() == 0 { None } else { table.find_further(home, hash, &mut is_it) }
    }

    /// Adds a slot, under the lock. There is room if fewer than `limit` are here.
    #[inline]
    pub(super) fn insert(&self, hash: u32, slot: u32) {
        if let Some(table) = self.table() {
            table.insert(hash, slot);
        }
    }

    /// Takes a slot out that was inserted with this hash, under the lock.
    #[inline]
    pub(super) fn remove(&self, hash: u32, slot: u32) {
        if let Some(table) = self.table() {
            table.remove(hash, slot);
        }
    }

    /// Makes room for `limit` entries, under the lock; `all` are those that are here.
    pub(super) fn grow(&self, limit: usize, all: impl Iterator<Item = (u32, u32)>) {
        let table = Table::new(limit);
        all.for_each(|(slot, hash)| table.insert(hash, slot));
        let next = match self.table() {
            None => 0,
            Some(_) => self.current.load(Relaxed) + 1,
        };
        if let Some(place) = self.tables.get(next) {
            // Under the lock, nobody else grows.
            let _ = place.set(table);
            self.current.store(next, Release);
        }
    }

    /// How many slots are in it.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let buckets = self.table().map_or(&[][..], |table| &table.buckets);
        let taken = |bucket: &Bucket| {
            let [odd, even] = &bucket.meta;
            let bytes = [odd.load(Relaxed).to_le_bytes(), even.load(Relaxed).to_le_bytes()];
            bytes.iter().flat_map(|bytes| &bytes[..WIDTH / 2]).filter(|tag| **tag != 0).count()
        };
        buckets.iter().map(taken).sum()
    }

    /// Takes all slots out, under the lock. The memory stays.
    pub(super) fn clear(&self) {
        if let Some(table) = self.table() {
            table.buckets.iter().for_each(Bucket::clear);
        }
    }
}
