//! Belady's optimum: what a cache could do that knows the future.

use std::collections::BinaryHeap;

use super::{
    replay::{Entrant, Outcome, Room},
    trace::Trace,
};

/// Bytes have none: with sizes the best choice is NP-hard.
pub(crate) const ENTRANTS: &[Entrant] = &[Entrant {
    name: "optimum",
    play: |trace, room| match room {
        Room::Entries(capacity) => Some(belady(trace, capacity)),
        Room::Bytes(_) => None,
    },
}];

/// Of a key that is never asked for again.
const NEVER: u32 = u32::MAX;

/// Keeps those keys that are asked for soonest, and does not take in one that is asked for later than all of them.
///
/// Source: Belady, "A study of replacement algorithms for a virtual-storage computer", 1966; with bypass, so that it
/// bounds policies which refuse newcomers too. O(requests × log capacity).
fn belady(trace: &Trace, capacity: u64) -> Outcome {
    let capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
    let next = next_uses(trace);
    // When each key that is kept is asked for next.
    let mut kept = vec![NEVER; usize::try_from(trace.distinct).unwrap_or(usize::MAX)];
    let mut count = 0;
    // The latest on top. Entries of keys that were asked for since, or have left, are passed over when they come up.
    let mut latest = BinaryHeap::new();
    let mut outcome = Outcome::default();
    for ((number, next), (_, size)) in trace.numbers.iter().zip(next).zip(trace.requests()) {
        let hit = kept[*number as usize] != NEVER;
        outcome.requests += 1;
        outcome.bytes += u64::from(size);
        if hit {
            outcome.hits += 1;
            outcome.hit_bytes += u64::from(size);
            count -= 1;
        }
        kept[*number as usize] = NEVER;
        if next == NEVER {
            continue;
        }
        kept[*number as usize] = next;
        latest.push((next, *number));
        count += 1;
        while count > capacity {
            let Some((next, number)) = latest.pop() else { break };
            if kept[number as usize] == next {
                kept[number as usize] = NEVER;
                count -= 1;
            }
        }
        outcome.peak = outcome.peak.max(count as u64);
        if latest.len() > 4 * count + 1024 {
            latest.retain(|(next, number)| kept[*number as usize] == *next);
        }
    }
    outcome
}

/// For each request, when its key is asked for again.
fn next_uses(trace: &Trace) -> Vec<u32> {
    let mut seen = vec![NEVER; usize::try_from(trace.distinct).unwrap_or(usize::MAX)];
    let mut next = vec![NEVER; trace.numbers.len()];
    for (at, number) in (0..NEVER).zip(&trace.numbers).collect::<Vec<_>>().into_iter().rev() {
        next[at as usize] = std::mem::replace(&mut seen[*number as usize], at);
    }
    next
}
