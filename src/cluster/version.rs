//! One published set of nodes, and the draft of the next.

use std::{fmt, sync::Arc};

use super::{Node, NodeId, NodeState, registry::Registry};

/// A node in a cluster: its description and its live state.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Member {
    /// How it is described.
    pub node: Node,
    /// How it is doing.
    pub state: Arc<NodeState>,
    pub(crate) slot: u32,
    /// What it was described as when it was last listed, where something else has been set since.
    listed: Option<Box<Node>>,
}

impl Member {
    /// A small number that is this node's alone while it is known to the cluster, and the same in every version.
    ///
    /// Policies that keep something for each node keep it in an array by slot.
    pub fn slot(&self) -> usize {
        self.slot as usize
    }

    fn listed(&self) -> &Node {
        self.listed.as_deref().unwrap_or(&self.node)
    }
}

/// A node with the service that reaches it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Endpoint<S> {
    /// The node.
    pub member: Arc<Member>,
    /// What sends requests to it.
    pub service: Arc<S>,
}

impl<S> fmt::Debug for Endpoint<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("member", &self.member).finish_non_exhaustive()
    }
}

/// The nodes of a cluster at one time, in the order of their ids.
pub struct Version<S> {
    generation: u64,
    endpoints: Vec<Arc<Endpoint<S>>>,
}

impl<S> fmt::Debug for Version<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version")
            .field("generation", &self.generation)
            .field("endpoints", &self.endpoints)
            .finish()
    }
}

impl<S> Version<S> {
    pub(super) fn empty() -> Self {
        Self { generation: 0, endpoints: Vec::new() }
    }

    /// Grows by one with each change of the cluster.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many nodes there are, in whatever state.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether there is no node at all.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// The nodes, in the order of their ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.endpoints.iter().map(|endpoint| &*endpoint.member)
    }

    /// The nodes with their services, in the order of their ids.
    pub fn endpoints(&self) -> &[Arc<Endpoint<S>>] {
        &self.endpoints
    }

    /// The node with this id. O(log n).
    pub fn get(&self, id: &NodeId) -> Option<&Arc<Endpoint<S>>> {
        find(&self.endpoints, id).ok().map(|at| &self.endpoints[at])
    }

    /// Whether `nodes`, which are in order, are the whole set as it was last listed.
    pub(super) fn repeats<'a>(&self, nodes: impl ExactSizeIterator<Item = &'a Node>) -> bool {
        self.len() == nodes.len() && self.iter().map(Member::listed).eq(nodes)
    }
}

fn find<S>(endpoints: &[Arc<Endpoint<S>>], id: &NodeId) -> Result<usize, usize> {
    endpoints.binary_search_by(|endpoint| endpoint.member.node.id.cmp(id))
}

/// The latency to expect of a newcomer.
#[derive(Clone, Copy)]
enum Prior {
    /// Not asked for yet.
    Unasked,
    /// The median of the nodes that are known; `None` if none is.
    Median(Option<f32>),
}

/// A copy of the set that can be changed. Costs a reference count for each node.
pub(super) struct Draft<S> {
    version: Version<S>,
    prior: Prior,
    /// What the changes put aside, kept until the lock is released: dropping a service is the user's code.
    aside: Vec<Arc<Endpoint<S>>>,
}

impl<S> Draft<S> {
    pub(super) fn of(version: &Version<S>) -> Self {
        let endpoints = version.endpoints.clone();
        Self {
            version: Version { generation: version.generation + 1, endpoints },
            prior: Prior::Unasked,
            aside: Vec::new(),
        }
    }

    pub(super) fn publish(&mut self) -> Version<S> {
        std::mem::replace(&mut self.version, Version::empty())
    }

    pub(super) fn insert(&mut self, node: Node, service: Arc<S>, registry: &mut Registry) {
        let endpoints = &self.version.endpoints;
        match find(endpoints, &node.id) {
            Ok(at) => {
                let known = &endpoints[at].member;
                let new = endpoint(node, None, known.slot, Arc::clone(&known.state), service);
                let old = std::mem::replace(&mut self.version.endpoints[at], new);
                self.aside.push(old);
            }
            Err(at) => {
                let serves = self.serves();
                let (slot, state) = registry.admit(&node.id, || self.prior());
                if serves {
                    state.begin_slowly(registry.now());
                }
                self.version.endpoints.insert(at, endpoint(node, None, slot, state, service));
            }
        }
    }

    /// Makes `nodes`, which are in order, the whole set; false if one that has no service is not in the set either.
    pub(super) fn replace(&mut self, nodes: &[(Node, Option<Arc<S>>)], registry: &mut Registry) -> bool {
        let old = &self.version.endpoints;
        if nodes.iter().any(|(node, service)| service.is_none() && find(old, &node.id).is_err()) {
            return false;
        }
        let (prior, serves) = (self.prior(), self.serves());
        let old = std::mem::take(&mut self.version.endpoints);
        let mut leaving = old.iter().peekable();
        for (node, service) in nodes {
            while let Some(left) = leaving.next_if(|known| known.member.node.id < node.id) {
                dismiss(left, registry);
            }
            let known = leaving.next_if(|known| known.member.node.id == node.id);
            let next = match (known, service) {
                (Some(known), None) if known.member.listed() == node => Arc::clone(known),
                (Some(known), service) => {
                    let service = service.as_ref().unwrap_or(&known.service);
                    let member = &known.member;
                    let merged = merge(&member.node, member.listed(), node);
                    let listed = (merged != *node).then(|| Box::new(node.clone()));
                    endpoint(merged, listed, member.slot, Arc::clone(&member.state), Arc::clone(service))
                }
                (None, Some(service)) => {
                    let (slot, state) = registry.admit(&node.id, || prior);
                    if serves {
                        state.begin_slowly(registry.now());
                    }
                    endpoint(node.clone(), None, slot, state, Arc::clone(service))
                }
                (None, None) => continue,
            };
            self.version.endpoints.push(next);
        }
        for left in leaving {
            dismiss(left, registry);
        }
        self.aside.extend(old);
        true
    }

    pub(super) fn remove(&mut self, id: &NodeId, registry: &mut Registry) -> bool {
        let Ok(at) = find(&self.version.endpoints, id) else { return false };
        let left = self.version.endpoints.remove(at);
        dismiss(&left, registry);
        self.aside.push(left);
        true
    }

    pub(super) fn alter(&mut self, id: &NodeId, change: impl FnOnce(&mut Node)) -> bool {
        let Ok(at) = find(&self.version.endpoints, id) else { return false };
        let known = &self.version.endpoints[at];
        let member = &known.member;
        let mut node = member.node.clone();
        change(&mut node);
        let listed = Some(Box::new(member.listed().clone()));
        let state = Arc::clone(&member.state);
        self.version.endpoints[at] = endpoint(node, listed, member.slot, state, Arc::clone(&known.service));
        true
    }

    /// Whether there are nodes at work already.
    fn serves(&self) -> bool {
        self.version.iter().any(|member| member.state.requests() > 0)
    }

    /// The median latency of the nodes that are known: what to expect of a newcomer.
    fn prior(&mut self) -> Option<f32> {
        if let Prior::Median(prior) = self.prior {
            return prior;
        }
        let mut known: Vec<f32> = self
            .version
            .iter()
            .filter_map(|member| member.state.latency().map(|latency| latency.as_secs_f32()))
            .collect();
        let middle = known.len() / 2;
        let prior = (!known.is_empty()).then(|| *known.select_nth_unstable_by(middle, f32::total_cmp).1);
        self.prior = Prior::Median(prior);
        prior
    }
}

/// A node as `now` describes it. Where that repeats what was said `before`, what has been set since stays.
fn merge(current: &Node, before: &Node, now: &Node) -> Node {
    fn field<T: Clone + PartialEq>(current: &T, before: &T, now: &T) -> T {
        if now == before { current.clone() } else { now.clone() }
    }
    Node {
        id: now.id.clone(),
        weight: field(&current.weight, &before.weight, &now.weight),
        zone: field(&current.zone, &before.zone, &now.zone),
        priority: field(&current.priority, &before.priority, &now.priority),
        admin: field(&current.admin, &before.admin, &now.admin),
        max_in_flight: field(&current.max_in_flight, &before.max_in_flight, &now.max_in_flight),
    }
}

fn endpoint<S>(
    node: Node,
    listed: Option<Box<Node>>,
    slot: u32,
    state: Arc<NodeState>,
    service: Arc<S>,
) -> Arc<Endpoint<S>> {
    state.set_limit(node.max_in_flight);
    Arc::new(Endpoint { member: Arc::new(Member { node, state, slot, listed }), service })
}

fn dismiss<S>(endpoint: &Endpoint<S>, registry: &mut Registry) {
    let member = &endpoint.member;
    registry.dismiss(member.node.id.clone(), member.slot, Arc::clone(&member.state));
}

#[cfg(test)]
mod tests {
    use crate::cluster::{Admin, Cluster, ClusterError, Node};

    fn node(cluster: &Cluster<u8>) -> Node {
        cluster.get("a").expect("a is there").member.node.clone()
    }

    #[test]
    fn a_list_that_repeats_itself_leaves_what_the_operator_has_set() -> Result<(), ClusterError> {
        let cluster = Cluster::new([(Node::new("a"), 0)])?;
        cluster.set_admin("a", Admin::Draining)?;
        cluster.replace_with([Node::new("a")], |_| 1)?;
        assert_eq!(node(&cluster).admin, Admin::Draining);
        cluster.replace([(Node::new("a"), 2), (Node::new("b"), 2)])?;
        assert_eq!(node(&cluster).admin, Admin::Draining);
        Ok(())
    }

    #[test]
    fn a_list_that_says_something_new_is_followed_in_that_alone() -> Result<(), ClusterError> {
        let cluster = Cluster::new([(Node::new("a"), 0)])?;
        cluster.set_admin("a", Admin::Draining)?;
        cluster.set_weight("a", 7)?;
        cluster.replace_with([Node::new("a").weight(3)], |_| 1)?;
        assert_eq!(node(&cluster), Node::new("a").weight(3).admin(Admin::Draining));
        cluster.replace_with([Node::new("a").weight(3).admin(Admin::Down)], |_| 1)?;
        cluster.replace_with([Node::new("a").weight(3)], |_| 1)?;
        assert_eq!(node(&cluster), Node::new("a").weight(3));
        Ok(())
    }

    #[test]
    fn an_insert_means_what_it_says() -> Result<(), ClusterError> {
        let cluster = Cluster::new([(Node::new("a"), 0)])?;
        cluster.set_admin("a", Admin::Draining)?;
        cluster.insert(Node::new("a"), 1)?;
        assert_eq!(node(&cluster), Node::new("a"));
        Ok(())
    }

    #[test]
    fn a_list_that_repeats_itself_publishes_no_version() -> Result<(), ClusterError> {
        let cluster = Cluster::new([(Node::new("a"), 0), (Node::new("b"), 0)])?;
        cluster.set_weight("a", 7)?;
        let before = cluster.load().generation();
        cluster.replace_with([Node::new("b"), Node::new("a")], |_| unreachable!("both are known"))?;
        assert_eq!(cluster.load().generation(), before);
        Ok(())
    }
}
