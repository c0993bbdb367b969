//! Slots: an explicit map that changes by plan.

mod level;
mod plan;

use std::{collections::BTreeSet, fmt};

pub use self::plan::{SlotMove, SlotPlan};
use super::{
    KeyHash, Placement, PlacementError, Ranges, Replicas,
    nodes::{NOBODY, NodeList, number},
    rank::Ranks,
};

/// As many as Redis Cluster has: 160 for each of 100 nodes. Takes 32 KiB.
const DEFAULT_SLOTS: u32 = 1 << 14;

const MAX_SLOTS: u32 = 1 << 16;

/// Places keys by slots, each of which belongs to a node: the way of Redis Cluster, Vitess and Dynamo, for shards
/// that hold data.
///
/// The map is explicit, so a change is a plan and not a consequence: as few slots move as possible, one by one,
/// each when its data is there. Shares are even to a slot, and a lookup is one load. The price: the map depends on
/// what it was before, so it is kept (feature `serde`) and handed to whoever places keys. Nodes on their own
/// cannot work it out, as they can a [`Ring`](super::Ring).
///
/// - [`new`](Self::new) deals all slots out; [`rebalanced`](Self::rebalanced) makes the map for another list of
///   nodes, with the fewest moves. A slot moves only if its node goes, is drained or gets a lower weight, or to a
///   node that is new or gets a higher one.
/// - [`plan`](Self::plan) says which slots move from where to where. A plan is plain data;
///   [`steps`](SlotPlan::steps) cuts it into pieces, and [`apply`](Self::apply) makes the map after one.
/// - [`pinned`](Self::pinned) ties a slot to a node whatever its share, for a tenant too hot to have neighbours.
///
/// **Slots.** With 2ⁿ slots, a key's slot is the upper n bits of its hash. Behind the owner of a slot come the
/// other nodes with weight, in the order of a [`Rendezvous`](super::Rendezvous) of [`KeyHash::of`] the slot's
/// number: the replicas of a slot depend on its own owner and on the list of nodes, not on other slots.
///
/// Nodes that slots move to are chosen one slot after the other, always the one with the most missing to its
/// share; slots are taken from the node that has the most above its share, highest numbers first. Of equals, the
/// id that sorts first is chosen. So the order of the list has no say in this.
///
/// **Cost.** [`locate`](Placement::locate) is O(1), replicas are O(nodes). A slot takes 2 bytes. A new map is
/// O(slots + moves · log nodes).
///
/// ```
/// use buttress::placement::{KeyHash, Placement, SlotMap};
///
/// let map = SlotMap::new([("shard-a", 1), ("shard-b", 1)])?;
/// let target = map.rebalanced([("shard-a", 1), ("shard-b", 1), ("shard-c", 1)])?;
/// let plan = map.plan(&target)?;
/// assert_eq!(plan.moves.len(), 16_384 / 3);
///
/// // A thousand slots at a time: copy their data, then publish the map that has them moved.
/// let mut current = map;
/// for step in plan.steps(1000) {
///     for slot in &step.moves {
///         // ... copy what is in `slot.slot` from `slot.from` to `slot.to` ...
///     }
///     current = current.apply(&step)?;
/// }
/// assert_eq!(current, target);
/// # Ok::<(), buttress::placement::PlacementError>(())
/// ```
#[derive(Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "plan::Stored", try_from = "plan::Stored"))]
pub struct SlotMap {
    nodes: NodeList,
    ranks: Ranks,
    /// Who owns each slot; [`NOBODY`] where no node may.
    owners: Vec<u16>,
    /// How far to shift a hash to get its slot.
    shift: u32,
    pins: BTreeSet<u16>,
}

impl SlotMap {
    /// Deals 16 384 slots out to nodes by their weights, good for up to some 1000 nodes.
    ///
    /// # Errors
    ///
    /// If an id occurs twice or there are more than 65 535 nodes.
    pub fn new<I: AsRef<str>>(nodes: impl IntoIterator<Item = (I, u32)>) -> Result<Self, PlacementError> {
        Self::with_slots(DEFAULT_SLOTS, nodes)
    }

    /// Deals another number of slots out: 65 536 where there are thousands of nodes or pins.
    ///
    /// The number is for ever: a map of other slots is another placement.
    ///
    /// # Errors
    ///
    /// If the number is not a power of two from 2 to 65 536, or as [`new`](Self::new).
    pub fn with_slots<I: AsRef<str>>(
        slots: u32,
        nodes: impl IntoIterator<Item = (I, u32)>,
    ) -> Result<Self, PlacementError> {
        let shift = shift(slots as usize)?;
        let nodes = NodeList::new(nodes)?;
        let mut owners = vec![NOBODY; slots as usize];
        level::level(&mut owners, &nodes, &vec![level::Was::New; nodes.len()], &BTreeSet::new());
        Ok(Self { ranks: Ranks::new(&nodes), nodes, owners, shift, pins: BTreeSet::new() })
    }

    /// Takes in a map that exists, such as that of a Redis Cluster: for each slot the position of its node, or
    /// `None`.
    ///
    /// # Errors
    ///
    /// If the slots are not a power of two from 2 to 65 536 or belong to a node that there is not, or as
    /// [`new`](Self::new).
    ///
    /// ```
    /// use buttress::placement::SlotMap;
    ///
    /// let owners = [0, 0, 1, 1].map(Some);
    /// let map = SlotMap::from_owners([("a", 1), ("b", 1)], owners)?;
    /// assert_eq!(map.owner(3), Some(1));
    /// # Ok::<(), buttress::placement::PlacementError>(())
    /// ```
    pub fn from_owners<I: AsRef<str>>(
        nodes: impl IntoIterator<Item = (I, u32)>,
        owners: impl IntoIterator<Item = Option<usize>>,
    ) -> Result<Self, PlacementError> {
        let nodes = NodeList::new(nodes)?;
        // One more than allowed is enough to know that there are too many.
        let owners = owners.into_iter().take(MAX_SLOTS as usize + 1).map(|owner| match owner {
            Some(position) if position < nodes.len() => Ok(number(position)),
            Some(position) => Err(PlacementError::UnknownNode { id: position.to_string() }),
            None => Ok(NOBODY),
        });
        let owners = owners.collect::<Result<Vec<_>, _>>()?;
        let shift = shift(owners.len())?;
        Ok(Self { ranks: Ranks::new(&nodes), nodes, owners, shift, pins: BTreeSet::new() })
    }

    /// The map for another list of nodes that has the fewest slots moved.
    ///
    /// Pinned slots stay where they are, unless their node goes or is drained: then the pin is gone too.
    ///
    /// # Errors
    ///
    /// If an id occurs twice or there are more than 65 535 nodes.
    pub fn rebalanced<I: AsRef<str>>(
        &self,
        nodes: impl IntoIterator<Item = (I, u32)>,
    ) -> Result<Self, PlacementError> {
        let nodes = NodeList::new(nodes)?;
        let mut renumber = self.renumber(&nodes);
        let mut was = vec![level::Was::New; nodes.len()];
        for (new, (_, weight)) in renumber.iter_mut().zip(self.nodes.iter()) {
            if let Some(was) = was.get_mut(usize::from(*new)) {
                *was = level::Was::Weight(weight);
            }
            // What a drained node has is as free as what one that is gone had.
            if nodes.get(usize::from(*new)).is_none_or(|(_, weight)| weight == 0) {
                *new = NOBODY;
            }
        }
        let mut owners: Vec<_> = self.owners.iter().map(|&old| lookup(&renumber, old)).collect();
        let mut pins = self.pins.clone();
        pins.retain(|&slot| owners[usize::from(slot)] != NOBODY);
        level::level(&mut owners, &nodes, &was, &pins);
        Ok(Self { ranks: Ranks::new(&nodes), nodes, owners, shift: self.shift, pins })
    }

    /// The map that has a slot with this node, and keeps it there when it is [`rebalanced`](Self::rebalanced).
    ///
    /// To keep a key with a node, pin its [`slot`](Self::slot).
    ///
    /// # Errors
    ///
    /// If there is no such slot or no such node.
    ///
    /// ```
    /// use buttress::placement::{KeyHash, Placement, SlotMap};
    ///
    /// let map = SlotMap::new([("a", 1), ("b", 1), ("big", 0)])?;
    /// let tenant = KeyHash::of("tenant-7");
    /// let map = map.pinned(map.slot(tenant), "big")?;
    /// assert_eq!(map.locate(tenant), Some(2));
    /// # Ok::<(), buttress::placement::PlacementError>(())
    /// ```
    pub fn pinned(&self, slot: u16, id: &str) -> Result<Self, PlacementError> {
        let node = self.nodes.position(id).ok_or_else(|| PlacementError::UnknownNode { id: id.into() })?;
        let mut map = self.clone();
        *map.owners.get_mut(usize::from(slot)).ok_or(PlacementError::UnknownSlot { slot })? = number(node);
        map.pins.insert(slot);
        Ok(map)
    }

    /// The map in which a slot may move again. It stays where it is until then.
    #[must_use = "the map itself stays as it is"]
    pub fn unpinned(&self, slot: u16) -> Self {
        let mut map = self.clone();
        map.pins.remove(&slot);
        map
    }

    /// The slot of a key.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "at most 16 bits are left")]
    pub fn slot(&self, key: KeyHash) -> u16 {
        (key.get() >> self.shift) as u16
    }

    /// The position of the node that owns a slot.
    #[inline]
    pub fn owner(&self, slot: u16) -> Option<usize> {
        self.owners.get(usize::from(slot)).copied().filter(|&owner| owner != NOBODY).map(usize::from)
    }

    /// The positions of the nodes that own the slots, in order.
    pub fn owners(&self) -> impl ExactSizeIterator<Item = Option<usize>> {
        self.owners.iter().map(|&owner| (owner != NOBODY).then_some(usize::from(owner)))
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.owners.len()
    }

    /// The slots that are pinned, in order.
    pub fn pins(&self) -> impl ExactSizeIterator<Item = u16> {
        self.pins.iter().copied()
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

    /// For each node its number in another list.
    fn renumber(&self, nodes: &NodeList) -> Vec<u16> {
        let new = nodes.numbers();
        self.nodes.iter().map(|(id, _)| new.get(id).copied().unwrap_or(NOBODY)).collect()
    }
}

/// What those draw for that come behind the owner of a slot.
fn followers(slot: u16) -> u64 {
    KeyHash::of(&slot).get()
}

/// The new number of a node, if it had one.
fn lookup(renumber: &[u16], old: u16) -> u16 {
    renumber.get(usize::from(old)).copied().unwrap_or(NOBODY)
}

fn shift(slots: usize) -> Result<u32, PlacementError> {
    if slots < 2 || slots > MAX_SLOTS as usize || !slots.is_power_of_two() {
        return Err(PlacementError::SlotCount { slots });
    }
    Ok(u64::BITS - slots.ilog2())
}

impl Placement for SlotMap {
    #[inline]
    fn locate(&self, key: KeyHash) -> Option<usize> {
        self.owner(self.slot(key))
    }

    fn walk(&self, key: KeyHash, visit: &mut dyn FnMut(usize) -> bool) {
        let slot = self.slot(key);
        let owner = self.owner(slot);
        if owner.is_some_and(|owner| !visit(owner)) {
            return;
        }
        self.ranks.walk(followers(slot), |node| Some(node) == owner || visit(node));
    }

    fn len(&self) -> usize {
        self.nodes.len()
    }

    fn replicas(&self, key: KeyHash, count: usize) -> Replicas {
        let mut replicas = Replicas::default();
        let slot = self.slot(key);
        let owner = self.owner(slot);
        if count == 0 {
            return replicas;
        }
        if let Some(owner) = owner {
            replicas.push(owner);
        }
        if replicas.len() == count {
            return replicas;
        }
        for &node in &self.ranks.replicas(followers(slot), count) {
            if Some(node) != owner && replicas.len() < count {
                replicas.push(node);
            }
        }
        replicas
    }

    fn node(&self, position: usize) -> Option<(&str, u32)> {
        self.nodes.get(position)
    }
}

impl Ranges for SlotMap {
    fn ranges(&self) -> impl Iterator<Item = (u64, Option<usize>)> {
        let size = 1_u64 << self.shift;
        // The first hash of the slot after, less one; of the last slot, the last hash.
        (1_u64..)
            .zip(self.owners())
            .map(move |(next, owner)| (next.wrapping_mul(size).wrapping_sub(1), owner))
    }
}

impl PartialEq for SlotMap {
    fn eq(&self, other: &Self) -> bool {
        (&self.nodes, &self.owners, &self.pins) == (&other.nodes, &other.owners, &other.pins)
    }
}

impl Eq for SlotMap {}

impl fmt::Debug for SlotMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotMap")
            .field("nodes", &self.nodes.len())
            .field("slots", &self.owners.len())
            .field("pins", &self.pins.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
