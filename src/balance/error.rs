//! Why a request was not answered.

use std::{error, fmt, time::Duration};

use crate::cluster::NodeId;

/// Why [`Balance`](super::Balance) has no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error<E> {
    /// No node could take the request, or none but those that had failed it.
    NoNode(NoNode),
    /// Every node was full, and so was the queue. The request was sent nowhere.
    QueueFull,
    /// Every node was full for as long as the queue lets a request wait. It was sent nowhere.
    QueueTimeout(Duration),
    /// No answer came in the time that the request or its last try had.
    Timeout {
        /// How long that was.
        limit: Duration,
        /// The node that had the request then. `None` if it was waiting for one.
        node: Option<NodeId>,
        /// How many nodes had it in all.
        tries: u32,
    },
    /// A node was chosen, and failed.
    Node {
        /// Which one.
        node: NodeId,
        /// What it said.
        source: E,
    },
}

impl<E> Error<E> {
    /// Whether the request was sent to no node, so that sending it again cannot do anything twice. False where a node was
    /// chosen, even if it never became ready. (A [`Retry`](super::Retry) may have sent it to nodes that failed it, where it
    /// may be repeated.)
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::NoNode(nodes) => nodes.tried == 0,
            Self::QueueFull | Self::QueueTimeout(_) => true,
            Self::Timeout { tries, .. } => *tries == 0,
            Self::Node { .. } => false,
        }
    }

    /// Whether there is too much to do for the nodes that there are.
    pub fn is_overload(&self) -> bool {
        match self {
            Self::QueueFull | Self::QueueTimeout(_) => true,
            Self::NoNode(nodes) => nodes.full > 0,
            Self::Timeout { .. } | Self::Node { .. } => false,
        }
    }

    /// The error of the node, if one was reached.
    pub fn into_node_error(self) -> Option<E> {
        match self {
            Self::Node { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNode(nodes) => nodes.fmt(f),
            Self::QueueFull => f.write_str("every node is full, and so is the queue"),
            Self::QueueTimeout(waited) => write!(f, "every node stayed full for {waited:?}"),
            Self::Timeout { limit, node: Some(node), .. } => {
                write!(f, "node {node} gave no answer, and {limit:?} were over")
            }
            Self::Timeout { limit, node: None, .. } => write!(f, "no node took the request within {limit:?}"),
            Self::Node { node, .. } => write!(f, "node {node} failed"),
        }
    }
}

impl<E: error::Error + 'static> error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Node { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why no node of a cluster could take a request: how many were in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoNode {
    /// Nodes that are draining, have weight 0 or are down by the operator's word.
    pub inactive: usize,
    /// Nodes that health checks found down or draining, or that are ejected for what became of their requests.
    pub unhealthy: usize,
    /// Nodes that have as much in flight as they may.
    pub full: usize,
    /// Nodes that this request was tried on before.
    pub tried: usize,
    /// Whether one node alone was asked, because the request is [pinned](super::Affinity::Require) to it.
    pub is_pinned: bool,
}

impl fmt::Display for NoNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_pinned {
            "the node that the request is pinned to cannot take it: "
        } else {
            "no node can take the request: "
        })?;
        let states = [
            (self.unhealthy, "unhealthy"),
            (self.inactive, "inactive"),
            (self.full, "full"),
            (self.tried, "already tried"),
        ];
        let mut separator = "";
        for (count, state) in states.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{separator}{count} {state}")?;
            separator = ", ";
        }
        match (separator, self.is_pinned) {
            ("", true) => f.write_str("it is not there"),
            ("", false) => f.write_str("the cluster is empty"),
            _ => Ok(()),
        }
    }
}

impl error::Error for NoNode {}
