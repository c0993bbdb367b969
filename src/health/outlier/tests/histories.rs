//! A million random histories: whatever happens, the promises hold after every step.

use std::{thread, time::Duration};

use super::{Change, Counters, Detector, FailureKind, MS, NEVER, OutlierDetection, Probe, Rng, Term};
use crate::cluster::nanos;

const HISTORIES: u64 = 1_000_000;
const STEPS: usize = 16;
const KINDS: [FailureKind; 7] = [
    FailureKind::Connect,
    FailureKind::Transport,
    FailureKind::Timeout,
    FailureKind::Response,
    FailureKind::Gateway,
    FailureKind::Overloaded,
    FailureKind::Throttled,
];

/// What is true of a node, apart from what the detector thinks.
#[derive(Clone, Copy, Default)]
struct Truth {
    is_member: bool,
    is_up: bool,
    is_out: bool,
    term: Term,
    level: u32,
    back_since: u64,
}

struct History {
    rng: Rng,
    rules: OutlierDetection,
    detector: Detector,
    counters: Counters,
    nodes: Vec<Truth>,
    /// Probes that have not ended, some of which never will.
    probes: Vec<(usize, Term)>,
    now: u64,
}

fn rules(rng: &mut Rng) -> OutlierDetection {
    let mut one_of = |choices: &[u32]| choices[rng.below(choices.len())];
    let base = Duration::from_millis(one_of(&[1, 10, 1000]).into());
    let some = |limit: u32| (limit > 0).then_some(limit);
    OutlierDetection::none()
        .consecutive_failures(some(one_of(&[0, 1, 2, 5])))
        .consecutive_gateway_failures(some(one_of(&[0, 1, 2])))
        .consecutive_local_failures(some(one_of(&[0, 1, 2, 5])))
        .max_failures(some(one_of(&[0, 0, 1, 3])))
        .failure_ratio(some(one_of(&[0, 0, 20, 100])).map(|percent| f64::from(percent) / 100.0))
        .success_rate(some(one_of(&[0, 1])).map(|_| 0.5))
        .latency(some(one_of(&[0, 1])).map(|_| 2.0))
        .min_volume(one_of(&[0, 1, 5]).into())
        .min_nodes(one_of(&[2, 3]) as usize)
        .interval(Duration::from_millis(one_of(&[1, 50, 5000]).into()))
        .base_ejection(base)
        .max_ejection(base * one_of(&[1, 4, 100]))
        .jitter(one_of(&[0, 10, 100]))
        .max_share(one_of(&[0, 10, 50, 100]))
        .at_least_one(one_of(&[0, 1]) == 1)
        .probe_timeout(Duration::from_millis(one_of(&[1, 100]).into()))
}

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::seeded(seed);
        let rules = rules(&mut rng);
        let nodes = 1 + rng.below(6);
        let mut detector = Detector::new(rules.clone(), Rng::seeded(seed + 1), 0);
        detector.reserve(nodes);
        let mut history = Self {
            rng,
            rules,
            detector,
            counters: Counters(vec![(0, None); nodes]),
            nodes: vec![Truth::default(); nodes],
            probes: Vec::new(),
            now: 0,
        };
        (0..nodes).for_each(|node| history.enroll(node));
        history.check();
        history
    }

    fn enroll(&mut self, node: usize) {
        self.nodes[node] = Truth { is_member: true, is_up: true, ..Truth::default() };
        self.probes.retain(|(other, _)| *other != node);
        self.counters.0[node].0 = 0;
        self.detector.enroll(node, 0);
        self.place(node);
    }

    fn place(&mut self, node: usize) {
        let Truth { is_member, is_up, .. } = self.nodes[node];
        self.detector.set_member(node, is_member);
        self.detector.set_up(node, is_up);
        self.detector.settle(self.now);
    }

    fn step(&mut self) {
        let node = self.rng.below(self.nodes.len());
        let term = self.nodes[node].term;
        match self.rng.below(20) {
            0..=5 => self.fail(node, term),
            6 => self.fail(node, Term::default()),
            7 => {
                self.counters.0[node].0 += 1;
                self.detector.succeeded(node);
            }
            8 => {
                let latency = [0.001, 0.02, 3.0][self.rng.below(3)];
                let sent = self.rng.next_u64() % 10;
                self.counters.0[node] = (self.counters.0[node].0 + sent, Some(latency));
            }
            9 => self.detector.sweep(self.now, &self.counters),
            10 => self.now += self.rng.next_u64() % [10 * MS, 2000 * MS][self.rng.below(2)],
            11 | 12 => self.now = self.now.max(self.detector.probe_at().min(self.now + 5000 * MS)),
            13 | 14 => self.claim(),
            15 | 16 => self.end_probe(),
            17 => {
                self.nodes[node].is_member ^= true;
                self.place(node);
            }
            18 => {
                self.nodes[node].is_up ^= true;
                self.place(node);
            }
            _ => match self.rng.below(3) {
                0 => assert_eq!(self.detector.release(node, self.now), self.nodes[node].is_out),
                1 => self.enroll(node),
                _ => {
                    self.probes.pop();
                }
            },
        }
        self.check();
        self.check_limits();
    }

    fn fail(&mut self, node: usize, term: Term) {
        let kind = KINDS[self.rng.below(KINDS.len())];
        for _ in 0..=self.rng.below(4) {
            self.counters.0[node].0 += 1;
            self.detector.failed(node, term, kind, self.now, &self.counters);
        }
        if kind == FailureKind::Throttled {
            assert_eq!(self.detector.take_changes().count(), 0, "a node that throttles is well");
        }
    }

    fn claim(&mut self) {
        let full = self.rng.below(20);
        if let Some(probe) = self.detector.claim(self.now, None, |node| node == full) {
            assert!(!self.probes.contains(&probe), "a second probe at once");
            let node = self.nodes[probe.0];
            assert!(node.is_out && node.is_member && node.is_up);
            self.probes.push(probe);
        }
    }

    fn end_probe(&mut self) {
        if !self.probes.is_empty() {
            let (node, term) = self.probes.swap_remove(self.rng.below(self.probes.len()));
            let outcome = [Probe::Passed, Probe::Failed, Probe::Void][self.rng.below(3)];
            self.detector.probed(node, term, outcome, self.now);
        }
    }

    fn check(&mut self) {
        let changes: Vec<_> = self.detector.take_changes().collect();
        if changes.is_empty() {
            return;
        }
        for change in changes {
            self.follow(change);
        }
        let is_out = |node: usize| self.detector.ejected().any(|(other, _)| other == node);
        assert!((0..self.nodes.len()).all(|node| is_out(node) == self.nodes[node].is_out));
        self.check_limits();
    }

    fn check_limits(&self) {
        let count = |of: fn(&Truth) -> bool| self.nodes.iter().filter(|node| of(node)).count();
        let members = count(|node| node.is_member);
        let ejected = count(|node| node.is_member && node.is_out);
        let most = (members * self.rules.max_share as usize / 100).max(usize::from(self.rules.at_least_one));
        assert!(ejected <= most, "{ejected} of {members} are out");
        if count(|node| node.is_member && node.is_up) > 0 {
            assert!(count(|node| node.is_member && node.is_up && !node.is_out) > 0, "nobody is left");
        }
    }

    fn follow(&mut self, change: Change) {
        match change {
            Change::Readmit(node) => {
                let node = &mut self.nodes[node];
                assert!(node.is_out);
                (node.is_out, node.back_since) = (false, self.now);
            }
            Change::Eject(slot, term) => {
                let node = &mut self.nodes[slot];
                let [base, most, interval] =
                    [self.rules.base_ejection, self.rules.max_ejection, self.rules.interval].map(nanos);
                if !node.is_out {
                    assert!(node.is_member && node.is_up);
                    let clean = (self.now - node.back_since) / interval;
                    node.level -= (node.level).min(clean.try_into().unwrap_or(u32::MAX));
                }
                let span = (base << node.level).min(most);
                node.level += u32::from(span < most);
                (node.is_out, node.term) = (true, term);
                // Unless it has come back since, or was put out again.
                if let Some((_, spell)) = self.detector.ejected().find(|(other, _)| *other == slot) {
                    let lasts = spell.until - self.now;
                    let longest = span + span * u64::from(self.rules.jitter) / 100;
                    assert!((span..=longest).contains(&lasts), "{lasts} instead of {span} to {longest}");
                }
            }
        }
    }

    /// Once nothing fails any more, everybody who can serve comes back.
    fn recover(&mut self) {
        self.probes.clear();
        for _ in 0..4 * self.nodes.len() {
            if self.detector.probe_at() == NEVER {
                break;
            }
            self.now = self.now.max(self.detector.probe_at());
            if let Some((node, term)) = self.detector.claim(self.now, None, |_| false) {
                self.detector.probed(node, term, Probe::Passed, self.now);
            }
            self.check();
        }
        assert!(self.nodes.iter().all(|node| !node.is_out || !node.is_member || !node.is_up));
    }
}

#[test]
fn in_a_million_histories_no_promise_is_broken() {
    let threads = 2;
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for seed in (thread..HISTORIES).step_by(2) {
                    let run = std::panic::AssertUnwindSafe(|| {
                        let mut history = History::new(seed * 2);
                        (0..STEPS).for_each(|_| history.step());
                        history.recover();
                    });
                    if let Err(panic) = std::panic::catch_unwind(run) {
                        eprintln!("in history {seed}");
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
}
