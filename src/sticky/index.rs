//! From the tag in a cookie back to the node.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;

use super::{NodeTag, StickyCookie};
use crate::{
    cluster::{Cluster, NodeId, Subscriber, Version},
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
    known: ArcSwap<Known<S>>,
}

struct Known<S> {
    version: Arc<Version<S>>,
    by_tag: Arc<HashMap<NodeTag, NodeId>>,
}

impl<S: Send + Sync + 'static> Index<S> {
    pub(super) fn start(cluster: Cluster<S>, cookie: StickyCookie) -> Arc<Self> {
        let known = ArcSwap::from_pointee(Known::new(cluster.load(), &cookie));
        let index = Arc::new(Self { cluster, cookie, known });
        let subscriber: Weak<Self> = Arc::downgrade(&index);
        index.cluster.subscribe(subscriber);
        // A change between the look at the cluster and the subscription would be missed.
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
            if current.version.generation() >= version.generation() {
                return;
            }
            // Again if another thread was faster.
            let next = current.follow(version, &self.cookie);
            self.known.compare_and_swap(&current, Arc::new(next));
        }
    }
}

impl<S> Known<S> {
    fn new(version: Arc<Version<S>>, cookie: &StickyCookie) -> Self {
        let tagged = |id| cookie.tags(id).map(move |tag| (tag, NodeId::clone(id)));
        let by_tag = ids(&version).flat_map(tagged).collect();
        Self { version, by_tag: Arc::new(by_tag) }
    }

    /// What is known of a later version. Most changes are of weights and states: they cost a look at each id.
    fn follow(&self, version: Arc<Version<S>>, cookie: &StickyCookie) -> Self {
        let mut by_tag = Arc::clone(&self.by_tag);
        let mut left = |id| {
            let by_tag = Arc::make_mut(&mut by_tag);
            cookie.tags(id).for_each(|tag| drop(by_tag.remove(&tag)));
        };
        let mut joined = Vec::new();
        let mut old = ids(&self.version).peekable();
        for id in ids(&version) {
            while let Some(gone) = old.next_if(|known| *known < id) {
                left(gone);
            }
            if old.next_if(|known| *known == id).is_none() {
                joined.push(id);
            }
        }
        old.for_each(left);
        for id in joined {
            let by_tag = Arc::make_mut(&mut by_tag);
            by_tag.extend(cookie.tags(id).map(|tag| (tag, id.clone())));
        }
        Self { version, by_tag }
    }
}

/// In their order.
fn ids<S>(version: &Version<S>) -> impl Iterator<Item = &NodeId> {
    version.iter().map(|member| &member.node.id)
}

impl<S> fmt::Debug for Index<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("nodes", &self.known.load().version.len()).finish_non_exhaustive()
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
