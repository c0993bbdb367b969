//! From one map to another, as data.

use std::{collections::BTreeSet, sync::Arc};

use super::{SlotMap, lookup};
use crate::placement::{
    PlacementError,
    nodes::{NOBODY, NodeList},
    rank::Ranks,
};

/// What turns one [`SlotMap`] into another. Plain data, to be kept and carried out piece by piece.
///
/// Made by [`SlotMap::plan`], carried out by [`SlotMap::apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SlotPlan {
    /// Number of slots of the map that it is for.
    pub slots: usize,
    /// The nodes and their weights afterwards, as listed.
    pub nodes: Vec<(Arc<str>, u32)>,
    /// The slots that are pinned afterwards.
    pub pins: BTreeSet<u16>,
    /// The slots that move, in order.
    pub moves: Vec<SlotMove>,
}

/// One slot that moves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SlotMove {
    /// Its number.
    pub slot: u16,
    /// The node that has it, if one has.
    pub from: Option<Arc<str>>,
    /// The node that gets it, if one does.
    pub to: Option<Arc<str>>,
}

impl SlotMap {
    /// What turns this map into another. O(slots).
    ///
    /// # Errors
    ///
    /// If the other map has another number of slots.
    pub fn plan(&self, target: &Self) -> Result<SlotPlan, PlacementError> {
        if self.slots() != target.slots() {
            return Err(PlacementError::SlotCount { slots: target.slots() });
        }
        let id = |map: &Self, node: u16| map.nodes.shared_id(usize::from(node));
        let renumber = self.renumber(&target.nodes);
        let moves = (0..=u16::MAX)
            .zip(self.owners.iter().zip(&target.owners))
            .filter(|&(_, (&from, &to))| lookup(&renumber, from) != to || (from == NOBODY) != (to == NOBODY))
            .map(|(slot, (&from, &to))| SlotMove { slot, from: id(self, from), to: id(target, to) })
            .collect();
        Ok(SlotPlan { slots: self.slots(), nodes: target.nodes.shared(), pins: target.pins.clone(), moves })
    }

    /// The map after a plan, or after one of its [`steps`](SlotPlan::steps).
    ///
    /// A slot that has moved already is left alone, so a step whose end was not recorded may be applied again.
    ///
    /// # Errors
    ///
    /// If the plan does not fit: it is for another number of slots, moves a slot from a node that does not have
    /// it or to one that is not listed, or drops a node that still has slots.
    pub fn apply(&self, plan: &SlotPlan) -> Result<Self, PlacementError> {
        if self.slots() != plan.slots {
            return Err(PlacementError::SlotCount { slots: plan.slots });
        }
        let nodes = NodeList::new(plan.nodes.iter().map(|(id, weight)| (id, *weight)))?;
        let (numbers, renumber) = (nodes.numbers(), self.renumber(&nodes));
        let mut owners: Vec<_> = self.owners.iter().map(|&old| lookup(&renumber, old)).collect();
        for SlotMove { slot, from, to } in &plan.moves {
            let unknown = PlacementError::UnknownSlot { slot: *slot };
            let owner = self.owners.get(usize::from(*slot)).ok_or(unknown)?;
            let owner = self.nodes.shared_id(usize::from(*owner));
            if owner != *from && owner != *to {
                return Err(PlacementError::StalePlan { slot: *slot });
            }
            owners[usize::from(*slot)] = match to {
                Some(id) => {
                    *numbers.get(&**id).ok_or_else(|| PlacementError::UnknownNode { id: id.to_string() })?
                }
                None => NOBODY,
            };
        }
        let moved: BTreeSet<_> = plan.moves.iter().map(|step| step.slot).collect();
        for (slot, (&old, &new)) in (0..=u16::MAX).zip(self.owners.iter().zip(&owners)) {
            if old != NOBODY && new == NOBODY && !moved.contains(&slot) {
                return Err(PlacementError::StalePlan { slot });
            }
        }
        if let Some(&slot) = plan.pins.iter().find(|slot| usize::from(**slot) >= owners.len()) {
            return Err(PlacementError::UnknownSlot { slot });
        }
        Ok(Self { ranks: Ranks::new(&nodes), nodes, owners, shift: self.shift, pins: plan.pins.clone() })
    }
}

impl SlotPlan {
    /// The same plan in pieces of so many moves, at least 1, to be applied in order.
    ///
    /// Nodes that are to go stay at the end of the list, with weight 0, until the last piece.
    pub fn steps(&self, moves: usize) -> impl Iterator<Item = SlotPlan> {
        let listed: BTreeSet<_> = self.nodes.iter().map(|(id, _)| id).collect();
        let leaving: BTreeSet<_> = self
            .moves
            .iter()
            .filter_map(|step| step.from.as_ref())
            .filter(|id| !listed.contains(id))
            .collect();
        let mut nodes = self.nodes.clone();
        nodes.extend(leaving.into_iter().map(|id| (Arc::clone(id), 0)));
        let moves = moves.max(1);
        let count = self.moves.len().div_ceil(moves).max(1);
        (0..count).map(move |i| {
            let (from, to) = (i * moves, ((i + 1) * moves).min(self.moves.len()));
            let last = i + 1 == count;
            SlotPlan {
                slots: self.slots,
                nodes: if last { self.nodes.clone() } else { nodes.clone() },
                pins: self.pins.clone(),
                moves: self.moves[from..to].to_vec(),
            }
        })
    }
}

/// A map as it is stored.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Stored {
    nodes: Vec<(Arc<str>, u32)>,
    /// Positions of nodes; 65535 is nobody.
    owners: Vec<u16>,
    pins: BTreeSet<u16>,
}

#[cfg(feature = "serde")]
impl From<SlotMap> for Stored {
    fn from(map: SlotMap) -> Self {
        Self { nodes: map.nodes.shared(), owners: map.owners, pins: map.pins }
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Stored> for SlotMap {
    type Error = PlacementError;

    fn try_from(stored: Stored) -> Result<Self, PlacementError> {
        let owners = stored.owners.iter().map(|&owner| (owner != NOBODY).then_some(usize::from(owner)));
        let mut map = Self::from_owners(stored.nodes, owners)?;
        if let Some(&slot) = stored.pins.iter().find(|slot| usize::from(**slot) >= map.slots()) {
            return Err(PlacementError::UnknownSlot { slot });
        }
        map.pins = stored.pins;
        Ok(map)
    }
}
