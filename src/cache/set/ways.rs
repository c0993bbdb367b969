//! One set: a few entries, and which of them leaves. Pure: it takes no lock, and calls no user code but `Eq`.

use std::{borrow::Borrow, mem};

use super::tags::Tags;

/// The most entries that a set can hold. On average it holds two thirds of that: the rest is for keys that fall
/// unevenly. All that a set is, apart from the entries, then fills one cache line.
pub(super) const MAX_WAYS: usize = 24;

/// How many uses earn an entry in the small queue a place in the main one.
const PROMOTE_AT: u8 = 2;

/// The entries of a set, and what decides who leaves: S3-FIFO (Yang et al., SOSP 2023) in miniature.
///
/// The first ways are the *small* queue, the others the *main* one. Each is a ring with a hand. In a full set, a newcomer
/// takes the place of the oldest entry of the small queue; that entry leaves, unless uses earned it a place in the main
/// queue. There, an entry gets another round for each use. A newcomer that is remembered for having left too early goes
/// to the main queue at once.
#[derive(Debug)]
pub(super) struct Ways<K, V> {
    entries: Vec<(K, V)>,
    tags: Tags,
    uses: Uses,
    small_hand: u8,
    main_hand: u8,
}

/// Who left a set.
#[derive(Debug)]
pub(super) struct Evicted<K, V> {
    pub(super) entry: (K, V),
    /// Whether it left the small queue: then that may have been too early.
    pub(super) early: bool,
}

impl<K, V> Default for Ways<K, V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            tags: Tags::default(),
            uses: Uses::default(),
            small_hand: 0,
            main_hand: 0,
        }
    }
}

impl<K, V> Ways<K, V> {
    pub(super) fn entries(&self) -> &[(K, V)] {
        &self.entries
    }

    pub(super) fn into_entries(self) -> Vec<(K, V)> {
        self.entries
    }

    /// The way of a key.
    #[inline]
    pub(super) fn find<Q>(&self, tag: u8, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.tags.find(tag, |way| self.entries.get(way).is_some_and(|(other, _)| other.borrow() == key))
    }

    /// The value of a way that was found. Counts as a use.
    #[inline]
    pub(super) fn hit(&mut self, way: usize) -> &mut V {
        self.uses.add(way);
        &mut self.entries[way].1
    }

    /// Adds an entry to a set that has fewer than [`MAX_WAYS`].
    pub(super) fn push(&mut self, tag: u8, entry: (K, V)) {
        let way = self.entries.len();
        if way == self.entries.capacity() {
            // By little: doubling would waste memory.
            self.entries.reserve_exact(if way < 8 { 4 } else { 2 });
        }
        self.entries.push(entry);
        self.tags.set(way, tag);
        self.uses.set(way, 0);
    }

    /// Adds an entry in the place of another one. An empty set gives the newcomer back.
    pub(super) fn replace(&mut self, tag: u8, entry: (K, V), remembered: bool) -> Evicted<K, V> {
        if self.entries.is_empty() {
            return Evicted { entry, early: false };
        }
        let (way, early) = self.victim(remembered);
        self.tags.set(way, tag);
        self.uses.set(way, 0);
        Evicted { entry: mem::replace(&mut self.entries[way], entry), early }
    }

    /// Takes out the entry whose turn it is, but keeps at least `floor` entries.
    pub(super) fn evict(&mut self, floor: usize) -> Option<Evicted<K, V>> {
        if self.entries.len() <= floor {
            return None;
        }
        let (way, early) = self.victim(false);
        let entry = self.remove(way);
        if self.entries.len() == floor {
            // It was above its share while others were below; that is over.
            self.entries.shrink_to_fit();
        }
        Some(Evicted { entry, early })
    }

    /// Takes out the entry of a way that was found.
    pub(super) fn remove(&mut self, way: usize) -> (K, V) {
        let last = self.entries.len() - 1;
        self.tags.set(way, self.tags.get(last));
        self.uses.set(way, self.uses.get(last));
        self.entries.swap_remove(way)
    }

    /// Chooses who leaves a set that is not empty, and whether it leaves the small queue.
    fn victim(&mut self, remembered: bool) -> (usize, bool) {
        let small = match self.entries.len() {
            0 | 1 => 0,
            2..=8 => 1,
            _ => 2,
        };
        if remembered || small == 0 {
            return (self.main_victim(small), false);
        }
        let way = usize::from(self.small_hand) % small;
        self.small_hand = u8::from(way + 1 < small);
        if self.uses.get(way) < PROMOTE_AT {
            return (way, true);
        }
        let victim = self.main_victim(small);
        self.entries.swap(way, victim);
        self.tags.set(victim, self.tags.get(way));
        self.uses.set(victim, 0);
        (way, false)
    }

    /// Moves the hand of the main queue to the next entry that has no uses left. Takes three rounds at most.
    fn main_victim(&mut self, small: usize) -> usize {
        let len = self.entries.len();
        let mut way = usize::from(self.main_hand);
        loop {
            if !(small..len).contains(&way) {
                way = small;
            }
            match self.uses.get(way) {
                0 => break,
                uses => self.uses.set(way, uses - 1),
            }
            way += 1;
        }
        self.main_hand = u8::try_from(way + 1).unwrap_or(0);
        way
    }

    #[cfg(test)]
    pub(super) fn allocation(&self) -> (usize, usize) {
        (self.entries.as_ptr().addr(), self.entries.capacity())
    }

    #[cfg(test)]
    pub(super) fn check(&self, tag: impl Fn(&K) -> u8)
    where
        K: Eq,
    {
        assert!(self.entries.len() <= MAX_WAYS);
        assert!(size_of::<(K, V)>() == 0 || self.entries.capacity() <= MAX_WAYS);
        for (way, (key, _)) in self.entries.iter().enumerate() {
            assert_eq!(self.tags.get(way), tag(key));
            assert!(self.find(tag(key), key) == Some(way), "each key is there once");
        }
    }
}

/// Two bits for each way: how often its entry was used, up to 3.
#[derive(Debug, Default)]
struct Uses([u8; MAX_WAYS / 4]);

impl Uses {
    fn get(&self, way: usize) -> u8 {
        self.0[way / 4] >> (way % 4 * 2) & 3
    }

    fn set(&mut self, way: usize, uses: u8) {
        let shift = way % 4 * 2;
        let byte = &mut self.0[way / 4];
        *byte = *byte & !(3 << shift) | uses << shift;
    }

    fn add(&mut self, way: usize) {
        let uses = self.get(way);
        if uses < 3 {
            self.set(way, uses + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full set of 16 keys, all unused: 0 and 1 in the small queue.
    fn full() -> Ways<u8, ()> {
        let mut ways = Ways::default();
        (0..16).for_each(|key| ways.push(key, (key, ())));
        ways
    }

    fn replace(ways: &mut Ways<u8, ()>, key: u8, remembered: bool) -> (u8, bool) {
        let evicted = ways.replace(key, (key, ()), remembered);
        (evicted.entry.0, evicted.early)
    }

    fn use_key(ways: &mut Ways<u8, ()>, key: u8, times: usize) {
        let way = ways.find(key, &key).unwrap();
        (0..times).for_each(|_| *ways.hit(way));
    }

    #[test]
    fn newcomers_that_are_not_used_push_each_other_out() {
        let mut ways = full();
        for key in 16..40 {
            assert_eq!(replace(&mut ways, key, false), (if key < 18 { key - 16 } else { key - 2 }, true));
        }
        assert!((2..16).all(|key| ways.find(key, &key).is_some()));
    }

    #[test]
    fn two_uses_earn_a_place_in_the_main_queue() {
        let mut ways = full();
        use_key(&mut ways, 0, 1);
        use_key(&mut ways, 1, 2);
        assert_eq!(replace(&mut ways, 16, false), (0, true), "one use is not enough");
        assert_eq!(replace(&mut ways, 17, false), (2, false), "the oldest of the main queue leaves for 1");
        assert!(ways.find(1, &1).is_some());
    }

    #[test]
    fn those_remembered_go_to_the_main_queue() {
        let mut ways = full();
        assert_eq!(replace(&mut ways, 16, true), (2, false));
        assert_eq!(replace(&mut ways, 17, true), (3, false));
        assert!([0, 1, 16, 17].into_iter().all(|key| ways.find(key, &key).is_some()));
    }

    #[test]
    fn the_main_queue_gives_a_round_for_each_use() {
        let mut ways = full();
        (2..16).for_each(|key| use_key(&mut ways, key, 9));
        use_key(&mut ways, 2, 1);
        assert_eq!(replace(&mut ways, 16, true).0, 2, "all were used alike, so the oldest leaves");
        use_key(&mut ways, 3, 1);
        assert_eq!(replace(&mut ways, 17, true).0, 4);
    }

    #[test]
    fn a_set_above_its_share_gives_entries_and_memory_back() {
        let mut ways = full();
        let evicted: Vec<_> = std::iter::from_fn(|| ways.evict(10)).map(|evicted| evicted.entry.0).collect();
        assert_eq!((evicted.len(), ways.entries().len(), ways.allocation().1), (6, 10, 10));
        ways.check(|&key| key);
    }

    #[test]
    fn an_empty_set_gives_the_newcomer_back() {
        let mut ways = Ways::default();
        assert_eq!(replace(&mut ways, 7, false), (7, false));
        assert!(ways.evict(0).is_none());
    }
}
