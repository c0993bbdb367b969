//! A client that belongs to one node.

use crate::{cluster::NodeId, placement::KeyHash};

/// The node that a request should go to before any that a policy would choose.
///
/// It is honoured while the node is active or draining, healthy (or health is ignored, in panic), was not tried before and
/// has room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// To this node if it can take the request, else wherever the policy says.
    Prefer(NodeId),
    /// To this node or nowhere: if it cannot take the request, that fails with [`Error::NoNode`](super::Error), or waits in
    /// the [queue](super::Balance::queue) while the node is full.
    Require(NodeId),
}

impl Affinity {
    /// The node.
    pub fn node(&self) -> &NodeId {
        match self {
            Self::Prefer(node) | Self::Require(node) => node,
        }
    }
}

/// What is asked of a chooser for one request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted<'a> {
    pub(super) key: Option<KeyHash>,
    pub(super) affinity: Option<&'a Affinity>,
    pub(super) tried: &'a [NodeId],
}
