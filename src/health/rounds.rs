//! Who is checked when, and what came of it: all that a monitor decides.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Instant,
};

use super::{CheckResult, HealthChange, NodeReport, agenda::Agenda, pace::Pace, record::Record};
use crate::{
    cluster::{Health, Member, NodeId, NodeState},
    rng::Rng,
};

#[cfg(test)]
mod tests;

/// The nodes that are checked, and those that left but may return.
#[derive(Debug)]
pub(super) struct Rounds {
    pace: Pace,
    agenda: Agenda,
    targets: HashMap<NodeId, Target>,
    generation: Option<u64>,
    tickets: u64,
}

/// A node. Its check is on the agenda unless it runs, or the node has left.
#[derive(Debug)]
struct Target {
    /// Kept by the cluster while the node may return, and so is this target.
    state: Weak<NodeState>,
    record: Record,
    since: Instant,
    due: Instant,
    running: Option<u64>,
    /// The cluster's generation in which the node was last seen, and whether that is the current one.
    seen: u64,
    is_member: bool,
    last: Option<CheckResult>,
    checks: u64,
}

/// A check that has begun.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) id: NodeId,
    number: u64,
}

/// What a check says of a node.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) state: Arc<NodeState>,
    pub(super) health: Health,
    pub(super) change: Option<HealthChange>,
}

impl Rounds {
    pub(super) fn new(pace: Pace, now: Instant, rng: Rng) -> Self {
        let agenda = Agenda::new(now, pace.interval, rng);
        Self { pace, agenda, targets: HashMap::new(), generation: None, tickets: 0 }
    }

    /// Takes in who is in the cluster, in this generation of it. O(n), but for generations that are known O(1).
    pub(super) fn follow<'a>(
        &mut self,
        now: Instant,
        generation: u64,
        members: impl Iterator<Item = &'a Member>,
    ) {
        if self.generation == Some(generation) {
            return;
        }
        self.generation = Some(generation);
        for member in members {
            self.admit(now, generation, member);
        }
        let agenda = &mut self.agenda;
        self.targets.retain(|id, target| {
            if target.seen != generation {
                if target.is_member {
                    target.is_member = false;
                    agenda.cancel(id, target.due);
                }
                return target.state.strong_count() > 0;
            }
            true
        });
    }

    fn admit(&mut self, now: Instant, generation: u64, member: &Member) {
        let (id, state) = (&member.node.id, &member.state);
        let first = now + self.pace.interval;
        if let Some(target) = self.targets.get_mut(id) {
            if target.state.as_ptr() == Arc::as_ptr(state) {
                target.seen = generation;
                if target.is_member {
                    return;
                }
                target.is_member = true;
                if target.running.is_some() {
                    return;
                }
                // The time that it was away for does not make it urgent: whole zones leave and return together.
                if target.due > now {
                    self.agenda.insert(id, target.due);
                } else {
                    target.due = self.agenda.plan(id, now, first);
                }
                return;
            }
            // Another node by the same name, after the cluster has forgotten the first.
            self.agenda.cancel(id, target.due);
        }
        let target = Target {
            state: Arc::downgrade(state),
            record: Record::new(state.health()),
            since: now,
            due: self.agenda.plan(id, now, first),
            running: None,
            seen: generation,
            is_member: true,
            last: None,
            checks: 0,
        };
        self.targets.insert(id.clone(), target);
    }

    /// When the next check is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.agenda.next()
    }

    /// Begins a check that is due.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Ticket> {
        let id = self.agenda.pop(now)?;
        let target = self.targets.get_mut(&id)?;
        self.tickets += 1;
        target.running = Some(self.tickets);
        // The process stood still, so that all are due at once: as if each had been due at another time, they part again.
        if let Some(lately) = now.checked_sub(self.pace.interval).filter(|lately| *lately >= target.due) {
            target.due = self.agenda.draw(lately, now);
        }
        Some(Ticket { id, number: self.tickets })
    }

    /// Learns what came of a check. Nothing, if the node has left meanwhile.
    pub(super) fn finish(&mut self, ticket: &Ticket, now: Instant, result: CheckResult) -> Option<Finding> {
        let pace = &self.pace;
        let target = self.targets.get_mut(&ticket.id)?;
        if target.running != Some(ticket.number) {
            return None;
        }
        target.running = None;
        if !target.is_member {
            return None;
        }
        target.checks = target.checks.saturating_add(1);
        let from = target.record.health();
        let changed = target.record.learn(&result, pace);
        target.last = Some(result.clone());
        // Counted from when this check was due: time that checks take adds nothing, and those spread out stay so.
        let interval = target.record.interval(pace);
        let latest = (target.due + interval).max(now);
        let earliest = (target.due + interval.mul_f64(1.0 - pace.jitter)).max(now);
        target.due = self.agenda.plan(&ticket.id, earliest, latest);
        let health = target.record.health();
        let change = changed.then(|| {
            target.since = now;
            HealthChange { id: ticket.id.clone(), from, to: health, result }
        });
        target.state.upgrade().map(|state| Finding { state, health, change })
    }

    /// How the nodes in the cluster are, in the order of their ids.
    pub(super) fn report(&self, now: Instant) -> Vec<NodeReport> {
        let members = self.targets.iter().filter(|(_, target)| target.is_member);
        let mut report: Vec<_> = members
            .map(|(id, target)| NodeReport {
                id: id.clone(),
                health: target.record.health(),
                lasting: now.saturating_duration_since(target.since),
                last: target.last.clone(),
                streak: target.record.streak(),
                checks: target.checks,
            })
            .collect();
        report.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        report
    }
}
