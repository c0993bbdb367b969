//! The placement of the `hashring` crate.

use std::{
    cmp::Ordering,
    fmt,
    hash::{BuildHasher, Hash},
};

use ::hashring::DefaultHashBuilder;

use super::{
    KeyHash, Placement, PlacementError, Ranges, Replicas, ZonedReplicas, Zones,
    nodes::MAX_NODES,
    points::{Point, Points},
    zones,
};

/// The most entries; see [`RingBuilder::max_points`](super::RingBuilder::max_points) for why there is such a
/// number.
const MAX_ENTRIES: usize = 1 << 22;

/// Places keys where a ring of the [`hashring`](::hashring) crate (0.3) does, so that a service can leave
/// that crate without moving its data.
///
/// Use [`Ring`](super::Ring) for anything new. This ring inherits what it must to agree: keys and nodes are
/// hashed by [`std::hash::Hash`], so `"a"` and `b"a"`, or `1_u32` and `1_u64`, live in different places, and
/// so may keys on machines of another word size. Hash keys with [`key`](Self::key), not with [`KeyHash::of`].
///
/// It differs where `hashring` is at fault:
///
/// - `get_with_replicas` clones the whole ring on each call and returns neighbours rather than distinct
///   nodes: with virtual nodes, a set often holds a node twice or holds no other at all. Asked for `n` it
///   returns `n + 1` entries. [`replicas`](Placement::replicas) returns `n` distinct nodes, and up to 8 take
///   no allocation. They are the neighbours in the same order, without the repetitions.
/// - Entries whose hashes coincide: `hashring` finds any of them, this ring the one that was added first.
///   That shows only for a key whose hash equals theirs.
/// - `remove` goes by the hash alone and takes out one entry: one that was added twice stays, and of two
///   whose hashes coincide the wrong one may go. Here the list says what is on the ring.
/// - `add` sorts all entries again each time; this ring is built at once, in O(entries) expected.
///
/// Lookup is O(1) expected, where `hashring` takes O(log entries).
///
/// # From a `hashring` to this
///
/// List the entries in the order in which they were added, each with the number of the node that it stands
/// for:
///
/// ```
/// use buttress::placement::{HashringPlacement, Placement};
/// use hashring::HashRing;
///
/// let nodes = ["cache-a", "cache-b", "cache-c"];
/// let entries = || (0..nodes.len()).flat_map(|node| (0..100).map(move |copy| (node, copy)));
///
/// // Before: virtual nodes by hand.
/// let mut old = HashRing::new();
/// old.batch_add(entries().map(|(node, copy)| (nodes[node], copy)).collect());
///
/// // After.
/// let new = HashringPlacement::new(entries().map(|(node, copy)| ((nodes[node], copy), node)))?;
/// for user in 0..1000 {
///     let owner = new.locate(new.key(&user)).unwrap();
///     assert_eq!(old.get(&user).unwrap().0, nodes[owner]);
/// }
/// # Ok::<(), buttress::placement::PlacementError>(())
/// ```
#[derive(Clone)]
pub struct HashringPlacement<S = DefaultHashBuilder> {
    hasher: S,
    nodes: usize,
    points: Points,
}

impl HashringPlacement {
    /// Builds the placement of a ring with these entries and the default hasher, SipHash-2-4 without a key.
    ///
    /// # Errors
    ///
    /// If a node's number is above 65 534 or there are more than 4 194 304 entries.
    pub fn new<T: Hash>(entries: impl IntoIterator<Item = (T, usize)>) -> Result<Self, PlacementError> {
        Self::with_hasher(DefaultHashBuilder, entries)
    }
}

impl<S: BuildHasher> HashringPlacement<S> {
    /// Builds the placement of a ring with these entries and this hasher, as `HashRing::with_hasher` takes.
    ///
    /// # Errors
    ///
    /// As [`new`](HashringPlacement::new).
    pub fn with_hasher<T: Hash>(
        hasher: S,
        entries: impl IntoIterator<Item = (T, usize)>,
    ) -> Result<Self, PlacementError> {
        let mut points = Vec::new();
        let mut owning = vec![];
        for (entry, node) in entries {
            if points.len() == MAX_ENTRIES {
                return Err(PlacementError::TooManyPoints {
                    points: MAX_ENTRIES as u64 + 1,
                    max: MAX_ENTRIES,
                });
            }
            let number = u16::try_from(node)
                .ok()
                .filter(|_| node < MAX_NODES)
                .ok_or(PlacementError::TooManyNodes { max: MAX_NODES })?;
            owning.resize(owning.len().max(node + 1), false);
            owning[node] = true;
            points.push(Point { hash: hasher.hash_one(&entry), node: number });
        }
        let nodes = owning.len();
        let owning = owning.into_iter().filter(|&owns| owns).count();
        // No order among equals, since `hashring` sorts stably: what was added first comes first.
        let points = Points::sort(&points, nodes, owning, |_, _| Ordering::Equal);
        Ok(Self { hasher, nodes, points })
    }

    /// Hashes a key as `hashring` would. The only hash that this placement understands.
    #[inline]
    pub fn key<K: Hash + ?Sized>(&self, key: &K) -> KeyHash {
        KeyHash::from_u64(self.hasher.hash_one(key))
    }
}

impl<S: Send + Sync> Placement for HashringPlacement<S> {
    #[inline]
    fn locate(&self, key: KeyHash) -> Option<usize> {
        self.points.locate(key.get())
    }

    fn walk(&self, key: KeyHash, visit: &mut dyn FnMut(usize) -> bool) {
        self.points.from(key.get()).walk(visit);
    }

    /// One more than the largest number of a node.
    fn len(&self) -> usize {
        self.nodes
    }

    fn replicas(&self, key: KeyHash, count: usize) -> Replicas {
        self.points.from(key.get()).replicas(count)
    }

    fn zoned_replicas(&self, key: KeyHash, count: usize, zones: &Zones) -> ZonedReplicas {
        zones::deal(&self.points.from(key.get()), count, zones)
    }
}

impl<S: Send + Sync> Ranges for HashringPlacement<S> {
    fn ranges(&self) -> impl Iterator<Item = (u64, Option<usize>)> {
        self.points.ranges()
    }
}

impl<S> fmt::Debug for HashringPlacement<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashringPlacement")
            .field("nodes", &self.nodes)
            .field("points", &self.points.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ::hashring::HashRing;
    use proptest::prelude::*;

    use super::*;

    const KEYS: u64 = 1_000_000;

    /// Virtual nodes made by hand, as users of `hashring` do.
    fn entries(nodes: usize, copies: u32) -> impl Iterator<Item = ((String, u32), usize)> {
        (0..nodes).flat_map(move |node| (0..copies).map(move |copy| ((format!("node-{node}"), copy), node)))
    }

    #[test]
    fn every_key_lives_where_hashring_puts_it() {
        for (nodes, copies) in [(1, 1), (10, 1), (10, 160), (100, 160)] {
            let mut theirs = HashRing::new();
            theirs.batch_add(entries(nodes, copies).map(|(entry, _)| entry).collect());
            let ours = HashringPlacement::new(entries(nodes, copies)).unwrap();
            let names: Vec<_> = (0..nodes).map(|node| format!("node-{node}")).collect();
            for key in 0..KEYS / 4 {
                let (name, _) = theirs.get(&key).unwrap();
                assert_eq!(ours.locate(ours.key(&key)).map(|i| &names[i]), Some(name), "{key}");
            }
        }
    }

    #[test]
    fn replicas_are_their_neighbours_without_the_repetitions() {
        let mut theirs = HashRing::new();
        theirs.batch_add(entries(5, 20).map(|(entry, _)| entry).collect());
        let ours = HashringPlacement::new(entries(5, 20)).unwrap();
        let mut repeated = 0;
        for key in 0..1000_u32 {
            let neighbours = theirs.get_with_replicas(&key, 2).unwrap();
            let names: Vec<_> = neighbours.iter().map(|(name, _)| name.clone()).collect();
            let mut distinct = Vec::new();
            for name in names {
                if !distinct.contains(&name) {
                    distinct.push(name);
                }
            }
            repeated += u32::from(distinct.len() < 3);
            let replicas = ours.replicas(ours.key(&key), distinct.len());
            let replicas: Vec<_> = replicas.iter().map(|node| format!("node-{node}")).collect();
            assert_eq!(replicas, distinct);
        }
        assert!(repeated > 300, "they repeat nodes in {repeated} sets of 1000");
    }

    proptest! {
        #[test]
        fn any_order_of_adding_agrees(
            entries in prop::collection::vec((0_u16..100, 0_usize..9), 0..40), keys: [u32; 16],
        ) {
            let mut theirs = HashRing::new();
            for &entry in &entries {
                // The number goes with the entry, and an entry added twice stays twice.
                theirs.add(entry);
            }
            let ours = HashringPlacement::new(entries.iter().map(|&entry| (entry, entry.1))).unwrap();
            for key in keys {
                let expected = theirs.get(&key).map(|entry| entry.1);
                prop_assert_eq!(ours.locate(ours.key(&key)), expected);
            }
        }
    }

    #[test]
    fn a_number_too_large_is_an_error() {
        assert!(HashringPlacement::new([("a", MAX_NODES - 1)]).is_ok());
        let error = HashringPlacement::new([("a", MAX_NODES)]).unwrap_err();
        assert_eq!(error, PlacementError::TooManyNodes { max: MAX_NODES });
        assert!(HashringPlacement::new([("a", usize::MAX)]).is_err());
    }

    #[test]
    fn a_hasher_of_ones_own_agrees() {
        use std::hash::{BuildHasherDefault, DefaultHasher};
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let mut theirs = HashRing::with_hasher(hasher.clone());
        theirs.batch_add(vec![0, 1, 2]);
        let ours = HashringPlacement::with_hasher(hasher, (0..3).map(|node| (node, node))).unwrap();
        for key in 0..1000 {
            assert_eq!(ours.locate(ours.key(&key)), theirs.get(&key).copied());
        }
    }
}
