use std::collections::BTreeMap;

use super::*;
use crate::rng::Rng;

/// Random histories against a list of all writes: nothing accepted is lost, the writes of a key arrive in order, and what is
/// said to be stored is.
#[test]
fn a_store_that_fails_now_and_then_ends_with_the_last_write_of_every_key() {
    for seed in 0..3_000 {
        let mut rng = Rng::seeded(seed);
        let mut buffer = Buffer::new();
        let mut accepted: Vec<(u32, Option<u32>)> = Vec::new();
        let mut store: BTreeMap<u32, Option<u32>> = BTreeMap::new();
        let mut flying: Option<Vec<(u32, Change<u32>)>> = None;
        let mut keys = 0;
        let steps = 60;
        for step in 0..steps + 100 {
            let draining = step >= steps;
            match rng.below(if draining { 4 } else { 8 }) {
                0 | 1 if flying.is_none() => {
                    let most = 1 + rng.below(3);
                    let batch = buffer.take(most);
                    assert!(batch.len() <= most && batch.len() <= keys);
                    flying = (!batch.is_empty()).then_some(batch);
                }
                2 if flying.is_some() => {
                    for (key, change) in flying.take().into_iter().flatten() {
                        store.insert(key, change.map(|value| *value));
                    }
                    keys -= buffer.stored();
                }
                3 if flying.is_some() => {
                    // It may have arrived all the same.
                    let batch = flying.take().into_iter().flatten();
                    let arrived = rng.below(2);
                    for (key, change) in batch.take(arrived * 9) {
                        store.insert(key, change.map(|value| *value));
                    }
                    buffer.failed();
                }
                4.. => {
                    let (key, value) =
                        (u32::try_from(rng.below(5)).unwrap(), (rng.below(4) > 0).then_some(step));
                    keys += usize::from(!buffer.contains(&key));
                    buffer.put(key, value.map(Arc::new));
                    accepted.push((key, value));
                    assert_eq!(buffer.get(&key), Some(value.map(Arc::new)));
                }
                _ => {}
            }
            assert_eq!(buffer.len(), keys);
            assert!(buffer.queue.len() <= 2 * buffer.waiting() + 5, "places are left behind");
            let stored = (0..=buffer.accepted()).rev().find(|number| buffer.is_stored(*number)).unwrap_or(0);
            // Of each key, the store has that write or a later one.
            for key in 0..5 {
                let own = accepted.iter().enumerate().filter(|(_, write)| write.0 == key);
                let Some((last, _)) = own.clone().rfind(|(at, _)| (*at as u64) < stored) else { continue };
                let value = store.get(&key);
                assert!(
                    own.filter(|(at, _)| *at >= last).any(|(_, write)| Some(&write.1) == value),
                    "seed {seed}: {key} is {value:?} though {stored} writes are stored"
                );
            }
        }
        while buffer.len() > 0 {
            let batch = flying.take().unwrap_or_else(|| buffer.take(2));
            for (key, change) in batch {
                store.insert(key, change.map(|value| *value));
            }
            buffer.stored();
        }
        let last: BTreeMap<_, _> = accepted.into_iter().collect();
        assert_eq!(store, last, "seed {seed}");
        assert!(buffer.is_stored(buffer.accepted()));
    }
}

#[test]
fn one_batch_is_under_way_at_a_time_and_keys_keep_their_order() {
    let mut buffer = Buffer::new();
    for key in [3, 1, 2, 1, 3] {
        buffer.put(key, Some(Arc::new(key)));
    }
    let keys = |batch: Vec<(i32, Change<i32>)>| batch.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(buffer.take(2)), [3, 1]);
    assert!(keys(buffer.take(2)).is_empty());
    buffer.put(1, None);
    buffer.failed();
    assert_eq!(keys(buffer.take(9)), [3, 1, 2]);
    assert_eq!(buffer.stored(), 3);
}
