//! Where the entry of a hash is: a table of cache lines.

/// Words in a bucket, one cache line. The first counts what went past it, the others name slots.
const WORDS: usize = 16;

/// How many slots a bucket holds on average when the index is full: with 11 of 15, one bucket in ten runs over.
const LOAD: usize = 11;

/// The most slots that an index can name: 4 bits of each word are left to tell hashes apart.
pub(super) const MOST: usize = (1 << 28) - 2;

/// A hash table of slots which looks at one cache line for most hashes.
///
/// A word holds a slot, plus one, in its low bits, and in the others low bits of the hash: the *tag*. The high bits of the
/// hash choose the bucket, its *home*. What has no room at home goes to the next bucket that has, and every bucket
/// which it passed counts it: so a search knows where to stop, and nothing is left behind by a removal.
#[derive(Debug)]
pub(super) struct Index {
    buckets: Vec<Bucket>,
    /// Of a word, the bits of the slot.
    slots: u32,
    /// Slots below this may be inserted, and no more entries than this.
    limit: usize,
}

#[derive(Clone, Debug)]
#[repr(align(64))]
struct Bucket([u32; WORDS]);

impl Bucket {
    /// A bit for each word that agrees with `want` where `mask` is set.
    #[inline]
    fn matching(&self, mask: u32, want: u32) -> u32 {
        let mut found = 0;
        for (at, word) in self.0.iter().enumerate() {
            found |= u32::from(word & mask == want) << at;
        }
        // Not the counter.
        found & !1
    }

    fn passed(&mut self) -> &mut u32 {
        &mut self.0[0]
    }
}

impl Index {
    /// An index for up to `limit` entries, with slots below `limit`.
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.min(MOST);
        // Slots are stored plus one.
        let bits = usize::BITS - limit.leading_zeros();
        let slots = (1_u32 << bits) - 1;
        Self { buckets: vec![Bucket([0; WORDS]); limit.div_ceil(LOAD)], slots, limit }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The bucket where the search for a hash begins.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline]
    fn tag(&self, hash: u32) -> u32 {
        hash.wrapping_mul(self.slots + 1)
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// The first slot with this hash, or one that looks alike, for which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let want = self.tag(hash);
        let mut at = self.home(hash);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            let mut found = bucket.matching(!self.slots, want);
            while found != 0 {
                let word = bucket.0[found.trailing_zeros() as usize % WORDS];
                // An empty word looks like a tag of 0.
                if let Some(slot) = (word & self.slots).checked_sub(1)
                    && is_it(slot)
                {
                    return Some(slot);
                }
                found &= found - 1;
            }
            if bucket.0[0] == 0 {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    /// Adds a slot. There is room if fewer than `limit` are here.
    pub(super) fn insert(&mut self, hash: u32, slot: u32) {
        let word = self.tag(hash) | (slot + 1);
        let mut at = self.home(hash);
        for _ in 0..self.buckets.len() {
            let free = self.buckets[at].matching(u32::MAX, 0);
            if free != 0 {
                self.buckets[at].0[free.trailing_zeros() as usize % WORDS] = word;
                return;
            }
            *self.buckets[at].passed() += 1;
            at = self.next(at);
        }
        debug_assert!(false, "the index is never full: it is made for as many entries as there may be");
    }

    /// Takes a slot out that was inserted with this hash.
    pub(super) fn remove(&mut self, hash: u32, slot: u32) {
        let word = self.tag(hash) | (slot + 1);
        let home = self.home(hash);
        let mut at = home;
        for _ in 0..self.buckets.len() {
            let found = self.buckets[at].matching(u32::MAX, word);
            if found != 0 {
                self.buckets[at].0[found.trailing_zeros() as usize % WORDS] = 0;
                break;
            }
            at = self.next(at);
        }
        let mut passed = home;
        while passed != at {
            *self.buckets[passed].passed() -= 1;
            passed = self.next(passed);
        }
    }
}
