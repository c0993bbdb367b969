//! What happens to ten nodes, drawn from a seed.

use std::time::Duration;

use buttress::rng::Rng;

/// How many nodes there are.
pub(crate) const NODES: usize = 10;

/// How many of them are unable to serve at once, at most.
const MOST_BROKEN: usize = 3;

/// How a node is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Condition {
    #[default]
    Well,
    /// Answers, but twenty times slower.
    Slow,
    /// Answers each request at once, with a failure.
    Failing,
    /// Takes connections and requests, and says nothing.
    Hung,
    /// Refuses connections; those that it had are broken.
    Killed,
}

impl Condition {
    const BROKEN: [Self; 3] = [Self::Failing, Self::Hung, Self::Killed];

    /// Whether requests to a node in this condition fail.
    pub(crate) fn is_broken(self) -> bool {
        Self::BROKEN.contains(&self)
    }
}

/// A node's condition changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Since the beginning.
    pub(crate) at: Duration,
    pub(crate) node: usize,
    pub(crate) condition: Condition,
}

/// The changes of one run, in their order: broken nodes are revived, others slowed or broken, until all are revived at
/// the end of `span`.
pub(crate) fn schedule(seed: u64, span: Duration) -> Vec<Event> {
    let mut rng = Rng::seeded(seed);
    let mut conditions = [Condition::Well; NODES];
    let mut events = Vec::new();
    let mut at = Duration::from_millis(500);
    while at < span {
        let node = rng.below(NODES);
        let broken = conditions.iter().filter(|condition| condition.is_broken()).count();
        let condition = if conditions[node] != Condition::Well {
            Condition::Well
        } else if broken == MOST_BROKEN || rng.below(4) == 0 {
            Condition::Slow
        } else {
            Condition::BROKEN[rng.below(Condition::BROKEN.len())]
        };
        conditions[node] = condition;
        events.push(Event { at, node, condition });
        at += Duration::from_millis(100 + rng.below(500) as u64);
    }
    let sick = (0..NODES).filter(|&node| conditions[node] != Condition::Well);
    events.extend(sick.map(|node| Event { at: span, node, condition: Condition::Well }));
    events
}

#[test]
fn a_schedule_follows_from_its_seed_and_keeps_most_nodes_alive() {
    let span = Duration::from_secs(20);
    for seed in 0..1000 {
        let events = schedule(seed, span);
        assert_eq!(events, schedule(seed, span));
        let mut conditions = [Condition::Well; NODES];
        for event in &events {
            conditions[event.node] = event.condition;
            assert!(conditions.iter().filter(|condition| condition.is_broken()).count() <= MOST_BROKEN);
        }
        assert_eq!(conditions, [Condition::Well; NODES], "all are revived in the end");
        assert!(events.len() > 40, "{} events", events.len());
    }
}
