//! What a cluster remembers beside its current set: slots, and the state of nodes that left a while ago.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{MAX_DEPARTED, NodeId, NodeState, common::Common};

#[derive(Debug)]
pub(super) struct Registry {
    common: Arc<Common>,
    window: Duration,
    departed: HashMap<NodeId, Departed>,
    /// Departures in the order of time. One whose node has come back since is skipped.
    queue: VecDeque<(Instant, NodeId)>,
    free_slots: Vec<u32>,
    next_slot: u32,
    now: Instant,
}

#[derive(Debug)]
struct Departed {
    at: Instant,
    slot: u32,
    state: Arc<NodeState>,
}

impl Registry {
    pub(super) fn new(common: Arc<Common>, window: Duration) -> Self {
        let now = common.origin;
        Self {
            common,
            window,
            departed: HashMap::new(),
            queue: VecDeque::new(),
            free_slots: Vec::new(),
            next_slot: 0,
            now,
        }
    }

    /// The time of the change that is under way.
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// Gives a node that joins its slot and its state: those it had, if it left within the window.
    ///
    /// `prior` is the latency to assume of a newcomer.
    pub(super) fn admit(
        &mut self,
        id: &NodeId,
        prior: impl FnOnce() -> Option<f32>,
    ) -> (u32, Arc<NodeState>) {
        if let Some(departed) = self.departed.remove(id) {
            return (departed.slot, departed.state);
        }
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.next_slot += 1;
            self.next_slot - 1
        });
        (slot, Arc::new(NodeState::new(Arc::clone(&self.common), slot, prior())))
    }

    /// Keeps the state of a node that leaves.
    pub(super) fn dismiss(&mut self, id: NodeId, slot: u32, state: Arc<NodeState>) {
        self.queue.push_back((self.now, id.clone()));
        self.departed.insert(id, Departed { at: self.now, slot, state });
        if self.departed.len() > MAX_DEPARTED {
            while !self.forget_next() {}
        }
    }

    /// Moves on to `now` and forgets those whose window has passed.
    pub(super) fn forget_before(&mut self, now: Instant) {
        self.now = now;
        while let Some((at, _)) = self.queue.front() {
            if now.saturating_duration_since(*at) < self.window {
                break;
            }
            self.forget_next();
        }
        // Comings and goings leave entries behind that mean nothing any more.
        if self.queue.len() > 2 * MAX_DEPARTED {
            self.queue.retain(|(at, id)| self.departed.get(id).is_some_and(|departed| departed.at == *at));
        }
    }

    /// Takes the oldest departure off the queue; false if that forgets nobody, because the node has come back since.
    fn forget_next(&mut self) -> bool {
        let Some((at, id)) = self.queue.pop_front() else { return true };
        if self.departed.get(&id).is_none_or(|departed| departed.at != at) {
            return false;
        }
        if let Some(departed) = self.departed.remove(&id) {
            self.free_slots.push(departed.slot);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{
        cluster::{Cluster, MAX_DEPARTED, Node},
        time::ManualClock,
    };

    #[test]
    fn a_node_that_came_back_in_time_does_not_cut_the_window_of_others_short() {
        let clock = ManualClock::new();
        let window = Duration::from_secs(300);
        let cluster = Cluster::builder().clock(clock.clone()).drain_window(window);
        let cluster = cluster.build([(Node::new("a"), ()), (Node::new("b"), ())]).expect("two names");
        let state = |id: &str| cluster.get(id).map(|endpoint| endpoint.member.state.clone());
        let before = state("b").expect("b is there");

        cluster.remove("a");
        cluster.insert(Node::new("a"), ()).expect("a name");
        clock.advance(Duration::from_secs(200));
        cluster.remove("b");
        // The first departure of `a` is over now; that of `b` has 200 s to go.
        clock.advance(Duration::from_secs(100));
        cluster.insert(Node::new("b"), ()).expect("a name");

        assert!(std::sync::Arc::ptr_eq(&before, &state("b").expect("b is back")));
    }

    #[test]
    fn what_is_remembered_of_nodes_that_left_is_bounded() {
        let clock = ManualClock::new();
        let window = Duration::from_secs(60);
        let cluster = Cluster::builder().clock(clock.clone()).drain_window(window);
        let cluster = cluster.build([(Node::new("stays"), ())]).expect("a name");
        let mut highest = 0;
        for number in 0..20_000 {
            let id = format!("node-{number}");
            cluster.insert(Node::new(id.as_str()), ()).expect("a name");
            highest = highest.max(cluster.get(id.as_str()).expect("it is there").member.slot());
            cluster.remove(id.as_str());
            // One that comes and goes must not pile up either.
            cluster.remove("stays");
            cluster.insert(Node::new("stays"), ()).expect("a name");
        }
        assert!(highest <= MAX_DEPARTED + 2, "slot {highest}");
        let remembered = || {
            let registry = cluster.inner.registry.lock().expect("no panic");
            (registry.departed.len(), registry.queue.len())
        };
        let (departed, queue) = remembered();
        assert!(departed <= MAX_DEPARTED && queue <= 2 * MAX_DEPARTED + 2, "{departed} and {queue}");

        // After the window the next change forgets them all.
        clock.advance(window);
        cluster.insert(Node::new("new"), ()).expect("a name");
        assert_eq!(remembered(), (0, 0));
    }
}
