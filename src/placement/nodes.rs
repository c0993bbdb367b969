//! The list of nodes that a placement is built from.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::PlacementError;

/// The most nodes that a placement can have. One number less than there are, for [`NOBODY`].
pub(super) const MAX_NODES: usize = u16::MAX as usize;

/// Stands where a node's number would, for none.
pub(super) const NOBODY: u16 = u16::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) id: Arc<str>,
    pub(super) weight: u32,
}

/// Nodes with distinct ids, at most [`MAX_NODES`] of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeList(Vec<Node>);

impl NodeList {
    pub(super) fn new<I: AsRef<str>>(
        nodes: impl IntoIterator<Item = (I, u32)>,
    ) -> Result<Self, PlacementError> {
        // One more than allowed is enough to know that there are too many, of a list however long.
        let nodes: Vec<_> = nodes
            .into_iter()
            .take(MAX_NODES + 1)
            .map(|(id, weight)| Node { id: id.as_ref().into(), weight })
            .collect();
        check_len(nodes.len())?;
        let mut ids = HashSet::with_capacity(nodes.len());
        match nodes.iter().find(|node| !ids.insert(&*node.id)) {
            Some(twice) => Err(PlacementError::DuplicateId { id: twice.id.to_string() }),
            None => Ok(Self(nodes)),
        }
    }

    /// The list with this node at its end, or with this weight for it where it was.
    pub(super) fn with(&self, id: &str, weight: u32) -> Result<Self, PlacementError> {
        let mut nodes = self.0.clone();
        match self.position(id) {
            Some(i) => nodes[i].weight = weight,
            None => nodes.push(Node { id: id.into(), weight }),
        }
        check_len(nodes.len())?;
        Ok(Self(nodes))
    }

    /// The list without the node at this position.
    pub(super) fn without(&self, position: usize) -> Self {
        let mut nodes = self.0.clone();
        nodes.remove(position);
        Self(nodes)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, u32)> {
        self.0.iter().map(|node| (&*node.id, node.weight))
    }

    pub(super) fn get(&self, position: usize) -> Option<(&str, u32)> {
        self.0.get(position).map(|node| (&*node.id, node.weight))
    }

    pub(super) fn id(&self, position: usize) -> Option<&str> {
        self.get(position).map(|(id, _)| id)
    }

    pub(super) fn shared_id(&self, position: usize) -> Option<Arc<str>> {
        self.0.get(position).map(|node| Arc::clone(&node.id))
    }

    pub(super) fn shared(&self) -> Vec<(Arc<str>, u32)> {
        self.0.iter().map(|node| (Arc::clone(&node.id), node.weight)).collect()
    }

    pub(super) fn position(&self, id: &str) -> Option<usize> {
        self.0.iter().position(|node| &*node.id == id)
    }

    /// The number of each node, by id.
    pub(super) fn numbers(&self) -> HashMap<&str, u16> {
        self.iter().enumerate().map(|(i, (id, _))| (id, number(i))).collect()
    }

    /// Number of nodes that may own keys.
    pub(super) fn owning(&self) -> usize {
        self.0.iter().filter(|node| node.weight > 0).count()
    }

    /// Orders nodes by id, for whatever must not depend on the order of the list.
    pub(super) fn by_id(&self) -> impl Fn(u16, u16) -> Ordering {
        |a, b| self.0[usize::from(a)].id.cmp(&self.0[usize::from(b)].id)
    }

    /// The numbers of all nodes, ordered by id.
    pub(super) fn sorted(&self) -> Vec<u16> {
        let mut numbers: Vec<_> = (0..self.len()).map(number).collect();
        numbers.sort_unstable_by(|&a, &b| self.by_id()(a, b));
        numbers
    }
}

fn check_len(len: usize) -> Result<(), PlacementError> {
    if len > MAX_NODES { Err(PlacementError::TooManyNodes { max: MAX_NODES }) } else { Ok(()) }
}

/// The number of the node at a position of a [`NodeList`].
pub(super) fn number(position: usize) -> u16 {
    u16::try_from(position).expect("a list of nodes is checked to be shorter than 2^16")
}
