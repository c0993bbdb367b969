//! Any history leaves what a naive model allows.

use std::collections::HashMap;

use proptest::prelude::*;

use super::{super::*, check};
use crate::time::ManualClock;
use std::{num::NonZero, time::Duration};

#[derive(Clone, Debug)]
enum Op {
    Get(u8),
    Insert(u8, u8, Option<u8>, Option<u8>),
    Remove(u8),
    Lease(u8),
    Commit(u8),
    Clear,
    If(u8),
    Tag(u8),
    Pass(u8),
    Update(u8, u8),
    Maintain,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..40_u8;
    let few = || prop::option::weighted(0.3, 0..4_u8);
    prop_oneof![
        20 => key.clone().prop_map(Op::Get),
        30 => (key.clone(), any::<u8>(), few(), few()).prop_map(|(k, v, ttl, tag)| Op::Insert(k, v, ttl, tag)),
        6 => key.clone().prop_map(Op::Remove),
        3 => key.clone().prop_map(Op::Lease),
        3 => any::<u8>().prop_map(Op::Commit),
        1 => Just(Op::Clear),
        1 => (0..6_u8).prop_map(Op::If),
        2 => (0..4_u8).prop_map(Op::Tag),
        3 => (0..3_u8).prop_map(Op::Pass),
        3 => (key, any::<u8>()).prop_map(|(k, v)| Op::Update(k, v)),
        1 => Just(Op::Maintain),
    ]
}

/// What was put in last, until when it lives, and its tag. Eviction takes entries from the cache, never from here.
type Model = HashMap<u8, (u8, Option<u64>, Option<u8>)>;

fn agree(
    cache: &MemoryCache<u8, u8>,
    clock: &ManualClock,
    roomy: bool,
    ops: &[Op],
) -> Result<(), TestCaseError> {
    let mut model = Model::new();
    let mut now = 0;
    // Each with whether it is still valid.
    let mut leases: Vec<(u8, bool, Lease<u8, u8>)> = Vec::new();
    let void = |leases: &mut Vec<(u8, bool, Lease<u8, u8>)>, key: Option<u8>| {
        leases
            .iter_mut()
            .filter(|lease| key.is_none_or(|key| key == lease.0))
            .for_each(|lease| lease.1 = false);
    };
    for op in ops {
        model.retain(|_, (_, end, _)| end.is_none_or(|end| now < end));
        match *op {
            Op::Get(key) => {
                let (found, known) = (cache.get(&key), model.get(&key).map(|known| known.0));
                prop_assert!(found == known || (found.is_none() && !roomy), "{found:?} {known:?}");
            }
            Op::Insert(key, value, ttl, tag) => {
                let mut keep = Keep::new();
                if let Some(ttl) = ttl {
                    keep = keep.ttl(Duration::from_secs(ttl.into()));
                }
                if let Some(tag) = tag {
                    keep = keep.tag(tag);
                }
                cache.insert_with(key, value, &keep);
                model.insert(key, (value, ttl.map(|ttl| now + u64::from(ttl)), tag));
                void(&mut leases, Some(key));
            }
            Op::Remove(key) => {
                let (removed, known) = (cache.remove(&key), model.remove(&key).map(|known| known.0));
                prop_assert!(removed == known || (removed.is_none() && !roomy));
                void(&mut leases, Some(key));
            }
            Op::Lease(key) => leases.push((key, true, cache.lease(&key))),
            Op::Commit(value) => {
                if leases.is_empty() {
                    continue;
                }
                let (key, valid, lease) = leases.swap_remove(usize::from(value) % leases.len());
                prop_assert_eq!(lease.commit(value), valid);
                if valid {
                    model.insert(key, (value, None, None));
                    void(&mut leases, Some(key));
                }
            }
            Op::Clear => {
                cache.clear();
                model.clear();
                void(&mut leases, None);
            }
            Op::If(rest) => {
                let removed = cache.invalidate_if(|key, _| key % 6 == rest);
                let before = model.len();
                model.retain(|key, _| key % 6 != rest);
                prop_assert!(removed <= before - model.len() && (!roomy || removed == before - model.len()));
                void(&mut leases, None);
            }
            Op::Tag(tag) => {
                cache.invalidate_tag(tag);
                model.retain(|_, known| known.2 != Some(tag));
            }
            Op::Pass(seconds) => {
                clock.advance(Duration::from_secs(seconds.into()));
                now += u64::from(seconds);
            }
            Op::Update(key, value) => {
                let mut seen = None;
                cache.entry(key).update(|old| {
                    seen = old;
                    if value % 3 == 0 { Update::Remove } else { Update::Put(value) }
                });
                let known = model.remove(&key).map(|known| known.0);
                prop_assert!(seen == known || (seen.is_none() && !roomy));
                if value % 3 != 0 {
                    model.insert(key, (value, None, None));
                }
                void(&mut leases, Some(key));
            }
            Op::Maintain => {
                cache.run_maintenance(Duration::from_millis(1));
            }
        }
        check(cache);
        prop_assert!(cache.weight() <= cache.capacity());
        let values: HashMap<u8, u8> = cache.iter().collect();
        model.retain(|_, (_, end, _)| end.is_none_or(|end| now < end));
        for (key, value) in &values {
            prop_assert_eq!(model.get(key).map(|known| known.0), Some(*value));
        }
        prop_assert!(!roomy || values.len() == model.len());
    }
    drop(leases);
    let leases: usize = cache.inner.shards.iter().map(|lock| lock.read().leases.len()).sum();
    prop_assert_eq!(leases, 0);
    Ok(())
}

proptest! {
    #[test]
    fn any_history_leaves_what_a_naive_model_allows(
        capacity in 0..50_u64,
        shards in 1..5_usize,
        weighted in any::<bool>(),
        policy in 0..4_usize,
        ops in prop::collection::vec(op(), 0..150),
    ) {
        let clock = ManualClock::new();
        let eviction = [Eviction::fifo(), Eviction::lru(), Eviction::default(), Eviction::none()][policy].clone();
        let refuses = policy >= 2;
        let mut cache = MemoryCache::<u8, u8>::builder(capacity)
            .clock(clock.clone())
            .eviction(eviction)
            .shards(NonZero::new(shards).unwrap());
        if weighted {
            cache = cache.weigher(|_, value| u64::from(*value % 16));
        }
        let roomy = !weighted && capacity >= 40 && !refuses;
        agree(&cache.build(), &clock, roomy && shards == 1, &ops)?;
    }
}
