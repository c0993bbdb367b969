//! A consistent-hash ring with virtual nodes and weights.

use std::fmt;

use super::{
    KeyHash, Placement, PlacementError, Ranges, Replicas, ZonedReplicas, Zones,
    key::PointEncoder,
    nodes::{NOBODY, NodeList, number},
    points::{Change, Point, Points, sort_points},
    zones,
};

/// Keeps the busiest of 100 nodes within a quarter of the mean, of 1000 nodes within about a third.
const DEFAULT_VNODES: u32 = 160;

/// Room for 1000 nodes with 160 virtual nodes and a mean weight of 26; takes about 60 MB.
const DEFAULT_MAX_POINTS: usize = 1 << 22;

/// The index counts points in 32 bits. Half of that leaves room for sums.
const LIMIT_POINTS: usize = 1 << 31;

/// Places keys by consistent hashing with virtual nodes (Karger et al., 1997).
///
/// Each node puts points on a circle of 2⁶⁴ places, and owns the keys between the point before and its own. A
/// node that comes takes keys from all others evenly, one that goes leaves them to all others evenly, and no
/// key moves between two nodes that stay. The right choice for caches and session affinity, where membership
/// changes as machines do. Stateful shards, where every move costs a copy, want fewer and planned moves.
///
/// **Points.** A node of weight `w` has `w × vnodes` points, numbered from 0: more weight adds points and
/// moves no other node's keys. A point is the XXH3-64 of byte `09`, the node's id encoded as a key, and the
/// point's number encoded as a key (see [`ShardKey`](super::ShardKey)), with the seed that structured keys
/// have. A key belongs to the first point whose hash is not below its own, round the circle; of points in one
/// place, to the node whose id sorts first as bytes. The order of the list has no say in this: it only
/// numbers the nodes.
///
/// **Balance.** A node's share varies by one part in √(points of the node): 8 % at the 160 virtual nodes that
/// are the default. The busiest of 100 nodes is then at about 1.2 times the mean, of 1000 at about 1.3. Only
/// more virtual nodes improve on that.
///
/// **Cost.** [`locate`](Placement::locate) is O(1) expected, O(log points) at worst;
/// [`walk`](Placement::walk) takes a few steps per node, O(points) at worst. A point takes 13 to 16 bytes.
/// Building is O(points); [`with`](Self::with), [`without`](Self::without) and [`rebuild`](Self::rebuild)
/// only copy the points that stay.
///
/// ```
/// use buttress::placement::{KeyHash, Placement, Ring};
///
/// let ring = Ring::builder().vnodes(200).build([("a", 1), ("b", 1), ("big", 4)])?;
/// let mut shares = [0; 3];
/// for user in 0..10_000 {
///     shares[ring.locate(KeyHash::of(&("user", user))).unwrap()] += 1;
/// }
/// assert!(shares[2] > 3 * shares[0] && shares[2] > 3 * shares[1]);
///
/// // Drain a node: it keeps its place in the list and owns nothing.
/// let drained = ring.with("a", 0)?;
/// assert_ne!(drained.locate(KeyHash::of("key")), Some(0));
/// # Ok::<(), buttress::placement::PlacementError>(())
/// ```
#[derive(Clone)]
pub struct Ring {
    builder: RingBuilder,
    nodes: NodeList,
    points: Points,
}

impl Ring {
    /// Builds a ring with 160 virtual nodes per unit of weight.
    ///
    /// # Errors
    ///
    /// As [`RingBuilder::build`].
    pub fn new<I: AsRef<str>>(nodes: impl IntoIterator<Item = (I, u32)>) -> Result<Self, PlacementError> {
        Self::builder().build(nodes)
    }

    /// Starts from the defaults: 160 virtual nodes, at most 4 194 304 points.
    pub fn builder() -> RingBuilder {
        RingBuilder { vnodes: DEFAULT_VNODES, max_points: DEFAULT_MAX_POINTS, mask: u64::MAX }
    }

    /// A ring of the same settings over another list. Nodes that stay keep their points, whatever their new
    /// position.
    ///
    /// Equal to building afresh, and faster the less has changed: points that stay are copied in order, only
    /// new ones are hashed and sorted.
    ///
    /// # Errors
    ///
    /// As [`RingBuilder::build`].
    pub fn rebuild<I: AsRef<str>>(
        &self,
        nodes: impl IntoIterator<Item = (I, u32)>,
    ) -> Result<Self, PlacementError> {
        let nodes = self.builder.check(NodeList::new(nodes)?)?;
        let new = nodes.numbers();
        let moves: Vec<_> = self.nodes.iter().map(|(id, _)| new.get(id).copied().map(usize::from)).collect();
        Ok(self.change(nodes, &moves))
    }

    /// A ring that also has this node, at the end of the list; or that has it with this weight, where it was.
    ///
    /// # Errors
    ///
    /// If the ring would have too many nodes or points.
    ///
    /// ```
    /// use buttress::placement::{Placement, Ring};
    ///
    /// let ring = Ring::new([("a", 1)])?.with("b", 1)?.with("a", 3)?;
    /// assert_eq!(ring.nodes().collect::<Vec<_>>(), [("a", 3), ("b", 1)]);
    /// assert_eq!(ring.without("a").len(), 1);
    /// # Ok::<(), buttress::placement::PlacementError>(())
    /// ```
    pub fn with(&self, id: &str, weight: u32) -> Result<Self, PlacementError> {
        let nodes = self.builder.check(self.nodes.with(id, weight)?)?;
        Ok(self.change(nodes, &(0..self.nodes.len()).map(Some).collect::<Vec<_>>()))
    }

    /// A ring that lacks this node. Nodes after it in the list move up by one.
    #[must_use = "the ring itself stays as it is"]
    pub fn without(&self, id: &str) -> Self {
        let Some(gone) = self.position(id) else { return self.clone() };
        let moves: Vec<_> = (0..self.nodes.len())
            .map(|i| if i == gone { None } else { Some(i - usize::from(i > gone)) })
            .collect();
        self.change(self.nodes.without(gone), &moves)
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

    /// Number of points on the circle.
    pub fn points(&self) -> usize {
        self.points.len()
    }

    /// Virtual nodes per unit of weight.
    pub fn vnodes(&self) -> u32 {
        self.builder.vnodes
    }

    /// Derives a ring; `moves` has for each node of `self` its position in `nodes`.
    fn change(&self, nodes: NodeList, moves: &[Option<usize>]) -> Self {
        let mut had = vec![0; nodes.len()];
        let mut renumber = vec![NOBODY; self.nodes.len()];
        let mut dropped = Vec::new();
        for (old, ((id, weight), &new)) in self.nodes.iter().zip(moves).enumerate() {
            let keeps = new.and_then(|new| nodes.get(new)).map_or(0, |(_, new)| new.min(weight));
            self.builder.points_of(id, keeps..weight, old, &mut dropped);
            if let Some(new) = new.filter(|_| keeps > 0) {
                had[new] = keeps;
                renumber[old] = number(new);
            }
        }
        let mut added = Vec::new();
        for (new, (id, weight)) in nodes.iter().enumerate() {
            self.builder.points_of(id, had[new]..weight, new, &mut added);
        }
        if added.len() + dropped.len() >= self.points.len() {
            return self.builder.place(nodes);
        }
        sort_points(&mut added, nodes.by_id());
        sort_points(&mut dropped, |a, b| a.cmp(&b));
        let change = Change { renumber, added, dropped, nodes: nodes.len(), owning: nodes.owning() };
        let points = self.points.merge(&change, nodes.by_id());
        Self { builder: self.builder.clone(), nodes, points }
    }
}

impl Placement for Ring {
    #[inline]
    fn locate(&self, key: KeyHash) -> Option<usize> {
        self.points.locate(key.get())
    }

    fn walk(&self, key: KeyHash, visit: &mut dyn FnMut(usize) -> bool) {
        self.points.from(key.get()).walk(visit);
    }

    fn len(&self) -> usize {
        self.nodes.len()
    }

    fn replicas(&self, key: KeyHash, count: usize) -> Replicas {
        self.points.from(key.get()).replicas(count)
    }

    fn zoned_replicas(&self, key: KeyHash, count: usize, zones: &Zones) -> ZonedReplicas {
        zones::deal(&self.points.from(key.get()), count, zones)
    }

    fn node(&self, position: usize) -> Option<(&str, u32)> {
        self.nodes.get(position)
    }
}

impl Ranges for Ring {
    fn ranges(&self) -> impl Iterator<Item = (u64, Option<usize>)> {
        self.points.ranges()
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("nodes", &self.nodes.len())
            .field("vnodes", &self.builder.vnodes)
            .field("points", &self.points.len())
            .finish()
    }
}

/// Settings of a [`Ring`].
///
/// All parties that place the same keys need the same number of virtual nodes.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct RingBuilder {
    vnodes: u32,
    max_points: usize,
    /// Bits of a point's hash that count. All of them; tests leave out most, so that points coincide.
    mask: u64,
}

impl RingBuilder {
    /// Points per unit of weight: 160 unless set.
    ///
    /// More make shares more even and the ring larger. If all weights are large, fewer will do.
    pub fn vnodes(mut self, vnodes: u32) -> Self {
        self.vnodes = vnodes;
        self
    }

    /// The most points that a ring may have: 4 194 304 unless set, 2³¹ at most.
    ///
    /// Keeps a mistaken weight from taking all memory.
    pub fn max_points(mut self, max: usize) -> Self {
        self.max_points = max.min(LIMIT_POINTS);
        self
    }

    /// Builds a ring of nodes and their weights. O(points).
    ///
    /// A node of weight 0 keeps its position and owns nothing. A ring may be empty; it then places nothing.
    ///
    /// # Errors
    ///
    /// If an id occurs twice, if there are to be no virtual nodes, or if there are more than 65 535 nodes or
    /// more points than [`max_points`](Self::max_points).
    ///
    /// ```
    /// use buttress::placement::{PlacementError, Ring};
    ///
    /// let error = Ring::new([("a", 1), ("b", u32::MAX)]).unwrap_err();
    /// assert!(matches!(error, PlacementError::TooManyPoints { .. }));
    /// ```
    pub fn build<I: AsRef<str>>(
        &self,
        nodes: impl IntoIterator<Item = (I, u32)>,
    ) -> Result<Ring, PlacementError> {
        Ok(self.place(self.check(NodeList::new(nodes)?)?))
    }

    /// Lets a list through that can be placed.
    fn check(&self, nodes: NodeList) -> Result<NodeList, PlacementError> {
        if self.vnodes == 0 {
            return Err(PlacementError::ZeroVnodes);
        }
        let points = nodes
            .iter()
            .map(|(_, weight)| u64::from(weight) * u64::from(self.vnodes))
            .fold(0, u64::saturating_add);
        if points > self.max_points as u64 {
            return Err(PlacementError::TooManyPoints { points, max: self.max_points });
        }
        Ok(nodes)
    }

    fn place(&self, nodes: NodeList) -> Ring {
        let mut all = Vec::new();
        for (i, (id, weight)) in nodes.iter().enumerate() {
            self.points_of(id, 0..weight, i, &mut all);
        }
        let points = Points::sort(&all, nodes.len(), nodes.owning(), nodes.by_id());
        Ring { builder: self.clone(), nodes, points }
    }

    /// Appends the points that a node has for a range of its weight.
    fn points_of(&self, id: &str, weight: std::ops::Range<u32>, position: usize, to: &mut Vec<Point>) {
        if weight.is_empty() {
            return;
        }
        let vnodes = u64::from(self.vnodes);
        let node = number(position);
        let mut encoder = PointEncoder::new(id);
        let numbers = u64::from(weight.start) * vnodes..u64::from(weight.end) * vnodes;
        to.extend(numbers.map(|i| Point { hash: encoder.hash(i) & self.mask, node }));
    }
}

#[cfg(test)]
mod tests;
