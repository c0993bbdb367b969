//! Any history leaves every policy true to its promises, and those that are exact with the victims of a naive model.

use std::{collections::BTreeMap, num::NonZeroUsize};

use proptest::{collection::vec, prelude::*};

use super::{
    models::{
        Aged, Fifo as NaiveFifo, Lru as NaiveLru, Model, Refuse, S3Fifo as NaiveS3Fifo, Sieve as NaiveSieve,
    },
    *,
};
use crate::rng::Rng;

#[derive(Clone, Copy, Debug)]
enum Op {
    Request(u64, u64),
    Remove(u64),
    Reweigh(u64, u64),
    Resize(u64),
}

fn history(weights: u64) -> impl Strategy<Value = Vec<Op>> {
    // Popular keys, and those that come once or twice.
    let key = || prop_oneof![3 => 0..12_u64, 2 => 0..60_u64];
    let weight = move || 1..=weights;
    let op = prop_oneof![
        40 => (key(), weight()).prop_map(|(key, weight)| Op::Request(key, weight)),
        3 => key().prop_map(Op::Remove),
        2 => (key(), weight()).prop_map(|(key, weight)| Op::Reweigh(key, weight)),
        1 => (1..40_u64).prop_map(Op::Resize),
    ];
    vec(op, 1..400)
}

/// Plays a history to a policy and to its model, which must evict the same keys in the same order.
fn agree(
    eviction: &Eviction,
    mut model: impl Model,
    capacity: u64,
    history: &[Op],
) -> Result<(), TestCaseError> {
    let mut simulation = simulation(eviction, capacity);
    let mut entries = BTreeMap::new();
    let mut capacity = capacity;
    for &op in history {
        let mut evicted = Vec::new();
        let mut room =
            |entries: &mut BTreeMap<u64, u64>, model: &mut dyn Model, capacity: u64, newcomer: u64| {
                while entries.values().sum::<u64>() + newcomer > capacity {
                    let Some(key) = model.evict(newcomer > 0) else { return false };
                    assert!(entries.remove(&key).is_some());
                    evicted.push(key);
                }
                true
            };
        match op {
            Op::Request(key, weight) => {
                let hit = entries.contains_key(&key);
                prop_assert_eq!(simulation.request(key, weight), hit);
                if hit {
                    model.hit(key);
                } else if weight <= capacity && room(&mut entries, &mut model, capacity, weight) {
                    entries.insert(key, weight);
                    model.insert(key, weight);
                }
            }
            Op::Remove(key) => {
                let there = entries.remove(&key).is_some();
                prop_assert_eq!(simulation.remove(key), there);
                if there {
                    model.remove(key);
                }
            }
            Op::Reweigh(key, weight) => {
                simulation.reweigh(key, weight);
                let there = entries.remove(&key).is_some();
                if there && weight > capacity {
                    model.remove(key);
                } else if there {
                    entries.insert(key, weight);
                    model.reweigh(key, weight);
                    room(&mut entries, &mut model, capacity, 0);
                }
            }
            Op::Resize(to) => {
                simulation.resize(to);
                capacity = to;
                model.resize(to);
                room(&mut entries, &mut model, capacity, 0);
            }
        }
        prop_assert_eq!(simulation.evicted(), &evicted[..], "{:?}", op);
        prop_assert_eq!(simulation.weight(), entries.values().sum::<u64>());
        prop_assert_eq!(simulation.len(), entries.len());
        prop_assert!(simulation.weight() <= capacity);
    }
    // And none is lost: all can be evicted, each once. The simulation panics if one comes twice.
    simulation.resize(0);
    prop_assert!(simulation.is_empty());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn fifo_evicts_as_its_model(capacity in 0..40_u64, history in history(4)) {
        agree(&Eviction::fifo(), NaiveFifo::default(), capacity, &history)?;
    }

    #[test]
    fn lru_evicts_as_its_model(capacity in 0..40_u64, history in history(4)) {
        agree(&Eviction::lru(), NaiveLru::default(), capacity, &history)?;
    }

    #[test]
    fn no_eviction_evicts_as_its_model(capacity in 0..40_u64, history in history(4)) {
        agree(&Eviction::none(), Refuse::default(), capacity, &history)?;
    }

    #[test]
    fn sieve_evicts_as_its_model(capacity in 0..40_u64, history in history(4)) {
        agree(&Eviction::sieve(), NaiveSieve::default(), capacity, &history)?;
    }

    #[test]
    fn s3_fifo_evicts_as_its_model(capacity in 0..40_u64, history in history(4)) {
        agree(&Eviction::s3_fifo(), NaiveS3Fifo::new(capacity), capacity, &history)?;
    }

    #[test]
    fn lfu_evicts_as_its_model(capacity in 0..40_u64, history in history(4)) {
        agree(&Eviction::lfu(), Aged::lfu(), capacity, &history)?;
    }

    #[test]
    fn gdsf_evicts_as_its_model(capacity in 0..40_u64, history in history(30)) {
        agree(&Eviction::gdsf(), Aged::gdsf(), capacity, &history)?;
    }

    #[test]
    fn every_policy_keeps_its_promises(capacity in 0..40_u64, history in history(9)) {
        for (_, eviction) in every() {
            let mut simulation = simulation(&eviction, capacity);
            let mut capacity = capacity;
            for &op in &history {
                match op {
                    Op::Request(key, weight) => drop(simulation.request(key, weight)),
                    Op::Remove(key) => drop(simulation.remove(key)),
                    Op::Reweigh(key, weight) => drop(simulation.reweigh(key, weight)),
                    Op::Resize(to) => {
                        simulation.resize(to);
                        capacity = to;
                    }
                }
                prop_assert!(simulation.weight() <= capacity);
            }
            simulation.resize(0);
            prop_assert!(simulation.is_empty());
        }
    }
}

#[test]
fn lru_evicts_as_the_lru_crate_on_long_histories() {
    let mut rng = Rng::seeded(11);
    for capacity in [1, 2, 7, 100, 1000] {
        let zipf = Zipf::new(5000, 0.9);
        let mut ours = simulation(&Eviction::lru(), capacity as u64);
        let mut theirs = ::lru::LruCache::new(NonZeroUsize::new(capacity).unwrap());
        for _ in 0..20_000 {
            let key = zipf.key(&mut rng);
            if rng.below(50) == 0 {
                assert_eq!(ours.remove(key), theirs.pop(&key).is_some());
                continue;
            }
            let hit = theirs.get(&key).is_some();
            let evicted = if hit { None } else { theirs.push(key, ()) };
            assert_eq!(ours.request(key, 1), hit);
            assert_eq!(ours.evicted(), evicted.map(|(key, ())| key).as_slice());
        }
    }
}

/// Weights that no sum can hold do no harm beyond a bad choice.
#[test]
fn weights_that_overflow_cost_no_entry() {
    for (name, eviction) in every() {
        let mut policy = eviction.policy(u64::MAX);
        (0..40).for_each(|slot| policy.insert(slot, u64::from(slot) << 32, u64::MAX - 1));
        (0..40).for_each(|slot| policy.reweigh(slot, u64::from(slot) << 32, u64::MAX / 3));
        let mut gone: Vec<Slot> = (0..40)
            .map(|_| match policy.evict(0, 0) {
                Victim::Slot(slot) => slot,
                other => panic!("{name}: {other:?}"),
            })
            .collect();
        assert_eq!(policy.evict(0, 0), Victim::Empty);
        gone.sort_unstable();
        assert!(gone.iter().copied().eq(0..40), "{name}");
    }
}

#[test]
fn a_simulation_takes_any_weight() {
    for (name, eviction) in every() {
        let mut simulation = simulation(&eviction, u64::MAX);
        for key in 0..4 {
            simulation.request(key, u64::MAX / 4);
        }
        assert_eq!(simulation.len(), 4, "{name}");
        simulation.reweigh(3, u64::MAX);
        assert!(!simulation.contains(3) || simulation.len() == 1, "{name}");
        simulation.resize(1);
        simulation.resize(2);
        for key in 10..20 {
            simulation.request(key, 0);
        }
        assert_eq!((simulation.len(), simulation.weight()), (2, 2), "{name}: 0 counts as 1");
    }
}
