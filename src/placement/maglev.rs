//! Maglev: a table of fixed size.

use std::{cmp::Reverse, collections::BinaryHeap, fmt};

use super::{
    KeyHash, Placement, PlacementError, Ranges, Replicas, ZonedReplicas, Zones,
    key::PointEncoder,
    nodes::{NOBODY, NodeList},
    walk::Owners,
    zones,
};

/// The table size of the paper, a prime. Takes 128 KiB.
const DEFAULT_TABLE: u32 = 65_537;

/// 32 MiB.
const MAX_TABLE: u32 = 1 << 24;

/// Places keys by a Maglev table (Eisenbud et al., "Maglev", NSDI 2016): one multiplication and one load.
///
/// The quickest lookup there is for any set of nodes, and the evenest shares. The price: when a node comes or
/// goes, some keys move between nodes that stay, 0.6 % of all keys at 100 nodes and the usual table. For
/// traffic that only likes to find its node again, at a high rate; where a move costs a copy, take another.
///
/// **Table.** Its size is a prime, and part of the placement: another size moves nearly every key, so it does
/// not follow the number of nodes. A key belongs to entry ⌊hash × size / 2⁶⁴⌋. A node's permutation starts at
/// (hash of its point 0) mod size and steps by 1 + (hash of its point 1) mod (size − 1); see
/// [`Ring`](super::Ring) for the points. Nodes take turns, in each round in the order of their ids, and each
/// takes the next free entry of its permutation. In round r, a node of weight `w` takes entries until it has
/// ⌈r × w / greatest weight⌉. So the order of the list has no say in this.
///
/// **Cost.** [`locate`](Placement::locate) is O(1); [`walk`](Placement::walk) follows the table, O(size) at worst.
/// An entry takes 2 bytes. Building is O(size · log size) expected, about 3 ms for the usual size; every change
/// builds afresh.
///
/// ```
/// use buttress::placement::{KeyHash, Maglev, Placement};
///
/// let table = Maglev::new([("a", 1), ("b", 1), ("c", 2)])?;
/// let owner = table.locate(KeyHash::of("user:42")).unwrap();
/// println!("{} owns it", table.id(owner).unwrap());
/// # Ok::<(), buttress::placement::PlacementError>(())
/// ```
#[derive(Clone)]
pub struct Maglev {
    nodes: NodeList,
    owning: usize,
    /// Who owns each entry. All of it is [`NOBODY`] if no node may own any.
    table: Vec<u16>,
}

impl Maglev {
    /// Builds a table of 65 537 entries, good for up to some 1000 nodes.
    ///
    /// # Errors
    ///
    /// As [`with_table`](Self::with_table).
    pub fn new<I: AsRef<str>>(nodes: impl IntoIterator<Item = (I, u32)>) -> Result<Self, PlacementError> {
        Self::with_table(DEFAULT_TABLE, nodes)
    }

    /// Builds a table of another size. A hundred entries per node keep shares within a hundredth.
    ///
    /// # Errors
    ///
    /// If the size is not a prime from 2 to 16 777 216 or there are more nodes than entries, or as
    /// [`RingBuilder::build`](super::RingBuilder::build).
    ///
    /// ```
    /// use buttress::placement::{Maglev, PlacementError};
    ///
    /// let error = Maglev::with_table(65_536, [("a", 1)]).unwrap_err();
    /// assert_eq!(error, PlacementError::TableSize { size: 65_536 });
    /// assert!(Maglev::with_table(655_373, [("a", 1)]).is_ok());
    /// # Ok::<(), buttress::placement::PlacementError>(())
    /// ```
    pub fn with_table<I: AsRef<str>>(
        size: u32,
        nodes: impl IntoIterator<Item = (I, u32)>,
    ) -> Result<Self, PlacementError> {
        if size > MAX_TABLE || !is_prime(size) {
            return Err(PlacementError::TableSize { size });
        }
        Self::place(size, NodeList::new(nodes)?)
    }

    /// A table of the same size that also has this node, at the end of the list; or that has it with this
    /// weight, where it was.
    ///
    /// # Errors
    ///
    /// If there would be too many nodes.
    pub fn with(&self, id: &str, weight: u32) -> Result<Self, PlacementError> {
        Self::place(self.size(), self.nodes.with(id, weight)?)
    }

    /// A table of the same size that lacks this node. Nodes after it in the list move up by one.
    #[must_use = "the table itself stays as it is"]
    pub fn without(&self, id: &str) -> Self {
        let Some(gone) = self.position(id) else { return self.clone() };
        let nodes = self.nodes.without(gone);
        Self { table: fill(self.table.len(), &nodes), owning: nodes.owning(), nodes }
    }

    /// The nodes and their weights, as listed.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (&str, u32)> {
        self.nodes.iter()
    }

    /// The id of the node at a position.
    pub fn id(&self, position: usize) -> Option<&str> {
        self.nodes.id(position)
    }

    /// Where a node stands in the list. O(nodes).
    pub fn position(&self, id: &str) -> Option<usize> {
        self.nodes.position(id)
    }

    /// Number of entries.
    #[expect(clippy::cast_possible_truncation, reason = "the table was built with a size of 32 bits")]
    pub fn size(&self) -> u32 {
        self.table.len() as u32
    }

    fn place(size: u32, nodes: NodeList) -> Result<Self, PlacementError> {
        let owning = nodes.owning();
        if owning > size as usize {
            return Err(PlacementError::TooManyNodes { max: size as usize });
        }
        Ok(Self { table: fill(size as usize, &nodes), owning, nodes })
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "what is left of the product is below the size")]
    fn entry(&self, key: KeyHash) -> usize {
        ((u128::from(key.get()) * self.table.len() as u128) >> 64) as usize
    }

    fn from(&self, key: KeyHash) -> Owners<'_> {
        let table = if self.owning == 0 { &[] } else { &*self.table };
        let (before, after) = table.split_at(self.entry(key).min(table.len()));
        Owners { halves: [after, before], nodes: self.nodes.len(), owning: self.owning }
    }
}

/// Deals all entries out.
fn fill(size: usize, nodes: &NodeList) -> Vec<u16> {
    let mut table = vec![NOBODY; size];
    let greatest = nodes.iter().map(|(_, weight)| u64::from(weight)).max().unwrap_or(0);
    let modulus = size as u64;
    let mut takers: Vec<_> = nodes
        .sorted()
        .into_iter()
        .filter_map(|node| {
            let (id, weight) = nodes.get(usize::from(node)).filter(|&(_, weight)| weight > 0)?;
            let mut points = PointEncoder::new(id);
            let (at, step) = (points.hash(0) % modulus, 1 + points.hash(1) % (modulus - 1).max(1));
            Some(Taker { node, weight: u64::from(weight), taken: 0, at, step })
        })
        .collect();
    // The round in which each takes its next entry; within a round, ids in order.
    let mut turns: BinaryHeap<_> = (0..takers.len()).map(|i| Reverse((0, i))).collect();
    for _ in 0..size {
        let Some(mut turn) = turns.peek_mut() else { break };
        let Reverse((_, i)) = *turn;
        let taker = &mut takers[i];
        while table[taker.entry()] != NOBODY {
            taker.at += taker.step;
            if taker.at >= modulus {
                taker.at -= modulus;
            }
        }
        table[taker.entry()] = taker.node;
        taker.taken += 1;
        // Both factors are below 2^32.
        *turn = Reverse((taker.taken * greatest / taker.weight, i));
    }
    table
}

struct Taker {
    node: u16,
    weight: u64,
    taken: u64,
    at: u64,
    step: u64,
}

impl Taker {
    #[expect(clippy::cast_possible_truncation, reason = "it is below the size of the table")]
    fn entry(&self) -> usize {
        self.at as usize
    }
}

fn is_prime(n: u32) -> bool {
    n >= 2 && (2..=n.isqrt()).all(|divisor| !n.is_multiple_of(divisor))
}

impl Placement for Maglev {
    #[inline]
    fn locate(&self, key: KeyHash) -> Option<usize> {
        let owner = self.table[self.entry(key)];
        (owner != NOBODY).then_some(usize::from(owner))
    }

    fn walk(&self, key: KeyHash, visit: &mut dyn FnMut(usize) -> bool) {
        self.from(key).walk(visit);
    }

    fn len(&self) -> usize {
        self.nodes.len()
    }

    fn replicas(&self, key: KeyHash, count: usize) -> Replicas {
        self.from(key).replicas(count)
    }

    fn zoned_replicas(&self, key: KeyHash, count: usize, zones: &Zones) -> ZonedReplicas {
        zones::deal(&self.from(key), count, zones)
    }

    fn node(&self, position: usize) -> Option<(&str, u32)> {
        self.nodes.get(position)
    }
}

impl Ranges for Maglev {
    #[expect(clippy::cast_possible_truncation, reason = "the last entry ends with the last hash")]
    fn ranges(&self) -> impl Iterator<Item = (u64, Option<usize>)> {
        let size = self.table.len() as u128;
        (1_u128..).zip(&self.table).map(move |(next, &owner)| {
            let last = (next << 64).div_ceil(size) - 1;
            (last as u64, (owner != NOBODY).then_some(usize::from(owner)))
        })
    }
}

impl fmt::Debug for Maglev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maglev")
            .field("nodes", &self.nodes.len())
            .field("size", &self.table.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn numbered(count: u32) -> impl Iterator<Item = (String, u32)> {
        (0..count).map(|i| (format!("node-{i}"), 1))
    }

    fn any_nodes() -> impl Strategy<Value = Vec<(String, u32)>> {
        let weight = prop_oneof![Just(1_u32), 0_u32..4, any::<u32>()];
        prop::collection::btree_map(0_u32..30, weight, 0..20)
            .prop_map(|nodes| {
                nodes.into_iter().map(|(i, weight)| (i.to_string(), weight)).collect::<Vec<_>>()
            })
            .prop_shuffle()
    }

    fn ids(table: &Maglev) -> Vec<Option<&str>> {
        table.table.iter().map(|&node| table.id(usize::from(node))).collect()
    }

    /// Round after round, as the paper has it.
    fn expected(size: usize, nodes: &[(String, u32)]) -> Vec<Option<&str>> {
        let mut nodes: Vec<_> = nodes.iter().filter(|node| node.1 > 0).collect();
        nodes.sort_unstable();
        let greatest = nodes.iter().map(|node| u64::from(node.1)).max().unwrap_or(1);
        let mut table = vec![None; size];
        let mut steps = vec![0; nodes.len()];
        let mut taken = vec![0; nodes.len()];
        let mut left = if nodes.is_empty() { 0 } else { size };
        for round in 1_u64.. {
            for (i, (id, weight)) in nodes.iter().enumerate() {
                while left > 0 && taken[i] < (round * u64::from(*weight)).div_ceil(greatest) {
                    let mut points = PointEncoder::new(id);
                    let (start, step) = (points.hash(0), 1 + points.hash(1) % (size as u64 - 1));
                    let entry =
                        usize::try_from((start % size as u64 + steps[i] * step) % size as u64).unwrap();
                    steps[i] += 1;
                    if table[entry].is_none() {
                        table[entry] = Some(&**id);
                        taken[i] += 1;
                        left -= 1;
                    }
                }
            }
            if left == 0 {
                return table;
            }
        }
        unreachable!()
    }

    proptest! {
        #[test]
        fn the_table_is_that_of_the_paper_whatever_the_order(nodes in any_nodes(), turn: usize) {
            let mut turned = nodes.clone();
            turned.rotate_left(turn % nodes.len().max(1));
            let (a, b) = (Maglev::with_table(101, nodes.clone()).unwrap(), Maglev::with_table(101, turned).unwrap());
            prop_assert_eq!(ids(&a), expected(101, &nodes));
            prop_assert_eq!(ids(&a), ids(&b));
        }

        #[test]
        fn a_change_is_the_table_built_afresh(nodes in any_nodes(), id in 0_u32..30, weight: u32) {
            let table = Maglev::with_table(101, nodes.clone()).unwrap();
            let id = id.to_string();
            let mut with = nodes.clone();
            with.retain(|node| node.0 != id);
            let changed = table.without(&id);
            prop_assert_eq!(ids(&changed), expected(101, &with));
            with.push((id.clone(), weight));
            let changed = table.with(&id, weight).unwrap();
            prop_assert_eq!(ids(&changed), expected(101, &with));
        }

        #[test]
        fn replicas_are_distinct_and_each_set_begins_with_the_smaller_one(nodes in any_nodes(), key: u64) {
            let table = Maglev::with_table(101, nodes.clone()).unwrap();
            let key = KeyHash::from_u64(key);
            let able = nodes.iter().filter(|node| node.1 > 0).count();
            let all = table.replicas(key, usize::MAX);
            prop_assert_eq!(all.iter().collect::<HashSet<_>>().len(), able);
            prop_assert_eq!(table.locate(key), all.first().copied());
            for count in 0..=able {
                prop_assert_eq!(&*table.replicas(key, count), &all[..count]);
            }
        }
    }

    #[test]
    fn entries_are_shared_out_by_weight() {
        let table = Maglev::new((1..=10).map(|weight| (weight.to_string(), weight))).unwrap();
        let mut counts = [0; 10];
        table.table.iter().for_each(|&node| counts[usize::from(node)] += 1);
        for (weight, count) in (1_u32..).zip(counts) {
            assert!((65_537 * weight / 55).abs_diff(count) <= 10, "weight {weight}: {count}");
        }
        let even = Maglev::new(numbered(100)).unwrap();
        let mut counts = [0_u32; 100];
        even.table.iter().for_each(|&node| counts[usize::from(node)] += 1);
        assert!(counts.iter().all(|&count| count == 655 || count == 656));
    }

    #[test]
    fn one_more_node_moves_little_more_than_its_part() {
        let before = Maglev::new(numbered(100)).unwrap();
        let after = before.with("node-100", 1).unwrap();
        let moved = ids(&before).iter().zip(ids(&after)).filter(|(from, to)| **from != *to).count();
        // 649 of them are the newcomer's, and those that others lose are passed on: 1.6 times as many in all.
        assert!((649..1300).contains(&moved), "{moved}");
    }

    #[test]
    fn a_node_of_any_weight_has_an_entry() {
        let table = Maglev::with_table(13, [("huge", u32::MAX), ("tiny", 1), ("small", 2)]).unwrap();
        assert_eq!(ids(&table).iter().filter(|id| **id == Some("tiny")).count(), 1);
    }

    #[test]
    fn a_table_that_cannot_be_is_an_error() {
        for size in [0, 1, 4, 9, 65_536, 16_777_259, u32::MAX] {
            assert_eq!(
                Maglev::with_table(size, numbered(1)).unwrap_err(),
                PlacementError::TableSize { size }
            );
        }
        assert!(Maglev::with_table(2, numbered(2)).is_ok());
        let error = Maglev::with_table(2, numbered(3)).unwrap_err();
        assert_eq!(error, PlacementError::TooManyNodes { max: 2 });
        assert!(Maglev::new([("a", 1), ("a", 1)]).is_err());
    }

    #[test]
    fn nobody_places_nothing() {
        for table in [
            Maglev::new::<&str>([]).unwrap(),
            Maglev::new([("a", 0)]).unwrap(),
            Maglev::new([("a", 1)]).unwrap().without("a"),
        ] {
            assert_eq!(table.locate(KeyHash::of("key")), None);
            assert!(table.replicas(KeyHash::of("key"), 3).is_empty());
        }
    }
}
