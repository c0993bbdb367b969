//! What is said about a node: its name, weight, zone, priority and admin state.

use std::{borrow::Borrow, fmt, num::NonZeroU32, sync::Arc};

/// The name of a node, unique within its cluster.
///
/// State, placement and pins are keyed by it, so it should outlive addresses: `"web-3"` rather than `"10.0.0.7:8080"`
/// where there is a choice. Clones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for NodeId {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl AsRef<str> for NodeId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Control characters are escaped: names may come from outside and end up in logs.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.chars().any(char::is_control) {
            write!(f, "{}", self.0.escape_debug())
        } else {
            f.pad(&self.0)
        }
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// What the operator wants of a node, apart from how healthy it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Admin {
    /// Takes traffic.
    #[default]
    Active,
    /// Finishes what it has and serves clients that are pinned to it; gets no new picks.
    Draining,
    /// Gets nothing.
    Down,
}

/// One node of a [`Cluster`](super::Cluster), as configuration or discovery describes it.
///
/// Only the id is its identity: everything else may change under it, and its counters, latency estimate and health
/// stay.
///
/// ```
/// use buttress::cluster::{Admin, Node};
///
/// let node = Node::new("web-1").weight(3).zone("eu-central-1a").max_in_flight(200);
/// assert_eq!(node.id.as_str(), "web-1");
/// assert_eq!(node.admin, Admin::Active);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// The share of traffic that it should get beside the others. A node of weight 0 gets no picks, as if draining.
    pub weight: u16,
    /// The zone (rack, availability zone, data centre) that it stands in, if known.
    pub zone: Option<Arc<str>>,
    /// 0 is used first; higher numbers are backups for when lower ones are short of healthy nodes.
    pub priority: u8,
    /// What the operator wants of it.
    pub admin: Admin,
    /// How many requests it may have in flight at once.
    pub max_in_flight: Option<NonZeroU32>,
}

impl Node {
    /// A node of weight 1 and priority 0, active, in no zone, with no limit of its own.
    pub fn new(id: impl Into<NodeId>) -> Self {
        let id = id.into();
        Self { id, weight: 1, zone: None, priority: 0, admin: Admin::Active, max_in_flight: None }
    }

    /// Sets the share of traffic that it should get beside the others.
    #[must_use]
    pub fn weight(mut self, weight: u16) -> Self {
        self.weight = weight;
        self
    }

    /// Sets the zone that it stands in.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Sets the priority level.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Sets what the operator wants of it.
    #[must_use]
    pub fn admin(mut self, admin: Admin) -> Self {
        self.admin = admin;
        self
    }

    /// Limits how many requests it may have in flight at once; 0 removes the limit.
    #[must_use]
    pub fn max_in_flight(mut self, limit: u32) -> Self {
        self.max_in_flight = NonZeroU32::new(limit);
        self
    }

    /// Whether policies may choose it, health apart.
    pub fn takes_new_picks(&self) -> bool {
        self.admin == Admin::Active && self.weight > 0
    }
}
