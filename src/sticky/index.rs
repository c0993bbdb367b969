//! From the tag in a cookie back to the node.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;

use super::{NodeTag, StickyCookie};
use crate::{
    cluster::{Cluster, Member, NodeId, Subscriber, Version},
    time::Clock,
};

/// Says which node a tag stands for, as the cluster is now.
pub(super) trait Lookup: Send + Sync {
    fn node(&self, tag: NodeTag) -> Option<NodeId>;

    fn clock(&self) -> &dyn Clock;
}

/// Follows the nodes of a cluster. A change of membership is followed in the thread that makes it.
pub(super) struct Index<S> {
    cluster: Cluster<S>,
    cookie: StickyCookie,
    known: ArcSwap<Known>,
}

#[derive(Debug, Default)]
struct Known {
    generation: u64,
    /// In the order of their ids, each with a tag for each key.
    nodes: Arc<Vec<(NodeId, Box<[NodeTag]>)>>,
    by_tag: Arc<HashMap<NodeTag, NodeId>>,
}

impl<S: Send + Sync + 'static> Index<S> {
    pub(super) fn start(cluster: Cluster<S>, cookie: StickyCookie) -> Arc<Self> {
        let index = Arc::new(Self { cluster, cookie, known: ArcSwap::default() });
        let subscriber: Weak<Self> = Arc::downgrade(&index);
        index.cluster.subscribe(subscriber);
        index.refresh();
        index
    }
}

impl<S: Send + Sync> Lookup for Index<S> {
    fn node(&self, tag: NodeTag) -> Option<NodeId> {
        self.known.load().by_tag.get(&tag).cloned()
    }

    fn clock(&self) -> &dyn Clock {
        &**self.cluster.clock()
    }
}

impl<S: Send + Sync> Subscriber for Index<S> {
    fn refresh(&self) {
        loop {
            let current = self.known.load();
            let version = self.cluster.load();
            if current.generation >= version.generation() {
                return;
            }
            // Again if another thread was faster.
            let next = current.follow(&version, &self.cookie);
            self.known.compare_and_swap(&current, Arc::new(next));
        }
    }
}

impl Known {
    /// What is known of the next version. Hashes only nodes that are new.
    fn follow<S>(&self, version: &Version<S>, cookie: &StickyCookie) -> Self {
        let generation = version.generation();
        // Most changes are of weights and states.
        if version.iter().map(|member| &member.node.id).eq(self.nodes.iter().map(|(id, _)| id)) {
            let (nodes, by_tag) = (Arc::clone(&self.nodes), Arc::clone(&self.by_tag));
            return Self { generation, nodes, by_tag };
        }
        let mut old = self.nodes.iter().peekable();
        let tagged = |member: &Member| {
            let wanted = &member.node.id;
            while old.next_if(|(id, _)| id < wanted).is_some() {}
            match old.next_if(|(id, _)| id == wanted) {
                Some(known) => known.clone(),
                None => (wanted.clone(), cookie.tags(wanted).collect()),
            }
        };
        let nodes: Vec<_> = version.iter().map(tagged).collect();
        let tags = nodes.iter().flat_map(|(id, tags)| tags.iter().map(move |tag| (*tag, id.clone())));
        Self { generation, by_tag: Arc::new(tags.collect()), nodes: Arc::new(nodes) }
    }
}

impl<S> fmt::Debug for Index<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("nodes", &self.known.load().nodes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::{Admin, Node},
        rng::Rng,
        sticky::CookieKeys,
    };

    fn cookie() -> StickyCookie {
        StickyCookie::new("shop", CookieKeys::new([[1; 32], [2; 32]]).unwrap()).unwrap()
    }

    #[test]
    fn the_index_knows_the_nodes_that_there_are_after_any_change() {
        let (cluster, cookie) = (Cluster::new([]).unwrap(), cookie());
        let index = Index::start(cluster.clone(), cookie.clone());
        let mut rng = Rng::seeded(1);
        let ids: Vec<NodeId> = (0..20).map(|n| format!("node-{n}").into()).collect();
        for _ in 0..500 {
            let id = ids[rng.below(ids.len())].clone();
            if rng.below(2) == 0 {
                cluster.insert(Node::new(id), ()).unwrap();
            } else {
                cluster.remove(id);
            }
            for id in &ids {
                let expected = cluster.get(id.clone()).map(|_| id.clone());
                for tag in cookie.tags(id) {
                    assert_eq!(index.node(tag), expected);
                }
            }
        }
        assert_eq!(
            index.known.load().by_tag.len(),
            2 * cluster.load().len(),
            "nothing is left of those that went"
        );
    }

    #[test]
    fn a_change_of_state_hashes_nothing() {
        let cluster = Cluster::new(["a", "b"].map(|id| (Node::new(id), ()))).unwrap();
        let index = Index::start(cluster.clone(), cookie());
        let before = Arc::clone(&index.known.load().by_tag);
        cluster.set_admin("a", Admin::Draining).unwrap();
        cluster.set_weight("b", 7).unwrap();
        assert!(Arc::ptr_eq(&before, &index.known.load().by_tag));
    }

    #[test]
    fn an_index_that_nobody_uses_any_more_is_forgotten() {
        let cluster = Cluster::new([(Node::new("a"), ())]).unwrap();
        let index = Arc::downgrade(&Index::start(cluster.clone(), cookie()));
        cluster.insert(Node::new("b"), ()).unwrap();
        assert!(index.upgrade().is_none());
    }
}
