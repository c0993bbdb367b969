//! Replica sets that a zone may fail under.

use std::{collections::HashMap, ops::Deref, sync::Arc};

use super::{INLINE_REPLICAS, KeyHash, Placement, Replicas, walk::Owners};

/// Where a node is that the list of zones does not reach.
const UNKNOWN: u16 = u16::MAX;

/// Which zone each node of a placement is in: a room, a rack, a data centre, whatever fails as a whole.
///
/// Given to [`Placement::zoned_replicas`].
///
/// ```
/// use buttress::placement::{KeyHash, Placement, Ring, Zones};
///
/// let ring = Ring::new([("a", 1), ("b", 1), ("c", 1), ("d", 1)])?;
/// // In the order of the nodes.
/// let zones = Zones::new(["eu-1", "eu-1", "eu-2", "eu-2"]);
///
/// let copies = ring.zoned_replicas(KeyHash::of("user:42"), 2, &zones);
/// assert_ne!(zones.name(copies[0]), zones.name(copies[1]));
/// assert!(copies.shortfall().is_none());
///
/// // Three copies in two zones: there are three, and one zone fewer than copies.
/// let copies = ring.zoned_replicas(KeyHash::of("user:42"), 3, &zones);
/// let short = copies.shortfall();
/// assert_eq!((copies.len(), short.nodes, short.zones), (3, 0, 1));
/// # Ok::<(), buttress::placement::PlacementError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Zones {
    /// The zone of each node.
    of: Vec<u16>,
    names: Vec<Arc<str>>,
    /// `deep[i]` is the number of zones that have more than `i` nodes.
    deep: [usize; INLINE_REPLICAS],
}

impl Zones {
    /// Takes the zone of each node, in the order of the placement's list.
    ///
    /// Nodes that the list does not reach are all in one zone without a name; so are those of any zone beyond
    /// the 65 535th.
    pub fn new<I: AsRef<str>>(zones: impl IntoIterator<Item = I>) -> Self {
        let mut numbers = HashMap::new();
        let mut names: Vec<Arc<str>> = Vec::new();
        let mut sizes = Vec::new();
        let mut of = Vec::new();
        for zone in zones {
            let zone = zone.as_ref();
            let number = match numbers.get(zone) {
                Some(&number) => number,
                None => match u16::try_from(names.len()) {
                    Ok(number) if number != UNKNOWN => {
                        let name: Arc<str> = zone.into();
                        names.push(Arc::clone(&name));
                        numbers.insert(name, number);
                        sizes.push(0_usize);
                        number
                    }
                    _ => UNKNOWN,
                },
            };
            if let Some(size) = sizes.get_mut(usize::from(number)) {
                *size += 1;
            }
            of.push(number);
        }
        let deep = std::array::from_fn(|i| sizes.iter().filter(|&&size| size > i).count());
        Self { of, names, deep }
    }

    /// The zone that the node at a position is in.
    pub fn name(&self, node: usize) -> Option<&str> {
        self.names.get(usize::from(self.of(node))).map(|name| &**name)
    }

    /// Number of zones that have a name.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no zone has a name.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    #[inline]
    fn of(&self, node: usize) -> u16 {
        self.of.get(node).copied().unwrap_or(UNKNOWN)
    }
}

/// What [`Placement::zoned_replicas`] answers: distinct nodes in order of preference, and what is missing. A
/// slice in all but name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZonedReplicas {
    nodes: Replicas,
    zones: usize,
    asked: usize,
}

/// By how much a replica set falls short of what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortfall {
    /// Copies that no node could take: fewer nodes can own keys than copies were asked for.
    pub nodes: usize,
    /// How many zones fewer than copies were asked for: so many copies share a zone with another, or are
    /// missing.
    pub zones: usize,
}

impl Shortfall {
    /// Whether nothing is missing.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl ZonedReplicas {
    /// The nodes, the owner first.
    pub fn as_slice(&self) -> &[usize] {
        self.nodes.as_slice()
    }

    /// Number of zones that the nodes are in.
    pub fn zones(&self) -> usize {
        self.zones
    }

    /// What was asked for and is not there.
    pub fn shortfall(&self) -> Shortfall {
        Shortfall { nodes: self.asked - self.nodes.len(), zones: self.asked - self.zones }
    }
}

impl Deref for ZonedReplicas {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        self.as_slice()
    }
}

/// Entries of a table that are looked at without remembering which nodes were there before. In three zones, one
/// set of three in ten thousand millions takes more.
const SKIM: usize = 64;

/// A walk that can be begun again.
pub(super) trait Walk {
    fn walk(&self, visit: impl FnMut(usize) -> bool);
    /// The first entries of the table that is walked, if there is one: the same order, with repetitions.
    fn head(&self) -> [&[u16]; 2] {
        [&[], &[]]
    }
    /// Number of nodes in the list.
    fn nodes(&self) -> usize;
}

impl Walk for Owners<'_> {
    #[inline]
    fn walk(&self, visit: impl FnMut(usize) -> bool) {
        Owners::walk(self, visit);
    }

    #[inline]
    fn head(&self) -> [&[u16]; 2] {
        let [after, before] = self.halves;
        let first = &after[..after.len().min(SKIM)];
        [first, &before[..before.len().min(SKIM - first.len())]]
    }

    fn nodes(&self) -> usize {
        self.nodes
    }
}

/// Any placement, from a key on.
pub(super) struct From<'a, P: ?Sized>(pub(super) &'a P, pub(super) KeyHash);

impl<P: Placement + ?Sized> Walk for From<'_, P> {
    fn walk(&self, mut visit: impl FnMut(usize) -> bool) {
        self.0.walk(self.1, &mut visit);
    }

    fn nodes(&self) -> usize {
        self.0.len()
    }
}

/// Deals the nodes of a walk out in rounds: the first of each zone, then the second of each, and so on, each
/// round in the order of the walk. What comes first does not depend on `asked`, so a set for one more copy only
/// grows at its end.
#[inline]
pub(super) fn deal(walk: &impl Walk, asked: usize, zones: &Zones) -> ZonedReplicas {
    if asked > INLINE_REPLICAS {
        return deal_all(walk, asked, zones);
    }
    // Nodes of a round that there may be, one of no zone included.
    let beyond = usize::from(walk.nodes() > zones.of.len());
    let wanted = asked.min(zones.deep[0] + beyond);

    // One node of each zone. A bit for each zone modulo 64 says which had their turn, all of it up to 63 zones.
    let mut nodes = Replicas::default();
    let mut zone_of = [UNKNOWN; INLINE_REPLICAS];
    let (mut had, exact) = (0_u64, zones.names.len() < 64);
    'head: for half in walk.head() {
        for &node in half {
            if nodes.len == wanted {
                break 'head;
            }
            // A node that comes again is in a zone that has had its turn: no need to know it.
            let zone = zones.of(usize::from(node));
            let bit = 1 << (zone % 64);
            if had & bit == 0 || !exact && !zone_of[..nodes.len].contains(&zone) {
                had |= bit;
                zone_of[nodes.len] = zone;
                nodes.push(usize::from(node));
            }
        }
    }
    if nodes.len < wanted {
        walk.walk(|node| {
            let zone = zones.of(node);
            if !zone_of[..nodes.len].contains(&zone) {
                zone_of[nodes.len] = zone;
                nodes.push(node);
            }
            nodes.len < wanted
        });
    }
    let first_round = nodes.len;
    if first_round == asked {
        ZonedReplicas { nodes, zones: first_round, asked }
    } else {
        deal_more(walk, nodes, asked, zones)
    }
}

/// Further rounds, for sets that have more nodes than there are zones.
fn deal_more(walk: &impl Walk, mut nodes: Replicas, asked: usize, zones: &Zones) -> ZonedReplicas {
    let first_round = nodes.len;
    let beyond = usize::from(walk.nodes() > zones.of.len());
    for (round, &deep) in zones.deep.iter().enumerate().skip(1) {
        let before = nodes.len;
        let wanted = asked.min(before + deep + beyond);
        if before == asked || wanted == before {
            break;
        }
        let mut visit = |node| {
            let zone = zones.of(node);
            let there = nodes.iter().filter(|&&other| zones.of(other) == zone).count();
            if there == round && !nodes.contains(&node) {
                nodes.push(node);
            }
            nodes.len < wanted
        };
        // One that comes again was chosen, or its zone was.
        if walk.head().into_iter().flatten().all(|&node| visit(usize::from(node))) {
            walk.walk(visit);
        }
        if nodes.len == before {
            break;
        }
    }
    ZonedReplicas { nodes, zones: first_round, asked }
}

/// The same for a set that takes memory anyway: O(nodes · log nodes).
#[cold]
fn deal_all(walk: &impl Walk, asked: usize, zones: &Zones) -> ZonedReplicas {
    let mut sizes: HashMap<u16, usize> = HashMap::new();
    let mut dealt = Vec::new();
    walk.walk(|node| {
        let size = sizes.entry(zones.of(node)).or_default();
        dealt.push((*size, node));
        *size += 1;
        true
    });
    // Stable: within a round, the order of the walk.
    dealt.sort_by_key(|&(round, _)| round);
    let mut nodes = Replicas::default();
    dealt.iter().take(asked).for_each(|&(_, node)| nodes.push(node));
    ZonedReplicas { nodes, zones: sizes.len().min(asked), asked }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::placement::Ring;

    /// The definition: the walk, ordered by how many nodes of the same zone come before.
    fn expected(ring: &Ring, key: KeyHash, zone_of: &[u8]) -> Vec<usize> {
        let walk = ring.replicas(key, usize::MAX);
        let zone = |node: usize| zone_of.get(node).copied().unwrap_or(u8::MAX);
        let mut nodes: Vec<_> = walk
            .iter()
            .enumerate()
            .map(|(i, &node)| (walk[..i].iter().filter(|&&other| zone(other) == zone(node)).count(), node))
            .collect();
        nodes.sort_by_key(|&(round, _)| round);
        nodes.into_iter().map(|(_, node)| node).collect()
    }

    proptest! {
        #[test]
        fn zones_take_turns_and_each_set_begins_with_the_smaller_one(
            weights in prop::collection::vec(0_u32..3, 0..24), zone_of in prop::collection::vec(0_u8..6, 0..24),
            key: u64,
        ) {
            let nodes = weights.iter().enumerate().map(|(i, &weight)| (i.to_string(), weight));
            let ring = Ring::builder().vnodes(4).build(nodes).unwrap();
            let zones = Zones::new(zone_of.iter().map(u8::to_string));
            let key = KeyHash::from_u64(key);
            let expected = expected(&ring, key, &zone_of);
            for asked in 0..26 {
                let replicas = ring.zoned_replicas(key, asked, &zones);
                prop_assert_eq!(&*replicas, &expected[..asked.min(expected.len())], "{} asked", asked);
                prop_assert_eq!(&replicas, &deal(&From(&ring, key), asked, &zones));
                prop_assert_eq!(&replicas, &deal_all(&From(&ring, key), asked, &zones));

                let mut used: Vec<_> = replicas.iter().map(|&node| zone_of.get(node)).collect();
                used.sort_unstable();
                used.dedup();
                prop_assert_eq!(replicas.zones(), used.len());
                let short = Shortfall { nodes: asked - replicas.len(), zones: asked - used.len() };
                prop_assert_eq!(replicas.shortfall(), short);
            }
        }
    }

    #[test]
    fn the_shortfall_is_reported() {
        let ring = Ring::new([("a", 1), ("b", 1), ("c", 1), ("drained", 0)]).unwrap();
        let zones = Zones::new(["x", "x", "y", "z"]);
        let key = KeyHash::of("key");
        assert_eq!(zones.len(), 3);
        assert!(ring.zoned_replicas(key, 2, &zones).shortfall().is_none());
        assert_eq!(ring.zoned_replicas(key, 3, &zones).shortfall(), Shortfall { nodes: 0, zones: 1 });
        assert_eq!(ring.zoned_replicas(key, 5, &zones).shortfall(), Shortfall { nodes: 2, zones: 3 });
        assert_eq!(ring.zoned_replicas(key, 99, &zones).shortfall(), Shortfall { nodes: 96, zones: 97 });
        let nobody = Ring::new::<&str>([]).unwrap().zoned_replicas(key, 3, &zones);
        assert_eq!(nobody.shortfall(), Shortfall { nodes: 3, zones: 3 });
    }

    #[test]
    fn without_zones_every_node_is_in_the_same() {
        let ring = Ring::new([("a", 1), ("b", 1), ("c", 1)]).unwrap();
        let key = KeyHash::of("key");
        let replicas = ring.zoned_replicas(key, 2, &Zones::new::<&str>([]));
        assert_eq!(*replicas, *ring.replicas(key, 2));
        assert_eq!(replicas.shortfall(), Shortfall { nodes: 0, zones: 1 });
    }
}
