//! Where a key lives: which node of a set owns it, and who comes next.
//!
//! A [`Placement`] maps the hash of a key to one node of a list, always the same one, and moves few keys when
//! the list changes. It knows nothing of health or load: those make a caller [`walk`](Placement::walk) on to
//! the next owner. Use it for caches spread over nodes, for sessions that should come back to the same
//! server, for shards.
//!
//! | placement | lookup | busiest of 100 / 1000 nodes | a node comes or goes | for |
//! |---|---|---|---|---|
//! | [`Ring`] | O(1) expected | 1.21 / 1.25 of the mean | only its own keys move | the default: caches, sessions, nodes that come and go |
//! | [`SlotMap`] | O(1), one load | 1.001 / 1.04 | by a plan, as few as can be | shards that hold data; the map is kept and handed out |
//! | [`Rendezvous`] | O(nodes) | as chance has it | only its own keys move | up to some 30 nodes, and the evenest replicas |
//! | [`Maglev`] | O(1), one load | 1.001 / 1.007 | some others move too: half as many / five times as many | traffic at a high rate that holds nothing |
//! | [`JumpShards`] | O(1) expected, no memory | as chance has it | at the end only; only its own keys move | numbered shards |
//! | `HashringPlacement` (feature `hashring`) | O(1) expected | as the ring | only its own keys move | leaving the `hashring` crate |
//! | `KetamaPlacement` (feature `ketama`) | O(1) expected | as the ring | only its own keys move | standing beside nginx or `pingora-ketama` |
//!
//! All but jump take weights, which are absolute: a node's weight has no say in how keys are shared between others.
//! `examples/placement_report.rs` prints these figures for your own numbers.
//!
//! ```
//! use buttress::placement::{KeyHash, Placement, Ring};
//!
//! let ring = Ring::new([("cache-a", 1), ("cache-b", 1), ("cache-c", 2)])?;
//! let key = KeyHash::of("user:42");
//!
//! // The owner, and the first two distinct nodes: the owner and its stand-in.
//! let owner = ring.locate(key).expect("the ring has nodes");
//! let copies = ring.replicas(key, 2);
//! assert_eq!(copies[0], owner);
//! println!("{} owns it, then {}", ring.id(owner).unwrap(), ring.id(copies[1]).unwrap());
//!
//! // A fourth node takes over some keys; no key moves between the other three.
//! let larger = ring.with("cache-d", 1)?;
//! let new = larger.locate(key).unwrap();
//! assert!(new == owner || larger.id(new) == Some("cache-d"));
//! # Ok::<(), buttress::placement::PlacementError>(())
//! ```
//!
//! # Before a change
//!
//! [`BalanceReport`] says how even a placement is, [`MovePlan`] which ranges of hashes would move from one to the
//! next and how much that is between which nodes, and [`SlotMap::plan`] which slots. [`Placement::zoned_replicas`]
//! spreads copies over [`Zones`], and says what is missing where there are too few.
//!
//! # What stays the same
//!
//! Placement is a promise about data at rest, so it does not change with versions of this crate, compilers or
//! machines:
//!
//! - the encoding and the hash of a key, as documented at [`ShardKey`] and [`KeyHash::from_ip`];
//! - who owns a key under each placement, as documented there.
//!
//! No floating-point number and no hash of the standard library takes part, but for `HashringPlacement`, which
//! cannot do without. Golden vectors in `tests/golden/placement.tsv` hold over ten thousand keys with their hashes
//! and their owners under every placement. A short Python program beside them, with its own XXH3, computes them
//! anew; it also shows how to place keys from another language. A different scheme will be a different type.

use std::{fmt::Debug, ops::Deref, sync::Arc};

mod balance;
mod jump;
mod key;
mod maglev;
mod movement;
mod nodes;
mod points;
mod rank;
mod rendezvous;
mod ring;
mod slots;
mod walk;
mod zones;

#[cfg(feature = "hashring")]
mod hashring;
#[cfg(feature = "ketama")]
mod ketama;

#[cfg(feature = "hashring")]
pub use self::hashring::HashringPlacement;
#[cfg(feature = "ketama")]
pub use self::ketama::KetamaPlacement;
pub use self::{
    balance::{BalanceReport, NodeShare},
    jump::JumpShards,
    key::{KeyEncoder, KeyHash, KeyHasher, ShardKey},
    maglev::Maglev,
    movement::{MovePlan, Movement, PairMove, RangeMove, Ranges},
    rendezvous::Rendezvous,
    ring::{Ring, RingBuilder},
    slots::{SlotMap, SlotMove, SlotPlan},
    zones::{Shortfall, ZonedReplicas, Zones},
};

/// Says which node of a list owns a key.
///
/// Nodes are numbered by their position in the list that the placement was built from. An implementation is a
/// snapshot: it never changes, and a new list makes a new one.
pub trait Placement: Send + Sync + Debug {
    /// The owner of a key; `None` if no node can own any.
    fn locate(&self, key: KeyHash) -> Option<usize>;

    /// Visits each node that can own keys once, the owner first, then the nodes that would own the key if
    /// those before them were gone. Stops when `visit` returns `false`.
    ///
    /// ```
    /// use buttress::placement::{KeyHash, Placement, Ring};
    ///
    /// let ring = Ring::new([("a", 1), ("b", 1), ("c", 1)])?;
    /// let healthy = [true, false, true];
    ///
    /// let mut chosen = None;
    /// ring.walk(KeyHash::of("user:42"), &mut |node| {
    ///     chosen = healthy[node].then_some(node);
    ///     chosen.is_none()
    /// });
    /// assert!(matches!(chosen, Some(0 | 2)));
    /// # Ok::<(), buttress::placement::PlacementError>(())
    /// ```
    fn walk(&self, key: KeyHash, visit: &mut dyn FnMut(usize) -> bool);

    /// Number of nodes in the list, with those that own nothing. Every position is below it.
    fn len(&self) -> usize;

    /// Whether the list has no nodes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `count` distinct nodes of the [`walk`](Self::walk), fewer if there are fewer.
    ///
    /// Asking for one more appends one and changes none. Up to 8 nodes take no allocation.
    fn replicas(&self, key: KeyHash, count: usize) -> Replicas {
        let mut replicas = Replicas::default();
        if count > 0 {
            self.walk(key, &mut |node| {
                replicas.push(node);
                replicas.len < count
            });
        }
        replicas
    }

    /// The first `count` distinct nodes when zones take turns: the first node of each zone in the order of the
    /// [`walk`](Self::walk), then the second of each, and so on.
    ///
    /// So no zone has two copies before every other has one, and the owner is still the first. Asking for one
    /// more appends one and changes none. If there are fewer nodes or fewer zones than copies, the
    /// [`shortfall`](ZonedReplicas::shortfall) says so. Up to 8 nodes take no allocation.
    fn zoned_replicas(&self, key: KeyHash, count: usize, zones: &Zones) -> ZonedReplicas {
        zones::deal(&zones::From(self, key), count, zones)
    }

    /// The id and the weight of the node at a position, where the placement knows them.
    fn node(&self, position: usize) -> Option<(&str, u32)> {
        let _ = position;
        None
    }
}

macro_rules! pointer_placement {
    ($($type:ty)*) => {$(
        impl<P: Placement + ?Sized> Placement for $type {
            fn locate(&self, key: KeyHash) -> Option<usize> {
                (**self).locate(key)
            }

            fn walk(&self, key: KeyHash, visit: &mut dyn FnMut(usize) -> bool) {
                (**self).walk(key, visit);
            }

            fn len(&self) -> usize {
                (**self).len()
            }

            fn replicas(&self, key: KeyHash, count: usize) -> Replicas {
                (**self).replicas(key, count)
            }

            fn zoned_replicas(&self, key: KeyHash, count: usize, zones: &Zones) -> ZonedReplicas {
                (**self).zoned_replicas(key, count, zones)
            }

            fn node(&self, position: usize) -> Option<(&str, u32)> {
                (**self).node(position)
            }
        }
    )*};
}

pointer_placement! { &P Box<P> Arc<P> }

/// Replica sets up to this size stay on the stack. Few stores keep more copies.
const INLINE_REPLICAS: usize = 8;

/// Distinct nodes in order of preference: what [`Placement::replicas`] answers. A slice in all but name.
#[derive(Clone, Debug, Default)]
pub struct Replicas {
    inline: [usize; INLINE_REPLICAS],
    len: usize,
    /// Holds everything, once `inline` is too small.
    spill: Vec<usize>,
}

impl Replicas {
    #[inline]
    fn push(&mut self, node: usize) {
        match self.inline.get_mut(self.len) {
            Some(room) => *room = node,
            None => self.push_to_spill(node),
        }
        self.len += 1;
    }

    #[cold]
    fn push_to_spill(&mut self, node: usize) {
        if self.spill.is_empty() {
            self.spill.extend_from_slice(&self.inline);
        }
        self.spill.push(node);
    }

    /// The nodes, the owner first.
    pub fn as_slice(&self) -> &[usize] {
        if self.spill.is_empty() { &self.inline[..self.len] } else { &self.spill }
    }
}

impl Deref for Replicas {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        self.as_slice()
    }
}

impl<'a> IntoIterator for &'a Replicas {
    type Item = &'a usize;
    type IntoIter = std::slice::Iter<'a, usize>;

    fn into_iter(self) -> Self::IntoIter {
        self.as_slice().iter()
    }
}

impl PartialEq for Replicas {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Replicas {}

/// Why a placement could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// Two nodes of the list have the same id.
    #[error("node {id:?} is listed twice: give each node its own id")]
    DuplicateId {
        /// The id that occurs more than once.
        id: String,
    },
    /// The number of virtual nodes per unit of weight is zero.
    #[error("a ring without virtual nodes places nothing: ask for at least 1, better 100 or more")]
    ZeroVnodes,
    /// The list has too many nodes.
    #[error("too many nodes to place: {max} is the most")]
    TooManyNodes {
        /// The most nodes that a placement can have.
        max: usize,
    },
    /// Weights and virtual nodes together ask for more points than allowed.
    #[error(
        "the nodes ask for {points} points and {max} are allowed: lower the weights or the virtual nodes"
    )]
    TooManyPoints {
        /// Points asked for: the sum of the weights times the virtual nodes.
        points: u64,
        /// Points allowed.
        max: usize,
    },
    /// The size of a table is not a prime, or too large.
    #[error("a table of {size} entries cannot be: take a prime up to 16777216, such as 65537 or 655373")]
    TableSize {
        /// The size asked for.
        size: u32,
    },
    /// The number of slots is not a power of two, or is not that of the other map.
    #[error("{slots} slots do not fit: a map has a power of two from 2 to 65536, the same for ever")]
    SlotCount {
        /// The number of slots.
        slots: usize,
    },
    /// There is no such slot.
    #[error("there is no slot {slot}")]
    UnknownSlot {
        /// The number of the slot.
        slot: u16,
    },
    /// No node of the list has this id or position.
    #[error("there is no node {id:?} in the list")]
    UnknownNode {
        /// The id or position.
        id: String,
    },
    /// A plan was made for another map.
    #[error("slot {slot} is not where the plan has it: make a new plan from the map as it is")]
    StalePlan {
        /// A slot that shows it.
        slot: u16,
    },
    /// Shards cannot grow or shrink by so many.
    #[error("{count} shards cannot change by {change}: there may be from 0 to 4294967295")]
    ShardCount {
        /// Shards that there are.
        count: u32,
        /// By how much their number was to change.
        change: i64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_to_8_replicas_take_no_allocation() {
        let ring = Ring::new((0..20).map(|i| (i.to_string(), 1))).unwrap();
        let key = KeyHash::of("key");
        assert_eq!(ring.replicas(key, 8).spill.capacity(), 0);
        assert_eq!(ring.replicas(key, 9).as_slice()[..8], *ring.replicas(key, 8));
        assert_eq!(ring.replicas(key, usize::MAX).iter().count(), 20);
    }

    #[test]
    fn the_provided_replicas_are_those_of_the_ring() {
        /// Leaves out whatever the ring does faster on its own.
        #[derive(Debug)]
        struct Plain(Ring);
        impl Placement for Plain {
            fn locate(&self, key: KeyHash) -> Option<usize> {
                self.0.locate(key)
            }
            fn walk(&self, key: KeyHash, visit: &mut dyn FnMut(usize) -> bool) {
                self.0.walk(key, visit);
            }
            fn len(&self) -> usize {
                self.0.len()
            }
        }
        let ring = Ring::builder().vnodes(3).build((0..100).map(|i| (i.to_string(), i % 4))).unwrap();
        let plain = Plain(ring.clone());
        for key in 0..100 {
            let key = KeyHash::of(&key);
            for count in [0, 1, 2, 8, 9, 16, 17, 75, 76, 1000] {
                assert_eq!(plain.replicas(key, count), ring.replicas(key, count));
            }
        }
    }
}
