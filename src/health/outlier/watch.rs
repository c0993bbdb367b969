//! The detector at work on a cluster: a lock around it, taken only where there is news.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Cause, Ejection,
    core::{Change, Detector, Fleet, Spell},
};
use crate::cluster::{
    Common, FailureKind, Health, Member, NEVER, NodeId, NodeState, Observer, Permit, Probe, Term,
};

pub(super) struct Watch {
    common: Arc<Common>,
    // Atomics alone are touched under it, and no code of the user's.
    inside: Mutex<Inside>,
}

struct Inside {
    detector: Detector,
    nodes: Nodes,
    /// The version of the cluster that the nodes are of.
    generation: Option<u64>,
}

/// The nodes by slot. Those that have left stay until their slot has another.
#[derive(Default)]
struct Nodes(Vec<Option<Known>>);

struct Known {
    id: NodeId,
    state: Arc<NodeState>,
    /// Has not left.
    is_here: bool,
    /// What its description says of that.
    takes_new_picks: bool,
}

impl Nodes {
    fn get(&self, slot: usize) -> Option<&Known> {
        self.0.get(slot)?.as_ref()
    }

    /// The slot of a node; `None` if it is not, or no longer, known.
    fn find(&self, state: &NodeState) -> Option<usize> {
        let slot = state.slot();
        self.get(slot).is_some_and(|known| std::ptr::eq(&raw const *known.state, state)).then_some(slot)
    }
}

impl Known {
    /// A node that drains is not among those that ejections take a share of.
    fn takes_part(&self) -> bool {
        self.is_here && self.takes_new_picks && !self.state.is_draining()
    }
}

impl Fleet for Nodes {
    fn sent(&self, node: usize) -> u64 {
        self.get(node).map_or(0, |known| known.state.sent())
    }

    fn latency(&self, node: usize) -> Option<f32> {
        self.get(node)?.state.latency().map(|latency| latency.as_secs_f32())
    }
}

impl Watch {
    pub(super) fn new(detector: Detector, common: &Arc<Common>) -> Arc<Self> {
        let inside = Inside { detector, nodes: Nodes::default(), generation: None };
        Arc::new(Self { common: Arc::clone(common), inside: Mutex::new(inside) })
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // The detector is whole between calls: a panic elsewhere is no reason to stop.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the detector something, and does what it decides.
    fn tell<T>(&self, news: impl FnOnce(&mut Inside, u64) -> T) -> T {
        // The clock may be the user's.
        let now = self.common.nanos_now();
        let mut inside = self.lock();
        let result = news(&mut inside, now);
        let Inside { detector, nodes, .. } = &mut *inside;
        let mut has_changed = false;
        for change in detector.take_changes() {
            has_changed = true;
            let (Change::Eject(slot, _) | Change::Readmit(slot)) = change;
            let Some(known) = nodes.get(slot) else { continue };
            match change {
                Change::Eject(_, term) => known.state.eject(term),
                Change::Readmit(_) => known.state.readmit(now),
            }
        }
        // Success rates are compared when something fails.
        let sweep_at = if detector.rules.latency.is_some() { detector.sweep_at() } else { NEVER };
        self.common.attention.call_observer(detector.probe_at(), sweep_at);
        drop(inside);
        if has_changed {
            self.common.turn_health_over();
        }
        result
    }

    /// As [`tell`](Self::tell), about a node that is known.
    fn tell_of<T>(
        &self,
        state: &NodeState,
        news: impl FnOnce(&mut Detector, &Nodes, usize, u64) -> T,
    ) -> Option<T> {
        self.tell(|inside, now| {
            let slot = inside.nodes.find(state)?;
            Some(news(&mut inside.detector, &inside.nodes, slot, now))
        })
    }

    pub(super) fn release(&self, id: &NodeId) -> bool {
        self.tell(|inside, now| {
            let is_named =
                |slot: &usize| inside.nodes.get(*slot).is_some_and(|known| known.is_here && known.id == *id);
            let slot = inside.detector.ejected().map(|(slot, _)| slot).find(is_named);
            slot.is_some_and(|slot| inside.detector.release(slot, now))
        })
    }

    pub(super) fn list(&self) -> Vec<Ejection> {
        let now = self.common.nanos_now();
        let Inside { detector, nodes, .. } = &*self.lock();
        let ejection = |(slot, Spell { cause, since, until, .. })| {
            let left = Duration::from_nanos(until.saturating_sub(now));
            let (since, until) = (self.common.instant(since), self.common.instant(until));
            let known = nodes.get(slot).filter(|known| known.is_here)?;
            Some(Ejection { node: known.id.clone(), cause, since, until, left })
        };
        detector.ejected().filter_map(ejection).collect()
    }

    pub(super) fn total(&self, cause: Cause) -> u64 {
        self.lock().detector.total(cause)
    }
}

impl Observer for Watch {
    fn members(&self, generation: u64, members: &mut dyn Iterator<Item = &Arc<Member>>) {
        self.tell(|inside, now| {
            // Changes of the cluster may overtake each other on the way here.
            if inside.generation.is_some_and(|known| known >= generation) {
                return;
            }
            inside.generation = Some(generation);
            let Inside { detector, nodes: Nodes(nodes), .. } = inside;
            for (slot, node) in nodes.iter_mut().enumerate() {
                detector.set_member(slot, false);
                if let Some(known) = node {
                    known.is_here = false;
                }
            }
            for member in members {
                let (slot, state) = (member.slot(), &member.state);
                if nodes.len() <= slot {
                    nodes.resize_with(slot + 1, || None);
                    detector.reserve(slot + 1);
                }
                let place = &mut nodes[slot];
                if place.as_ref().is_none_or(|known| !Arc::ptr_eq(&known.state, state)) {
                    detector.enroll(slot, state.sent());
                }
                let (id, state) = (member.node.id.clone(), Arc::clone(state));
                let takes_new_picks = member.node.takes_new_picks();
                let known = place.insert(Known { id, state, is_here: true, takes_new_picks });
                detector.set_member(slot, known.takes_part());
                detector.set_up(slot, known.state.health().is_usable());
            }
            detector.settle(now);
        });
    }

    fn health_changed(&self, state: &NodeState, came_up: bool) {
        self.tell_of(state, |detector, nodes, node, now| {
            // Looked at again under the lock: of two changes at once the last to come here finds what holds.
            detector.set_member(node, nodes.get(node).is_some_and(Known::takes_part));
            detector.set_up(node, state.health().is_usable());
            if came_up && state.health() == Health::Up {
                detector.release(node, now);
            }
            detector.settle(now);
        });
    }

    fn failed(&self, state: &NodeState, term: Term, kind: FailureKind) {
        self.tell_of(state, |detector, nodes, node, now| detector.failed(node, term, kind, now, nodes));
    }

    fn recovered(&self, state: &NodeState) {
        self.tell_of(state, |detector, _, node, _| detector.succeeded(node));
    }

    fn sweep(&self) {
        self.tell(|inside, now| inside.detector.sweep(now, &inside.nodes));
    }

    fn claim(&self, only: Option<&NodeState>) -> Option<Permit> {
        self.tell(|inside, now| {
            let Inside { detector, nodes, .. } = inside;
            let only = match only {
                Some(state) => Some(nodes.find(state)?),
                None => None,
            };
            let is_full = |slot| nodes.get(slot).is_none_or(|known| known.state.is_full());
            let (slot, term) = detector.claim(now, only, is_full)?;
            let Known { id, state, .. } = nodes.get(slot)?;
            Some(Permit { node: id.clone(), state: Arc::clone(state), term })
        })
    }

    fn probed(&self, state: &NodeState, term: Term, outcome: Probe) {
        self.tell_of(state, |detector, _, node, now| detector.probed(node, term, outcome, now));
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("ejected", &self.list()).finish_non_exhaustive()
    }
}
