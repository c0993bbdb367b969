//! The detector alone: each rule, and what holds in all histories.

mod histories;

use std::time::Duration;

use super::{
    Cause, OutlierDetection,
    core::{Change, Detector, Fleet},
};
use crate::{
    cluster::{FailureKind, NEVER, Probe, Term},
    rng::Rng,
};

const MS: u64 = 1_000_000;
const SEC: u64 = 1_000 * MS;

/// What the nodes have been sent, and how long they take.
#[derive(Default)]
struct Counters(Vec<(u64, Option<f32>)>);

impl Fleet for Counters {
    fn sent(&self, node: usize) -> u64 {
        self.0[node].0
    }

    fn latency(&self, node: usize) -> Option<f32> {
        self.0[node].1
    }
}

/// Some nodes with all that is needed to tell the detector about them.
struct World {
    detector: Detector,
    counters: Counters,
    terms: Vec<Term>,
    now: u64,
}

impl World {
    fn new(rules: OutlierDetection, nodes: usize) -> Self {
        let mut detector = Detector::new(rules.jitter(0), Rng::seeded(1), 0);
        detector.reserve(nodes);
        for node in 0..nodes {
            detector.enroll(node, 0);
            detector.set_member(node, true);
            detector.set_up(node, true);
        }
        detector.settle(0);
        let counters = Counters(vec![(0, None); nodes]);
        Self { detector, counters, terms: vec![Term::default(); nodes], now: 0 }
    }

    fn fail(&mut self, node: usize, kind: FailureKind) {
        self.counters.0[node].0 += 1;
        self.detector.failed(node, self.terms[node], kind, self.now, &self.counters);
        self.follow();
    }

    fn succeed(&mut self, node: usize) {
        self.counters.0[node].0 += 1;
        self.detector.succeeded(node);
    }

    fn sweep(&mut self) {
        self.detector.sweep(self.now, &self.counters);
        self.follow();
    }

    fn claim(&mut self) -> Option<(usize, Term)> {
        let claimed = self.detector.claim(self.now, None, |_| false);
        self.follow();
        claimed
    }

    fn probed(&mut self, (node, term): (usize, Term), outcome: Probe) {
        self.detector.probed(node, term, outcome, self.now);
        self.follow();
    }

    fn follow(&mut self) {
        for change in self.detector.take_changes() {
            if let Change::Eject(node, term) = change {
                self.terms[node] = term;
            }
        }
    }

    /// The nodes that are out, and for how many milliseconds from now.
    fn out(&self) -> Vec<(usize, u64)> {
        let mut out: Vec<_> = self
            .detector
            .ejected()
            .map(|(node, spell)| (node, spell.until.saturating_sub(self.now) / MS))
            .collect();
        out.sort_unstable();
        out
    }

    fn is_out(&self, node: usize) -> bool {
        self.out().iter().any(|(out, _)| *out == node)
    }

    /// Has a node fail until it is out.
    fn eject(&mut self, node: usize) {
        for _ in 0..5 {
            self.fail(node, FailureKind::Response);
        }
        assert!(self.is_out(node));
    }
}

#[test]
fn five_failures_in_a_row_put_a_node_out() {
    let mut world = World::new(OutlierDetection::new(), 4);
    for _ in 0..4 {
        world.fail(2, FailureKind::Response);
    }
    world.succeed(2);
    for _ in 0..4 {
        world.fail(2, FailureKind::Response);
    }
    assert_eq!(world.out(), []);
    world.fail(2, FailureKind::Response);
    assert_eq!(world.out(), [(2, 5000)]);
    assert_eq!(world.detector.total(Cause::ConsecutiveFailures), 1);
}

#[test]
fn kinds_of_failures_are_counted_apart() {
    let rules = OutlierDetection::none()
        .consecutive_failures(4)
        .consecutive_gateway_failures(2)
        .consecutive_local_failures(3);
    let mut world = World::new(rules, 8);
    for _ in 0..2 {
        world.fail(0, FailureKind::Timeout);
    }
    // An answer: the connection works.
    world.fail(0, FailureKind::Response);
    world.fail(0, FailureKind::Connect);
    assert!(!world.is_out(0));
    for kind in [FailureKind::Transport, FailureKind::Timeout] {
        world.fail(0, kind);
    }
    assert_eq!(world.detector.total(Cause::ConsecutiveLocalFailures), 1);

    for kind in [FailureKind::Gateway, FailureKind::Response, FailureKind::Overloaded] {
        world.fail(1, kind);
    }
    assert!(!world.is_out(1), "between two gateway failures there was another one");
    world.fail(1, FailureKind::Gateway);
    assert_eq!(world.detector.total(Cause::ConsecutiveGatewayFailures), 1);

    for _ in 0..100 {
        world.fail(2, FailureKind::Throttled);
    }
    assert!(!world.is_out(2), "it was well enough to say so");
}

#[test]
fn a_node_that_fails_too_large_a_part_is_put_out_whatever_succeeds_in_between() {
    let mut world = World::new(OutlierDetection::none().failure_ratio(0.2).min_volume(50), 4);
    // An hour of success does not make up for it.
    world.counters.0[1].0 = 1_000_000;
    world.now = 3600 * SEC;
    for requests in 1.. {
        match requests % 4 {
            1 => world.fail(1, FailureKind::Response),
            _ => world.succeed(1),
        }
        if world.is_out(1) {
            assert!((50..54).contains(&requests), "after {requests}");
            break;
        }
        assert!(requests < 60);
    }
    for _ in 0..1000 {
        (0..6).for_each(|_| world.succeed(2));
        world.fail(2, FailureKind::Response);
    }
    assert!(!world.is_out(2), "one in seven is less than a fifth");
}

#[test]
fn failures_of_one_interval_do_not_count_in_the_next() {
    let mut world = World::new(OutlierDetection::nginx(3, Duration::from_secs(10)), 4);
    for _ in 0..20 {
        world.fail(0, FailureKind::Connect);
        world.fail(0, FailureKind::Response);
        world.succeed(0);
        world.now += 10 * SEC;
    }
    assert_eq!(world.out(), []);
    world.fail(0, FailureKind::Connect);
    world.now += 9 * SEC;
    world.fail(0, FailureKind::Response);
    world.succeed(0);
    world.fail(0, FailureKind::Gateway);
    assert_eq!(world.out(), [(0, 10_000)]);
}

#[test]
fn nginx_tries_after_the_same_time_again_and_again() {
    let mut world = World::new(OutlierDetection::nginx(1, Duration::from_secs(7)), 3);
    world.fail(0, FailureKind::Connect);
    world.fail(1, FailureKind::Connect);
    world.fail(2, FailureKind::Connect);
    assert_eq!(world.out(), [(0, 7000), (1, 7000)], "the last one stays");
    for _ in 0..5 {
        world.now += 7 * SEC;
        let (first, second) = (world.claim().unwrap(), world.claim().unwrap());
        assert_eq!(world.claim(), None);
        world.probed(first, Probe::Failed);
        world.probed(second, Probe::Failed);
        assert_eq!(world.out(), [(0, 7000), (1, 7000)]);
    }
}

#[test]
fn a_single_node_is_never_put_out() {
    for rules in [OutlierDetection::new(), OutlierDetection::nginx(1, Duration::from_secs(10))] {
        let mut world = World::new(rules, 1);
        (0..100).for_each(|_| world.fail(0, FailureKind::Connect));
        assert_eq!(world.out(), []);
    }
}

#[test]
fn an_ejection_lasts_twice_as_long_each_time_up_to_a_limit_and_less_after_clean_intervals() {
    let rules = OutlierDetection::new().max_ejection(Duration::from_secs(60));
    let mut world = World::new(rules, 4);
    world.eject(0);
    for expected in [10, 20, 40, 60, 60] {
        world.now = world.detector.probe_at();
        let probe = world.claim().unwrap();
        world.probed(probe, Probe::Failed);
        assert_eq!(world.out(), [(0, expected * 1000)]);
    }
    let back = |world: &mut World| {
        world.now = world.detector.probe_at();
        let probe = world.claim().unwrap();
        world.probed(probe, Probe::Passed);
        assert_eq!(world.out(), []);
    };
    // 5 s doubled four times is beyond the limit already. Two intervals undo two of them.
    back(&mut world);
    world.now += 29 * SEC;
    world.eject(0);
    assert_eq!(world.out(), [(0, 20_000)]);
    back(&mut world);
    world.now += 3600 * SEC;
    world.eject(0);
    assert_eq!(world.out(), [(0, 5000)]);
}

#[test]
fn the_share_is_that_of_the_members_with_the_next_one_included() {
    for (nodes, percent, expected) in
        [(10, 30, 3), (10, 39, 3), (5, 50, 2), (20, 4, 1), (3, 100, 2), (2, 50, 1)]
    {
        let mut world = World::new(OutlierDetection::new().max_share(percent), nodes);
        for node in 0..nodes {
            (0..20).for_each(|_| world.fail(node, FailureKind::Response));
        }
        assert_eq!(world.out().len(), expected, "{percent} % of {nodes}");
    }
    let mut world = World::new(OutlierDetection::new().max_share(4).at_least_one(false), 20);
    (0..20).for_each(|_| world.fail(0, FailureKind::Response));
    assert_eq!(world.out(), []);
}

#[test]
fn a_node_that_fails_now_takes_the_place_of_one_that_failed_a_while_ago() {
    let mut world = World::new(OutlierDetection::new(), 6);
    for node in 0..3 {
        world.eject(node);
        world.now += 100 * MS;
    }
    (0..20).for_each(|_| world.fail(3, FailureKind::Response));
    assert!(!world.is_out(3), "the others failed just now as well");

    world.now += SEC;
    world.eject(3);
    assert!(!world.is_out(0), "the one that was due first");
    assert_eq!(world.out().len(), 3);
}

#[test]
fn those_that_are_down_count_among_those_that_may_be_out() {
    let mut world = World::new(OutlierDetection::new(), 6);
    for node in 0..3 {
        world.eject(node);
        world.now += SEC;
    }
    for node in [4, 5] {
        world.detector.set_up(node, false);
        world.detector.settle(world.now);
    }
    let out: Vec<_> = world.out().into_iter().map(|(node, _)| node).collect();
    assert_eq!(out, [2], "three of six in all, or balancers would panic");

    world.now += 2 * SEC;
    world.eject(3);
    assert!(!world.is_out(2), "a fourth one takes its place");

    let mut world = World::new(OutlierDetection::new(), 3);
    world.detector.set_up(0, false);
    (0..20).for_each(|_| world.fail(1, FailureKind::Response));
    assert_eq!(world.out(), [], "two of three would be too many");
}

#[test]
fn when_nodes_leave_those_that_are_due_first_come_back() {
    let mut world = World::new(OutlierDetection::new(), 8);
    for node in [3, 1, 2, 0] {
        world.eject(node);
        world.now += SEC;
    }
    for node in 4..7 {
        world.detector.set_member(node, false);
    }
    world.detector.settle(world.now);
    // Half of five.
    let out: Vec<_> = world.out().into_iter().map(|(node, _)| node).collect();
    assert_eq!(out, [0, 2]);
}

#[test]
fn when_checks_take_the_last_others_down_one_comes_back() {
    let mut world = World::new(OutlierDetection::new().max_share(100), 4);
    world.eject(0);
    world.now += SEC;
    world.eject(1);
    for node in [2, 3] {
        world.detector.set_up(node, false);
    }
    world.detector.settle(world.now);
    assert!(!world.is_out(0) && world.is_out(1));
}

#[test]
fn nodes_that_are_down_do_not_count_as_left() {
    let mut world = World::new(OutlierDetection::new(), 4);
    for node in [1, 2, 3] {
        world.detector.set_up(node, false);
    }
    (0..20).for_each(|_| world.fail(0, FailureKind::Response));
    assert_eq!(world.out(), []);
}

#[test]
fn one_probe_at_a_time_and_one_that_says_nothing_makes_room_for_the_next() {
    let mut world = World::new(OutlierDetection::new(), 4);
    world.eject(0);
    assert_eq!(world.claim(), None);
    world.now = world.detector.probe_at();
    for _ in 0..10 {
        let probe = world.claim().unwrap();
        assert_eq!(world.claim(), None);
        world.probed(probe, Probe::Void);
    }
    let probe = world.claim().unwrap();
    world.probed(probe, Probe::Passed);
    assert_eq!(world.out(), []);
    assert_eq!(world.detector.probe_at(), NEVER);
}

#[test]
fn a_probe_without_an_answer_has_failed() {
    let mut world = World::new(OutlierDetection::new(), 4);
    world.eject(0);
    world.now = world.detector.probe_at();
    let hung = world.claim().unwrap();
    assert_eq!(world.detector.probe_at(), world.now + 10 * SEC);
    world.now += 10 * SEC;
    assert_eq!(world.claim(), None);
    assert_eq!(world.out(), [(0, 10_000)]);
    world.probed(hung, Probe::Passed);
    assert_eq!(world.out(), [(0, 10_000)], "too late");
}

#[test]
fn what_was_sent_before_an_ejection_changes_nothing_after_it() {
    let mut world = World::new(OutlierDetection::new(), 4);
    let before = world.terms[0];
    world.eject(0);
    world.detector.succeeded(0);
    for _ in 0..20 {
        world.detector.failed(0, before, FailureKind::Response, world.now, &world.counters);
    }
    assert_eq!(world.out(), [(0, 5000)]);
    world.now = world.detector.probe_at();
    let probe = world.claim().unwrap();
    world.probed(probe, Probe::Passed);
    for _ in 0..20 {
        world.detector.failed(0, before, FailureKind::Response, world.now, &world.counters);
    }
    assert_eq!(world.out(), []);
}

#[test]
fn a_full_node_is_tried_a_little_later() {
    let mut world = World::new(OutlierDetection::new(), 4);
    world.eject(0);
    world.now = world.detector.probe_at();
    assert_eq!(world.detector.claim(world.now, None, |_| true), None);
    assert!(world.detector.probe_at() > world.now, "nobody asks in vain again at once");
    world.now += 10 * MS;
    assert!(world.claim().is_some());
}

#[test]
fn a_node_that_succeeds_less_often_than_the_others_is_put_out() {
    let mut world = World::new(OutlierDetection::none().success_rate(1.9), 8);
    for round in 0..3 {
        for node in 0..8 {
            for request in 0..100 {
                let fails = if node == 5 { request % 5 == 0 } else { request == node };
                if fails { world.fail(node, FailureKind::Response) } else { world.succeed(node) }
            }
        }
        world.now += 10 * SEC;
        world.sweep();
        if round == 0 {
            assert_eq!(world.out(), [(5, 5000)]);
            assert_eq!(world.detector.total(Cause::SuccessRate), 1);
        }
    }
    assert_eq!(
        world.detector.total(Cause::SuccessRate),
        1,
        "no window in which it was out is held against it"
    );
}

#[test]
fn too_few_nodes_or_requests_say_nothing_of_a_success_rate() {
    for (nodes, requests, expected) in [(5, 100, true), (4, 100, false), (5, 99, false), (6, 99, false)] {
        let mut world = World::new(OutlierDetection::none().success_rate(1.5), nodes);
        for node in 0..nodes {
            for _ in 0..requests {
                if node == 1 { world.fail(node, FailureKind::Response) } else { world.succeed(node) }
            }
        }
        world.now += 10 * SEC;
        world.sweep();
        assert_eq!(world.is_out(1), expected, "{requests} requests to each of {nodes} nodes");
    }
}

#[test]
fn nodes_that_are_put_out_together_come_back_apart() {
    let rules = OutlierDetection::new().max_share(100);
    let nodes = 100;
    let mut world = World::new(rules.clone(), nodes);
    world.detector.rules = rules.jitter(10);
    for node in 0..nodes - 1 {
        world.eject(node);
    }
    let mut ends: Vec<_> = world.detector.ejected().map(|(_, spell)| spell.until).collect();
    ends.sort_unstable();
    assert!(ends[0] >= 5 * SEC && ends[nodes - 2] <= 5500 * MS);
    let early = ends.partition_point(|&end| end < 5250 * MS);
    assert!((35..65).contains(&early), "{early} of 99 in the first half");
    ends.dedup();
    assert_eq!(ends.len(), nodes - 1);
}

#[test]
fn a_few_failures_of_one_among_perfect_nodes_are_no_outlier() {
    let mut world = World::new(OutlierDetection::none().success_rate(1.9), 20);
    for node in 0..20 {
        (0..1000).for_each(|_| world.succeed(node));
    }
    world.fail(3, FailureKind::Response);
    world.now += 10 * SEC;
    world.sweep();
    assert_eq!(world.out(), []);
}

#[test]
fn a_window_that_is_too_old_is_not_judged() {
    let mut world = World::new(OutlierDetection::none().success_rate(1.9), 8);
    for node in 0..8 {
        (0..200).for_each(|_| world.succeed(node));
    }
    (0..200).for_each(|_| world.fail(1, FailureKind::Response));
    world.now += 20 * SEC;
    world.sweep();
    assert_eq!(world.out(), []);
}

#[test]
fn a_node_that_is_far_slower_twice_in_a_row_is_put_out() {
    let mut world = World::new(OutlierDetection::none().latency(3.0), 6);
    let round = |world: &mut World, slow: f32| {
        for node in 0..6 {
            let latency = if node == 4 { slow } else { 0.010 + 0.001 * node as f32 };
            world.counters.0[node] = (world.counters.0[node].0 + 10, Some(latency));
        }
        world.now += 10 * SEC;
        world.sweep();
    };
    round(&mut world, 0.100);
    round(&mut world, 0.020);
    round(&mut world, 0.100);
    assert_eq!(world.out(), []);
    round(&mut world, 0.100);
    assert_eq!(world.out(), [(4, 5000)]);
    assert_eq!(world.detector.total(Cause::Latency), 1);
}

#[test]
fn an_idle_node_is_not_slow_and_neither_is_one_by_a_few_milliseconds() {
    let mut world = World::new(OutlierDetection::none().latency(3.0), 6);
    for _ in 0..5 {
        for node in 0..6 {
            let (latency, requests) = match node {
                4 => (9.0, 0),
                5 => (0.008, 10),
                _ => (0.001, 10),
            };
            world.counters.0[node] = (world.counters.0[node].0 + requests, Some(latency));
        }
        world.now += 10 * SEC;
        world.sweep();
    }
    assert_eq!(world.out(), []);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    use super::OutlierError;
    let cluster = || crate::cluster::Cluster::new([(crate::cluster::Node::new("a"), ())]).unwrap();
    let error = |rules: OutlierDetection| rules.watch(&cluster()).unwrap_err();
    let setting = |rules: OutlierDetection| match error(rules) {
        OutlierError::Setting(setting, _) => setting,
        error => panic!("{error}"),
    };
    let new = OutlierDetection::new;
    assert_eq!(error(OutlierDetection::none()), OutlierError::NoRule);
    assert_eq!(setting(new().consecutive_failures(0)), "consecutive_failures");
    assert_eq!(setting(OutlierDetection::nginx(0, Duration::from_secs(1))), "max_failures");
    assert_eq!(setting(OutlierDetection::nginx(1, Duration::ZERO)), "interval");
    assert_eq!(setting(new().failure_ratio(1.5)), "failure_ratio");
    assert_eq!(setting(new().success_rate(f64::NAN)), "success_rate");
    assert_eq!(setting(new().latency(1.0)), "latency");
    assert_eq!(setting(new().max_ejection(Duration::from_secs(1))), "max_ejection");
    assert_eq!(setting(new().probe_timeout(Duration::ZERO)), "probe_timeout");
    let cluster = cluster();
    assert!(new().watch(&cluster).is_ok());
    assert_eq!(new().watch(&cluster).unwrap_err(), OutlierError::AlreadyWatched);
}
