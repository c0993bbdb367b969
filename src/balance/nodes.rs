//! The nodes that a policy chooses among.

use std::{ops::Index, sync::Arc, time::Instant};

use crate::cluster::{Member, NodeState};

/// The nodes that a picker chooses among: active ones of one priority and zone, in the order of their ids.
///
/// Which of them are healthy changes from pick to pick: [`PickCx::can_take`](super::PickCx::can_take) says.
#[derive(Clone, Debug)]
pub struct Nodes {
    members: Vec<Arc<Member>>,
    /// Those of the members, one step nearer.
    states: Vec<Arc<NodeState>>,
    origin: Instant,
}

impl Nodes {
    pub(crate) fn new(members: Vec<Arc<Member>>, origin: Instant) -> Self {
        let states = members.iter().map(|member| Arc::clone(&member.state)).collect();
        Self { members, states, origin }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The node at an index, if there is one.
    pub fn get(&self, index: usize) -> Option<&Arc<Member>> {
        self.members.get(index)
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<Member>> {
        self.members.iter()
    }

    /// One more than the highest slot: the length of an array that has room for each node's slot.
    pub fn slots(&self) -> usize {
        self.iter().map(|member| member.slot() + 1).max().unwrap_or(0)
    }

    /// The state of each, in the same order.
    pub fn states(&self) -> &[Arc<NodeState>] {
        &self.states
    }

    pub(crate) fn origin(&self) -> Instant {
        self.origin
    }
}

impl Index<usize> for Nodes {
    type Output = Arc<Member>;

    fn index(&self, index: usize) -> &Arc<Member> {
        &self.members[index]
    }
}

impl<'a> IntoIterator for &'a Nodes {
    type Item = &'a Arc<Member>;
    type IntoIter = std::slice::Iter<'a, Arc<Member>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
