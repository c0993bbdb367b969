//! Numbered shards, of which only the last ones come and go.

use std::collections::HashSet;

use super::{INLINE_REPLICAS, KeyHash, Placement, PlacementError, Replicas, key::Sequence};

/// Places keys on shards numbered from 0 by `JumpBackHash` (Ertl, 2024): no table at all, and the balance of
/// pure chance.
///
/// For shards that are numbered rather than named, such as partitions of a log or tables of a database. Growing
/// moves keys to the new shards only, shrinking moves those of the last shards only, each an even part from or to
/// all others. No other shard can go: taking one from the middle would mean to renumber those after it, and that
/// moves every second key. So this type can only [`grow`](Self::grow) and [`shrink`](Self::shrink). A shard that
/// fails keeps its number and has its keys served by the next of the [`walk`](Placement::walk).
///
/// **Numbers.** The algorithm is that of the paper, on the numbers that `SplitMix64` makes with the key's hash as
/// its seed. The shards behind the owner are those of the hashes that follow: the n-th number of the same
/// generator, without those that came before. After 4 × shards + 64 of them, the rest follow in order.
///
/// **Cost.** [`locate`](Placement::locate) is O(1) expected: about 10 ns, less when the number of shards is just
/// under a power of two. It takes no memory.
///
/// ```
/// use buttress::placement::{JumpShards, KeyHash, Placement};
///
/// let four = JumpShards::new(4);
/// let six = four.grow(2)?;
/// let key = KeyHash::of("user:42");
/// let (before, after) = (four.locate(key).unwrap(), six.locate(key).unwrap());
/// assert!(after == before || after >= 4);
/// assert_eq!(six.shrink(2)?, four);
/// # Ok::<(), buttress::placement::PlacementError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JumpShards {
    count: u32,
}

impl JumpShards {
    /// So many shards; 0 place nothing.
    pub const fn new(count: u32) -> Self {
        Self { count }
    }

    /// Adds shards behind the last one. Of n shards that become m, (m − n) / m of all keys move.
    ///
    /// # Errors
    ///
    /// If the number of shards would exceed `u32`.
    pub fn grow(self, by: u32) -> Result<Self, PlacementError> {
        let count = self.count.checked_add(by);
        count.map(Self::new).ok_or(PlacementError::ShardCount { count: self.count, change: i64::from(by) })
    }

    /// Takes the last shards away. Of n shards that become m, (n − m) / n of all keys move.
    ///
    /// # Errors
    ///
    /// If there are fewer shards.
    pub fn shrink(self, by: u32) -> Result<Self, PlacementError> {
        let count = self.count.checked_sub(by);
        count.map(Self::new).ok_or(PlacementError::ShardCount { count: self.count, change: -i64::from(by) })
    }

    /// Number of shards.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// The shard of a key, if there are shards.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of 64-bit numbers are used one by one")]
    fn shard(self, key: u64) -> Option<u32> {
        let last = self.count.checked_sub(1)?;
        let mut sequence = Sequence::new(key);
        let first = sequence.draw();
        // Bit i says whether the key has jumped at least once among the shards from 2^i to 2^(i + 1) − 1. Where
        // the last such jump below `count` went is the shard.
        let below = u32::MAX.checked_shr(last.leading_zeros()).unwrap_or(0);
        let mut jumps = (first ^ (first >> 32)) as u32 & below;
        while jumps != 0 {
            let level = 1 << jumps.ilog2();
            let half = if jumps.count_ones().is_multiple_of(2) { first } else { first >> 32 };
            let mut shard = level + (half as u32 & (level - 1));
            // Only on the highest level may shards be missing: then back to an earlier jump on the same level, or
            // to none.
            loop {
                if shard <= last {
                    return Some(shard);
                }
                let next = sequence.draw();
                let mask = (level << 1).wrapping_sub(1);
                shard = next as u32 & mask;
                if shard < level {
                    break;
                }
                if shard <= last {
                    return Some(shard);
                }
                shard = (next >> 32) as u32 & mask;
                if shard < level {
                    break;
                }
            }
            jumps ^= level;
        }
        Some(0)
    }
}

impl Placement for JumpShards {
    #[inline]
    fn locate(&self, key: KeyHash) -> Option<usize> {
        self.shard(key.get()).map(|shard| shard as usize)
    }

    fn walk(&self, key: KeyHash, visit: &mut dyn FnMut(usize) -> bool) {
        let Some(owner) = self.locate(key) else { return };
        if !visit(owner) {
            return;
        }
        let mut seen = Seen::default();
        seen.insert(owner);
        let mut sequence = Sequence::new(key.get());
        let draws = (0..4 * u64::from(self.count) + 64).filter_map(|_| self.shard(sequence.draw()));
        for shard in draws.map(|shard| shard as usize).chain(0..self.len()) {
            if seen.len() == self.len() {
                return;
            }
            if seen.insert(shard) && !visit(shard) {
                return;
            }
        }
    }

    fn len(&self) -> usize {
        self.count as usize
    }
}

/// Shards that a walk has visited. A set of bits would be as large as the number of shards.
#[derive(Default)]
struct Seen {
    few: Replicas,
    many: HashSet<usize>,
}

impl Seen {
    fn len(&self) -> usize {
        self.few.len() + self.many.len()
    }

    /// Adds a shard; `false` if it was there.
    fn insert(&mut self, shard: usize) -> bool {
        if self.few.contains(&shard) {
            return false;
        }
        if self.few.len() < INLINE_REPLICAS {
            self.few.push(shard);
            return true;
        }
        self.many.insert(shard)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn growing_moves_keys_to_new_shards_only(count in 0_u32..5000, by in 0_u32..300, keys: [u64; 16]) {
            let before = JumpShards::new(count);
            let after = before.grow(by).unwrap();
            prop_assert_eq!(after.shrink(by).unwrap(), before);
            for key in keys.map(KeyHash::from_u64) {
                let (from, to) = (before.locate(key), after.locate(key));
                prop_assert!(from == to || to >= Some(before.len()), "{from:?} -> {to:?}");
                prop_assert!(to < Some(after.len()) && to.is_some() == (after.count() > 0));
            }
        }

        #[test]
        fn replicas_are_distinct_and_each_set_begins_with_the_smaller_one(count in 0_u32..50, key: u64) {
            let shards = JumpShards::new(count);
            let key = KeyHash::from_u64(key);
            let all = shards.replicas(key, usize::MAX);
            prop_assert_eq!(all.iter().collect::<HashSet<_>>().len(), shards.len());
            prop_assert_eq!(shards.locate(key), all.first().copied());
            for asked in 0..=shards.len() {
                prop_assert_eq!(&*shards.replicas(key, asked), &all[..asked]);
            }
        }
    }

    #[test]
    fn every_step_of_growing_moves_to_the_new_shard() {
        let keys: Vec<_> = (0..2_000_u64).map(|key| KeyHash::of(&key)).collect();
        for count in 1..300 {
            let (before, after) = (JumpShards::new(count), JumpShards::new(count + 1));
            for &key in &keys {
                let (from, to) = (before.locate(key).unwrap(), after.locate(key).unwrap());
                assert!(to == from || to == before.len(), "{count}: {from} -> {to}");
            }
        }
    }

    #[test]
    fn shares_are_even() {
        for count in [1, 2, 3, 7, 8, 9, 60, 64, 65] {
            let mut counts = vec![0_u32; count as usize];
            for key in 0..count * 2_000 {
                counts[JumpShards::new(count).locate(KeyHash::of(&key)).unwrap()] += 1;
            }
            // Chance puts a shard of 2000 keys off by 45; five times that is 225.
            assert!(counts.iter().all(|keys| keys.abs_diff(2_000) < 225), "{count}: {counts:?}");
        }
    }

    #[test]
    fn growing_takes_evenly_from_all() {
        let (before, after) = (JumpShards::new(10), JumpShards::new(11));
        let mut from = [0_u32; 10];
        for key in (0..220_000_u32).map(|key| KeyHash::of(&key)) {
            if after.locate(key) == Some(10) {
                from[before.locate(key).unwrap()] += 1;
            }
        }
        assert!(from.iter().all(|keys| keys.abs_diff(2_000) < 225), "{from:?}");
    }

    #[test]
    fn the_ends_of_the_range_hold() {
        let most = JumpShards::new(u32::MAX);
        for key in 0..1000 {
            assert!(most.locate(KeyHash::of(&key)).unwrap() < u32::MAX as usize);
            assert_eq!(JumpShards::new(1).locate(KeyHash::of(&key)), Some(0));
            assert_eq!(JumpShards::new(0).locate(KeyHash::of(&key)), None);
        }
        assert_eq!(most.replicas(KeyHash::of("key"), 20).len(), 20);
        assert!(most.grow(1).is_err());
        let error = JumpShards::new(3).shrink(4).unwrap_err();
        assert_eq!(error, PlacementError::ShardCount { count: 3, change: -4 });
        assert_eq!(error.to_string(), "3 shards cannot change by -4: there may be from 0 to 4294967295");
    }
}
