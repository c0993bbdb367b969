use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    cluster::{Cluster, Node},
    health::{Answer, Unhealthy, pace::Settings},
    time::{Clock, ManualClock},
};

const SECOND: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_millis(100);

/// Rounds over a cluster, in a time of their own.
struct World {
    now: Instant,
    cluster: Cluster<()>,
    pace: Pace,
    rounds: Rounds,
    /// The checks that run, by their end.
    running: BTreeMap<(Instant, u64), (Ticket, CheckResult)>,
    /// When checks began.
    times: Vec<Instant>,
}

impl World {
    fn new(nodes: usize, settings: Settings, seed: u64) -> Self {
        let clock = ManualClock::new();
        let now = clock.now();
        let names = (0..nodes).map(|node| (Node::new(format!("n{node:04}")), ()));
        let cluster = Cluster::builder().clock(clock).allow_empty(true).build(names).expect("names differ");
        let pace = settings.check().expect("it makes sense");
        let rounds = Rounds::new(pace, now, Rng::seeded(seed));
        let mut world = Self { now, cluster, pace, rounds, running: BTreeMap::new(), times: Vec::new() };
        world.follow();
        world
    }

    fn follow(&mut self) {
        let version = self.cluster.load();
        self.rounds.follow(self.now, version.generation(), version.iter());
    }

    /// Lets `span` pass. `answer` says how long a check of a node takes and what comes of it.
    fn run(&mut self, span: Duration, mut answer: impl FnMut(&str, Instant) -> (Duration, CheckResult)) {
        let end = self.now + span;
        loop {
            let ended = self.running.first_key_value().map(|((at, _), _)| *at);
            let due = self.rounds.next_due().map(|due| due.max(self.now));
            let Some(next) = ended.into_iter().chain(due).min().filter(|next| *next <= end) else { break };
            self.now = next;
            while let Some(entry) = self.running.first_entry().filter(|entry| entry.key().0 <= next) {
                let (ticket, result) = entry.remove();
                if let Some(finding) = self.rounds.finish(&ticket, next, result) {
                    finding.state.set_health(finding.health);
                }
            }
            while let Some(ticket) = self.rounds.begin(next) {
                assert!(self.running.values().all(|(other, _)| other.id != ticket.id), "one at a time");
                self.times.push(next);
                let (takes, result) = answer(ticket.id.as_str(), next);
                let takes = takes.min(self.pace.timeout);
                self.running.insert((next + takes, ticket.number), (ticket, result));
            }
        }
        self.now = end;
    }

    /// The most checks in any window, wherever it begins, from the `first` one on.
    fn fullest(&self, first: usize) -> usize {
        let times = &self.times[first..];
        let window = |first: usize| times[first..].partition_point(|at| *at < times[first] + WINDOW);
        (0..times.len()).map(window).max().unwrap_or(0)
    }
}

fn good() -> (Duration, CheckResult) {
    (Duration::from_millis(3), Ok(Answer::Healthy))
}

fn bad(takes: Duration) -> (Duration, CheckResult) {
    (takes, Err(Unhealthy::new("broken")))
}

#[test]
fn no_window_holds_more_than_twice_the_mean() {
    let mut most = 0;
    for seed in 0..3 {
        let mut world = World::new(1000, Settings::default(), seed);
        world.run(120 * SECOND, |_, _| good());
        most = most.max(world.fullest(0));
    }
    assert!(most <= 2 * 1000 / 50, "{most} of 1000 in 100 ms of 5 s");
}

#[test]
fn half_of_the_nodes_that_break_and_return_stay_spread_out() {
    let mut world = World::new(1000, Settings::default(), 1);
    world.run(20 * SECOND, |_, _| good());
    world.run(60 * SECOND, |id, _| if id < "n0500" { bad(10 * SECOND) } else { good() });
    let returned = world.times.len();
    world.run(60 * SECOND, |_, _| good());
    // For a moment the half is checked each second.
    assert!(world.fullest(0) <= 2 * (500 / 10 + 500 / 50));
    let settled = returned + 3000;
    assert!(world.fullest(settled) <= 2 * 1000 / 50);
}

#[test]
fn nodes_that_join_one_by_one_or_return_together_are_spread_out() {
    let mut world = World::new(0, Settings::default(), 5);
    let name = |node: usize| Node::new(format!("n{node:04}"));
    for node in 0..1000 {
        world.cluster.insert(name(node), ()).expect("a name");
        world.follow();
        world.run(SECOND / 1000, |_, _| good());
    }
    world.run(20 * SECOND, |_, _| good());
    assert!(world.fullest(0) <= 2 * 1000 / 50, "{}", world.fullest(0));
    world.cluster.replace_with([], |_| ()).expect("it may be empty");
    world.follow();
    world.run(60 * SECOND, |_, _| unreachable!("nobody is there"));
    let left = world.times.len();
    world.cluster.replace_with((0..1000).map(name), |_| ()).expect("names differ");
    world.follow();
    world.run(20 * SECOND, |_, _| good());
    assert!(world.fullest(left) <= 2 * 1000 / 50, "{}", world.fullest(left));
}

#[test]
fn a_break_is_found_out_within_fall_intervals_and_a_timeout() {
    for seed in 0..500 {
        let mut rng = Rng::seeded(seed);
        let fall = 1 + u32::try_from(rng.below(4)).expect("it is small");
        let fast = Some((5 * SECOND).mul_f64(0.01 + 0.99 * rng.unit()));
        let timeout = Some((5 * SECOND).mul_f64(0.01 + 0.98 * rng.unit()));
        let mut world = World::new(3, Settings { fast, timeout, fall, ..Settings::default() }, seed);
        world.run((10 * SECOND).mul_f64(1.0 + rng.unit()), |_, _| good());
        let broken_for = 5 * fall * SECOND + world.pace.timeout;
        let takes = if seed % 2 == 0 { Duration::MAX } else { Duration::ZERO };
        world.run(broken_for, |id, _| if id == "n0001" { bad(takes) } else { good() });
        let health = |id: &str| world.cluster.get(id).expect("it is there").member.state.health();
        assert_eq!((health("n0000"), health("n0001")), (Health::Up, Health::Down), "seed {seed}");
    }
}

#[test]
fn any_history_of_comings_and_goings_leaves_each_member_with_one_check_to_come() {
    for seed in 0..50 {
        let mut rng = Rng::seeded(seed);
        let mut world = World::new(5, Settings::default(), seed);
        for _ in 0..200 {
            let id = format!("n{:04}", rng.below(8));
            match rng.below(3) {
                0 => drop(world.cluster.remove(id)),
                1 => world.cluster.insert(Node::new(id), ()).expect("a name"),
                _ => {}
            }
            world.follow();
            let mut dice = rng.clone();
            world.run(SECOND.mul_f64(3.0 * rng.unit()), |_, _| match dice.below(3) {
                0 => bad(10 * SECOND),
                _ => (SECOND.mul_f64(dice.unit()), Ok(Answer::Healthy)),
            });
            let mut planned = 0;
            for (id, target) in &world.rounds.targets {
                let is_member = world.cluster.get(id.clone()).is_some();
                assert_eq!(target.is_member, is_member);
                let running = world.running.values().any(|(ticket, _)| ticket.id == *id);
                assert_eq!(target.running.is_some(), running);
                planned += usize::from(is_member && !running);
                assert!(target.due <= world.now + world.pace.interval);
            }
            assert_eq!(world.rounds.agenda.len(), planned);
            assert_eq!(world.rounds.report(world.now).len(), world.cluster.load().len());
        }
    }
}

#[test]
fn what_the_cluster_has_forgotten_is_forgotten() {
    let mut world = World::new(0, Settings::default(), 9);
    for crowd in 0..60 {
        let names = (0..100).map(|node| (Node::new(format!("{crowd}-{node}")), ()));
        world.cluster.replace(names).expect("names differ");
        world.follow();
        world.cluster.replace([]).expect("it may be empty");
        world.follow();
    }
    assert!(world.rounds.targets.len() <= 4200, "{}", world.rounds.targets.len());
    assert_eq!(world.rounds.agenda.len(), 0);
}
