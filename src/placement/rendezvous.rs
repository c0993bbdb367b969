//! Rendezvous hashing, with weights.

use std::fmt;

use super::{KeyHash, Placement, PlacementError, Replicas, nodes::NodeList, rank::Ranks};

/// Places keys by rendezvous, or highest random weight (Thaler, Ravishankar, 1996): each node draws a number
/// for the key, and the highest draw owns it.
///
/// Shares are as even as chance allows and follow the weights; a node that comes or goes moves its own keys
/// and no others; the nodes behind the owner are the next best draws, so that the keys of a node that goes are
/// spread over all others. For that, each lookup asks every node: the right choice for up to some 30 nodes.
///
/// **Draws.** A node's mask and factor are the hashes of its first two points (see [`Ring`](super::Ring)), the
/// factor with its lowest bit set. Its draw is the 128-bit product of the factor and of key xor mask, the upper
/// half xor the lower. With weights, the lowest −log₂(draw / 2⁶⁴) / weight wins, in integers: logarithms have
/// 48 bits after the point and come from a table of 256 with straight lines between, which is within 0.2 % of a
/// share. Of equal ones the highest draw wins, of equal draws the id that sorts first.
///
/// **Cost.** [`locate`](Placement::locate) is O(nodes), a multiplication each; with unequal weights about three
/// times that. Up to 8 replicas take one pass. A node takes 24 bytes and its id.
///
/// ```
/// use buttress::placement::{KeyHash, Placement, Rendezvous};
///
/// let nodes = Rendezvous::new([("a", 1), ("b", 1), ("c", 2)])?;
/// let owner = nodes.locate(KeyHash::of("user:42")).unwrap();
/// let left = nodes.without(nodes.id(owner).unwrap());
///
/// // The next in line takes over.
/// let next = nodes.replicas(KeyHash::of("user:42"), 2)[1];
/// assert_eq!(left.id(left.locate(KeyHash::of("user:42")).unwrap()), nodes.id(next));
/// # Ok::<(), buttress::placement::PlacementError>(())
/// ```
#[derive(Clone)]
pub struct Rendezvous {
    nodes: NodeList,
    ranks: Ranks,
}

impl Rendezvous {
    /// Takes in nodes and their weights. A node of weight 0 keeps its position and owns nothing.
    ///
    /// # Errors
    ///
    /// If an id occurs twice or there are more than 65 535 nodes.
    pub fn new<I: AsRef<str>>(nodes: impl IntoIterator<Item = (I, u32)>) -> Result<Self, PlacementError> {
        Ok(Self::place(NodeList::new(nodes)?))
    }

    /// The same with this node at the end of the list, or with this weight for it where it was.
    ///
    /// # Errors
    ///
    /// If there would be too many nodes.
    pub fn with(&self, id: &str, weight: u32) -> Result<Self, PlacementError> {
        Ok(Self::place(self.nodes.with(id, weight)?))
    }

    /// The same without this node. Nodes after it in the list move up by one.
    #[must_use = "the placement itself stays as it is"]
    pub fn without(&self, id: &str) -> Self {
        match self.position(id) {
            Some(gone) => Self::place(self.nodes.without(gone)),
            None => self.clone(),
        }
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

    fn place(nodes: NodeList) -> Self {
        let ranks = Ranks::new(&nodes);
        Self { nodes, ranks }
    }
}

impl Placement for Rendezvous {
    #[inline]
    fn locate(&self, key: KeyHash) -> Option<usize> {
        self.ranks.first(key.get())
    }

    fn walk(&self, key: KeyHash, visit: &mut dyn FnMut(usize) -> bool) {
        self.ranks.walk(key.get(), visit);
    }

    fn len(&self) -> usize {
        self.nodes.len()
    }

    fn replicas(&self, key: KeyHash, count: usize) -> Replicas {
        self.ranks.replicas(key.get(), count)
    }

    fn node(&self, position: usize) -> Option<(&str, u32)> {
        self.nodes.get(position)
    }
}

impl fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendezvous").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
