#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

const TICK: u64 = 1 << TICK_BITS;

/// What the wheel should do, in the plainest way.
#[derive(Clone, Debug, Default)]
struct Model(BTreeMap<u32, u64>);

impl Model {
    /// The slots that are to be given back at `now`.
    fn due(&self, now: u64) -> Vec<u32> {
        let tick = now / TICK;
        self.0.iter().filter(|(_, deadline)| deadline.div_ceil(TICK) <= tick).map(|(&slot, _)| slot).collect()
    }
}

/// A wheel with a model beside it.
#[derive(Debug)]
struct Pair {
    wheel: Wheel,
    model: Model,
    now: u64,
    latest: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Schedule(u32, u64),
    Extend(u32, u64),
    Cancel(u32),
    /// Time moves by so much, and the wheel may take so many steps.
    Advance(i64, u32),
}

impl Pair {
    fn at(now: u64) -> Self {
        let mut pair = Self { wheel: Wheel::new(), model: Model::default(), now, latest: now };
        assert_eq!(pair.wheel.expired(now, &mut 1), None);
        pair
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Schedule(slot, after) => {
                let deadline = self.now.saturating_add(after);
                self.wheel.schedule(slot, deadline);
                self.model.0.remove(&slot);
                if deadline <= LAST {
                    self.model.0.insert(slot, deadline);
                }
            }
            Step::Extend(slot, after) => {
                let deadline = self.now.saturating_add(after).min(LAST);
                self.wheel.extend(slot, deadline);
                self.model.0.entry(slot).and_modify(|current| *current = deadline.max(*current));
            }
            Step::Cancel(slot) => {
                self.wheel.cancel(slot);
                self.model.0.remove(&slot);
            }
            Step::Advance(by, budget) => {
                self.now = self.now.saturating_add_signed(by);
                self.latest = self.latest.max(self.now);
                self.advance(budget);
            }
        }
        for slot in 0..8 {
            assert_eq!(self.wheel.deadline(slot), self.model.0.get(&slot).copied().unwrap_or(NEVER));
        }
    }

    fn advance(&mut self, mut budget: u32) {
        let mut steps = budget;
        while let Some(slot) = self.wheel.expired(self.now, &mut steps) {
            let deadline = self.model.0.remove(&slot).expect("only what is scheduled comes, and once");
            assert!(deadline <= self.now, "slot {slot} of {deadline} came at {}", self.now);
            assert!(steps < budget, "a step is counted");
            budget = steps;
        }
        if steps > 0 && self.now >= self.latest {
            assert_eq!(self.model.due(self.now), [0; 0], "all that is due came by {}", self.now);
        }
    }

    /// Follows the wheel's own advice until all timers have gone off.
    fn run_out(mut self) {
        self.now = self.latest;
        self.advance(u32::MAX);
        let mut calls = 0;
        while let Some(next) = self.wheel.next_deadline() {
            let first = self.model.0.values().min().expect("a timer that was not cancelled");
            assert!(next > self.now, "it sleeps between two calls");
            assert!(next <= first.div_ceil(TICK) * TICK, "it does not sleep too long");
            self.now = next;
            self.latest = next;
            calls += 1;
            self.advance(u32::MAX);
            self.wheel.check();
        }
        assert_eq!(self.model.0.len(), 0, "every timer went off");
        assert!(calls <= 16 * 8, "{calls} calls");
    }
}

impl Wheel {
    /// The rings are whole, every timer is in the bucket where it is looked for, and the words say which are taken.
    pub(crate) fn check(&self) {
        if self.links.is_empty() {
            return assert_eq!((self.deadlines.len(), self.taken), (0, [0; LEVELS]));
        }
        assert_eq!(self.links.len(), BUCKETS + self.deadlines.len());
        let mut scheduled = 0;
        for head in 0..BUCKETS {
            let (level, index) = (head / WIDTH, head % WIDTH);
            let mut at = head;
            loop {
                let next = self.links[at].next as usize;
                assert_eq!(self.links[next].prev as usize, at);
                if next == head {
                    break;
                }
                scheduled += 1;
                let deadline = self.deadline((next - BUCKETS) as u32);
                assert!(deadline <= LAST);
                let shift = LEVEL_BITS * level as u32;
                let start = (self.tick >> (shift + LEVEL_BITS) << LEVEL_BITS | index as u64) << shift;
                assert!(start >= self.due, "nothing is before {}", self.due);
                assert!(start.max(self.tick) <= deadline.div_ceil(TICK).max(self.tick), "not too late");
                at = next;
            }
            assert_eq!(self.taken[level] >> index & 1 == 1, at != head, "bucket {index} of level {level}");
        }
        let deadlines = self.deadlines.iter().filter(|deadline| deadline.load(Relaxed) != NEVER);
        assert_eq!(scheduled, deadlines.count(), "who has a deadline has a timer");
    }
}

/// Durations of every size, and close to where the levels meet.
fn span(rng: &mut Rng) -> u64 {
    let magnitude = rng.next_u64() >> rng.below(64);
    match rng.below(4) {
        0 => rng.next_u64() % (200 * TICK),
        1 => (TICK << (6 * rng.below(8))).wrapping_add(rng.next_u64() % 3).wrapping_sub(1),
        2 => magnitude,
        _ => (1 << rng.below(24)) + rng.next_u64() % 100,
    }
}

fn random_step(rng: &mut Rng) -> Step {
    let slot = rng.below(8) as u32;
    match rng.below(100) {
        0..40 => Step::Schedule(slot, span(rng)),
        40..50 => Step::Extend(slot, span(rng)),
        50..60 => Step::Cancel(slot),
        60..64 => Step::Advance(-((span(rng) >> 1) as i64), rng.below(20) as u32),
        64..66 => Step::Advance((span(rng) >> 1) as i64, 1000),
        66..80 => Step::Advance((rng.next_u64() % (70 * TICK)) as i64, rng.below(3) as u32),
        _ => Step::Advance((rng.next_u64() % (5000 * TICK)) as i64, rng.below(30) as u32),
    }
}

#[test]
fn a_wheel_does_what_a_sorted_list_does_in_random_histories() {
    let histories = if std::env::var_os("BUTTRESS_LONG").is_some() { 200_000 } else { 4_000 };
    for seed in 0..histories {
        let mut rng = Rng::seeded(seed);
        let start = span(&mut rng) >> rng.below(2);
        let mut pair = Pair::at(start);
        for _ in 0..rng.below(150) {
            pair.step(random_step(&mut rng));
            pair.wheel.check();
        }
        pair.run_out();
    }
}

/// Every history of a few steps on two slots, from times where levels meet.
#[test]
fn a_wheel_does_what_a_sorted_list_does_in_every_small_history() {
    let mut steps = vec![Step::Cancel(0), Step::Extend(0, 65 * TICK), Step::Extend(1, 4096 * TICK)];
    for after in [0, 1, TICK, 63 * TICK + 1, 64 * TICK, 4096 * TICK, 5000 * TICK] {
        steps.extend([Step::Schedule(0, after), Step::Schedule(1, after)]);
    }
    for by in [1, TICK, 64 * TICK, 4095 * TICK, 5000 * TICK] {
        steps.extend([Step::Advance(by as i64, 1), Step::Advance(by as i64, 100)]);
    }
    steps.extend([Step::Advance(0, 1), Step::Advance(-100 * TICK as i64, 100)]);
    let n = steps.len();
    let length = if std::env::var_os("BUTTRESS_LONG").is_some() { 4 } else { 3 };
    for start in [0, 63 * TICK + 5, (64 * 64 - 1) * TICK, (1 << 62) - 2] {
        for history in 0..n.pow(length) {
            let mut pair = Pair::at(start);
            let mut rest = history;
            for _ in 0..length {
                pair.step(steps[rest % n]);
                rest /= n;
            }
            pair.wheel.check();
            pair.run_out();
        }
    }
}

#[test]
fn what_is_scheduled_comes_not_before_its_deadline_and_within_a_tick_after() {
    for deadline in [1, TICK - 1, TICK, TICK + 1, 63 * TICK, 64 * TICK, 64 * TICK + 1, 1 << 40, 1 << 62, LAST]
    {
        let mut wheel = Wheel::new();
        wheel.schedule(3, deadline);
        let tick = deadline.div_ceil(TICK) * TICK;
        assert_eq!(wheel.expired(deadline - 1, &mut 100), None, "{deadline}");
        assert_eq!(wheel.expired(tick, &mut 100), Some(3), "{deadline}");
        assert_eq!(wheel.expired(tick, &mut 100), None, "{deadline}");
        wheel.check();
    }
}

#[test]
fn what_never_expires_takes_no_memory() {
    let mut wheel = Wheel::new();
    for deadline in [NEVER, LAST + 1] {
        wheel.schedule(1_000_000, deadline);
        assert_eq!((wheel.next_deadline(), wheel.deadline(1_000_000)), (None, NEVER));
    }
    assert_eq!((wheel.links.capacity(), wheel.deadlines.capacity()), (0, 0));
    wheel.cancel(7);
    wheel.extend(7, 1);
    assert_eq!(wheel.expired(LAST, &mut 100), None);
}

/// Each call does a bounded part of a mass expiry, and nothing is lost between calls.
#[test]
fn a_mass_expiry_is_taken_in_slices() {
    let mut wheel = Wheel::new();
    let slots = 100_000;
    for slot in 0..slots {
        wheel.schedule(slot, 3600 * 1_000_000_000 + u64::from(slot));
    }
    let now = 3601 * 1_000_000_000;
    let (mut seen, mut calls) = (vec![false; slots as usize], 0);
    loop {
        let (mut steps, mut came) = (64, 0);
        while let Some(slot) = wheel.expired(now, &mut steps) {
            assert!(!std::mem::replace(&mut seen[slot as usize], true));
            came += 1;
        }
        calls += 1;
        assert!(came <= 64);
        if steps > 0 {
            break;
        }
    }
    assert!(seen.iter().all(|seen| *seen));
    // What is long past is not dealt to lower levels first.
    assert_eq!(calls, slots / 64 + 1);
}

#[test]
fn an_extended_deadline_holds_however_often_its_timer_goes_off() {
    let mut wheel = Wheel::new();
    wheel.schedule(0, TICK);
    for tick in 1..1000 {
        wheel.extend(0, (tick + 1) * TICK);
        assert_eq!(wheel.expired(tick * TICK, &mut 100), None);
    }
    assert_eq!(wheel.expired(1000 * TICK, &mut 100), Some(0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn timers_of_any_deadlines_all_come_in_time(
        start in any::<u64>(),
        afters in proptest::collection::vec(any::<u64>().prop_flat_map(|n| (0..64_u32).prop_map(move |by| n >> by)), 1..16),
    ) {
        let mut pair = Pair::at(start);
        for (slot, after) in (0..).zip(afters) {
            pair.step(Step::Schedule(slot, after));
        }
        pair.wheel.check();
        pair.run_out();
    }
}
