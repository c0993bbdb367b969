//! What a change of placement would move, before it is made.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{KeyHash, Placement};

/// A placement that gives whole ranges of hashes to nodes, so that it can be measured and compared exactly.
pub trait Ranges: Placement {
    /// All hashes in ascending order, as the last hash of each range and who owns it. The last range ends with
    /// `u64::MAX`. Neighbouring ranges may belong to the same node.
    fn ranges(&self) -> impl Iterator<Item = (u64, Option<usize>)>;
}

/// The hashes that change owners between two placements, and what that amounts to.
///
/// Plain data: a backfill may go through the ranges one by one.
///
/// ```
/// use buttress::placement::{MovePlan, Ring};
///
/// let ring = Ring::new((0..100).map(|i| (format!("node-{i}"), 1)))?;
/// let larger = ring.with("node-100", 1)?;
/// let plan = MovePlan::between(&ring, &larger);
///
/// // About a hundredth moves, all of it to the new node, from nearly all others.
/// assert!((0.007..0.013).contains(&plan.movement.moved));
/// assert_eq!(plan.movement.excess, 0.0);
/// assert!(plan.moves.iter().all(|range| range.to.as_deref() == Some("node-100")));
/// assert!(plan.movement.pairs.len() > 50);
/// # Ok::<(), buttress::placement::PlacementError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MovePlan {
    /// The ranges that move, in order. Neighbours that move between the same two nodes are one range.
    pub moves: Vec<RangeMove>,
    /// How much moves between which nodes.
    pub movement: Movement,
}

/// One range of hashes that changes owners.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RangeMove {
    /// The first hash that moves.
    pub first: u64,
    /// The last hash that moves.
    pub last: u64,
    /// The node that has it, if one has.
    pub from: Option<Arc<str>>,
    /// The node that gets it, if one does.
    pub to: Option<Arc<str>>,
}

impl RangeMove {
    /// Whether a key moves with this range.
    pub fn contains(&self, key: KeyHash) -> bool {
        (self.first..=self.last).contains(&key.get())
    }
}

/// How much moves between which nodes, in shares of all keys.
///
/// Nodes go by their ids, or by their positions where a placement knows no ids.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Movement {
    /// The share of all keys that moves.
    pub moved: f64,
    /// The share of all keys that moves between two nodes that both stay, with the weight that they had: what a
    /// better placement would have left where it was.
    pub excess: f64,
    /// The share that moves from one node to another, largest first.
    pub pairs: Vec<PairMove>,
}

/// What moves from one node to another.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PairMove {
    /// The node that loses keys; without one, they had none.
    pub from: Option<Arc<str>>,
    /// The node that gets them; without one, nobody does.
    pub to: Option<Arc<str>>,
    /// The share of all keys.
    pub share: f64,
}

impl MovePlan {
    /// Compares two placements of the same hashes, exactly. O(ranges of both).
    ///
    /// They may be of different kinds, [`Ring`](super::Ring) and [`SlotMap`](super::SlotMap) for example: that
    /// is what a change from one to the other would move.
    pub fn between(old: &impl Ranges, new: &impl Ranges) -> Self {
        let mut tally = Tally::new(old, new);
        let mut moves: Vec<RangeMove> = Vec::new();
        let mut last_pair = None;
        let (mut olds, mut news) = (old.ranges(), new.ranges());
        let (mut before, mut after) = (olds.next(), news.next());
        // The first hash that has not been compared yet.
        let mut first = Some(0_u64);
        while let (Some(from), Some((old_end, was)), Some((new_end, is))) = (first, before, after) {
            let last = old_end.min(new_end);
            // A range may be empty: points can coincide.
            if last >= from {
                let pair = tally.pair(was, is);
                if let Some(pair) = pair {
                    tally.add(pair, u128::from(last - from) + 1);
                    match moves.last_mut() {
                        Some(range) if last_pair == Some(pair) && range.last.wrapping_add(1) == from => {
                            range.last = last;
                        }
                        _ => {
                            let (from_node, to) = tally.names(pair);
                            moves.push(RangeMove { first: from, last, from: from_node, to });
                        }
                    }
                }
                last_pair = pair;
                first = last.checked_add(1);
            }
            if old_end == last {
                before = olds.next();
            }
            if new_end == last {
                after = news.next();
            }
        }
        Self { moves, movement: tally.movement(1 << 64) }
    }
}

impl Movement {
    /// Compares two placements of any kind by where they put some keys.
    ///
    /// For placements without [`Ranges`], or for keys as they really are. Of `n` random keys, a share of `p` is
    /// known to √(p / n).
    ///
    /// ```
    /// use buttress::placement::{JumpShards, KeyHash, Movement};
    ///
    /// let keys = (0..100_000_u32).map(|i| KeyHash::of(&i));
    /// let movement = Movement::of_keys(&JumpShards::new(4), &JumpShards::new(5), keys);
    /// assert!((0.19..0.21).contains(&movement.moved));
    /// assert_eq!(movement.excess, 0.0);
    /// ```
    pub fn of_keys(
        old: &(impl Placement + ?Sized),
        new: &(impl Placement + ?Sized),
        keys: impl IntoIterator<Item = KeyHash>,
    ) -> Self {
        let mut tally = Tally::new(old, new);
        let mut count = 0;
        for key in keys {
            count += 1;
            if let Some(pair) = tally.pair(old.locate(key), new.locate(key)) {
                tally.add(pair, 1);
            }
        }
        tally.movement(count)
    }
}

/// Nobody, among the numbers of a tally.
const NONE: usize = usize::MAX;

/// Counts what moves between the nodes of two lists.
struct Tally {
    names: Vec<Arc<str>>,
    /// Whether a node is in both lists with the same weight.
    stays: Vec<bool>,
    /// For each position in a list, the number of its name.
    old: Vec<usize>,
    new: Vec<usize>,
    moved: HashMap<(usize, usize), u128>,
}

impl Tally {
    fn new(old: &(impl Placement + ?Sized), new: &(impl Placement + ?Sized)) -> Self {
        let mut names: Vec<Arc<str>> = Vec::new();
        let mut weights = Vec::new();
        let mut numbers: HashMap<Arc<str>, usize> = HashMap::new();
        let mut stays = Vec::new();
        let before = named(old).map(|(name, weight)| {
            numbers.insert(Arc::clone(&name), names.len());
            names.push(name);
            weights.push(weight);
            stays.push(false);
            names.len() - 1
        });
        let before: Vec<_> = before.collect();
        let after = named(new).map(|(name, weight)| {
            if let Some(&number) = numbers.get(&name) {
                stays[number] = weights[number] == weight;
                return number;
            }
            names.push(name);
            stays.push(false);
            names.len() - 1
        });
        let after = after.collect();
        Self { names, stays, old: before, new: after, moved: HashMap::new() }
    }

    /// The numbers of two owners, if they differ.
    #[inline]
    fn pair(&self, old: Option<usize>, new: Option<usize>) -> Option<(usize, usize)> {
        let number = |list: &[usize], owner: Option<usize>| {
            owner.and_then(|owner| list.get(owner)).copied().unwrap_or(NONE)
        };
        let pair = (number(&self.old, old), number(&self.new, new));
        (pair.0 != pair.1).then_some(pair)
    }

    fn add(&mut self, pair: (usize, usize), amount: u128) {
        *self.moved.entry(pair).or_default() += amount;
    }

    fn names(&self, pair: (usize, usize)) -> (Option<Arc<str>>, Option<Arc<str>>) {
        (self.names.get(pair.0).cloned(), self.names.get(pair.1).cloned())
    }

    fn movement(self, all: u128) -> Movement {
        let share = |amount: u128| if all == 0 { 0.0 } else { amount as f64 / all as f64 };
        let stays = |node: usize| self.stays.get(node).copied().unwrap_or(false);
        let excess =
            self.moved.iter().filter(|((from, to), _)| stays(*from) && stays(*to)).map(|(_, n)| n).sum();
        // Ordered by name first, so that the result does not depend on how a map is ordered.
        let by_name: BTreeMap<_, _> = self.moved.iter().map(|(&pair, &n)| (self.names(pair), n)).collect();
        let mut pairs: Vec<_> =
            by_name.into_iter().map(|((from, to), n)| PairMove { from, to, share: share(n) }).collect();
        pairs.sort_by(|a, b| b.share.total_cmp(&a.share));
        Movement { moved: share(self.moved.values().sum()), excess: share(excess), pairs }
    }
}

/// What the nodes of a placement are called, and their weights.
pub(super) fn named(placement: &(impl Placement + ?Sized)) -> impl Iterator<Item = (Arc<str>, u32)> {
    (0..placement.len()).map(|position| match placement.node(position) {
        Some((id, weight)) => (id.into(), weight),
        None => (position.to_string().into(), 1),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::placement::{JumpShards, Maglev, Rendezvous, Ring, SlotMap};

    fn any_nodes() -> impl Strategy<Value = Vec<(String, u32)>> {
        prop::collection::btree_map(0_u32..12, 0_u32..4, 0..10)
            .prop_map(|nodes| {
                nodes.into_iter().map(|(i, weight)| (i.to_string(), weight)).collect::<Vec<_>>()
            })
            .prop_shuffle()
    }

    fn owner(placement: &impl Placement, key: KeyHash) -> Option<String> {
        placement.locate(key).and_then(|node| placement.node(node)).map(|(id, _)| id.to_owned())
    }

    /// A key moves by the plan, or it does not move.
    fn check(old: &impl Ranges, new: &impl Ranges, keys: &[u64]) {
        let plan = MovePlan::between(old, new);
        let edges = plan.moves.iter().flat_map(|range| {
            [range.first, range.last, range.first.wrapping_sub(1), range.last.wrapping_add(1)]
        });
        for key in edges.chain([0, u64::MAX]).chain(keys.iter().copied()).map(KeyHash::from_u64) {
            let (from, to) = (owner(old, key), owner(new, key));
            let range: Vec<_> = plan.moves.iter().filter(|range| range.contains(key)).collect();
            if from == to {
                assert!(range.is_empty(), "{key:?} stays with {from:?}");
            } else {
                assert_eq!(range.len(), 1, "{key:?}: {from:?} -> {to:?}");
                assert_eq!(
                    (range[0].from.as_deref(), range[0].to.as_deref()),
                    (from.as_deref(), to.as_deref())
                );
            }
        }
        assert!(plan.moves.windows(2).all(|pair| pair[0].last < pair[1].first));
        let shares = |shares: &[PairMove]| shares.iter().map(|pair| pair.share).sum::<f64>();
        assert!((shares(&plan.movement.pairs) - plan.movement.moved).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn a_plan_has_every_key_that_moves_and_no_other(old in any_nodes(), new in any_nodes(), keys: [u64; 32]) {
            let ring = Ring::builder().vnodes(5);
            let rings = (ring.build(old.clone()).unwrap(), ring.build(new.clone()).unwrap());
            let tables = (Maglev::with_table(31, old.clone()).unwrap(), Maglev::with_table(31, new.clone()).unwrap());
            let slots = SlotMap::with_slots(32, old).unwrap();
            let slots = (slots.rebalanced(new).unwrap(), slots);
            check(&rings.0, &rings.1, &keys);
            check(&tables.0, &tables.1, &keys);
            check(&slots.1, &slots.0, &keys);
            check(&rings.0, &slots.0, &keys);
        }

        #[test]
        fn a_change_of_one_node_moves_nothing_in_excess(
            nodes in any_nodes(), id in 0_u32..12, weight in 0_u32..5,
        ) {
            let id = id.to_string();
            let mut changed = nodes.clone();
            changed.retain(|node| node.0 != id);
            changed.push((id.clone(), weight));
            let ring = Ring::builder().vnodes(10).build(nodes.clone()).unwrap();
            let slots = SlotMap::new(nodes.clone()).unwrap();
            let rendezvous = Rendezvous::new(nodes).unwrap();
            let keys = || (0..500).map(|key| KeyHash::of(&key));
            for excess in [
                MovePlan::between(&ring, &ring.with(&id, weight).unwrap()).movement.excess,
                MovePlan::between(&ring, &ring.without(&id)).movement.excess,
                MovePlan::between(&slots, &slots.rebalanced(changed).unwrap()).movement.excess,
                Movement::of_keys(&rendezvous, &rendezvous.with(&id, weight).unwrap(), keys()).excess,
                Movement::of_keys(&rendezvous, &rendezvous.without(&id), keys()).excess,
            ] {
                prop_assert!(excess == 0.0, "{excess}");
            }
        }
    }

    #[test]
    fn the_shares_of_the_plan_are_those_of_the_keys() {
        let nodes = |count| (0..count).map(|i| (i.to_string(), i % 3 + 1));
        let (old, new) = (Ring::new(nodes(20)).unwrap(), Ring::new(nodes(22)).unwrap());
        let plan = MovePlan::between(&old, &new);
        let keys = (0..200_000_u32).map(|key| KeyHash::of(&key));
        let sample = Movement::of_keys(&old, &new, keys);
        assert!((plan.movement.moved - sample.moved).abs() < 0.003, "{plan:?}");
        assert_eq!((plan.movement.excess, sample.excess), (0.0, 0.0));
        for pair in &plan.movement.pairs {
            let found = sample.pairs.iter().find(|other| (&other.from, &other.to) == (&pair.from, &pair.to));
            assert!((found.map_or(0.0, |found| found.share) - pair.share).abs() < 0.001, "{pair:?}");
        }
    }

    #[test]
    fn jump_moves_nothing_in_excess_and_modulo_nearly_all() {
        #[derive(Debug)]
        struct Modulo(usize);
        impl Placement for Modulo {
            fn locate(&self, key: KeyHash) -> Option<usize> {
                usize::try_from(key.get() % self.0 as u64).ok()
            }
            fn walk(&self, _: KeyHash, _: &mut dyn FnMut(usize) -> bool) {}
            fn len(&self) -> usize {
                self.0
            }
        }
        let keys = || (0..20_000_u32).map(|key| KeyHash::of(&key));
        let jump = Movement::of_keys(&JumpShards::new(10), &JumpShards::new(12), keys());
        assert_eq!((jump.excess, jump.moved > 0.1), (0.0, true));
        let modulo = Movement::of_keys(&Modulo(10), &Modulo(11), keys());
        assert!(modulo.excess > 0.8, "{}", modulo.excess);
    }

    #[test]
    fn nothing_moves_between_equals_and_everything_from_nobody() {
        let (none, some) = (Ring::new::<&str>([]).unwrap(), Ring::new([("a", 1)]).unwrap());
        assert_eq!(MovePlan::between(&some, &some.clone()).moves, []);
        let plan = MovePlan::between(&none, &some);
        let all = RangeMove { first: 0, last: u64::MAX, from: None, to: Some("a".into()) };
        assert_eq!((plan.moves, plan.movement.moved), (vec![all], 1.0));
        assert_eq!(Movement::of_keys(&none, &some, []), Movement::default());
    }
}
