//! What a cluster remembers beside its current set: slots, and the state of nodes that left a while ago.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    MAX_DEPARTED, NodeId,
    state::{Common, NodeState},
};

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
        (slot, Arc::new(NodeState::new(Arc::clone(&self.common), prior())))
    }

    /// Keeps the state of a node that leaves.
    pub(super) fn dismiss(&mut self, id: NodeId, slot: u32, state: Arc<NodeState>) {
        self.queue.push_back((self.now, id.clone()));
        self.departed.insert(id, Departed { at: self.now, slot, state });
        if self.departed.len() > MAX_DEPARTED {
            self.forget_oldest();
        }
    }

    /// Moves on to `now` and forgets those whose window has passed.
    pub(super) fn forget_before(&mut self, now: Instant) {
        self.now = now;
        while let Some((at, _)) = self.queue.front() {
            if now.saturating_duration_since(*at) < self.window {
                break;
            }
            self.forget_oldest();
        }
        // Comings and goings leave entries behind that mean nothing any more.
        if self.queue.len() > 2 * MAX_DEPARTED {
            self.queue.retain(|(at, id)| self.departed.get(id).is_some_and(|departed| departed.at == *at));
        }
    }

    fn forget_oldest(&mut self) {
        while let Some((at, id)) = self.queue.pop_front() {
            if self.departed.get(&id).is_some_and(|departed| departed.at == at) {
                if let Some(departed) = self.departed.remove(&id) {
                    self.free_slots.push(departed.slot);
                }
                return;
            }
        }
    }
}
