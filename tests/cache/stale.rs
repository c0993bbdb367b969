//! A load never brings back what has been replaced since.

use std::{
    cell::Cell,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use buttress::{cache::MemoryCache, rng::Rng};

/// A read: it is over when its turn has come.
struct Read {
    value: u32,
    polls: usize,
}

impl Future for Read {
    type Output = Result<u32, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(Ok(self.value));
        }
        self.polls -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

const KEYS: usize = 3;

/// Loads that overlap with changes of the origin, each followed by one of the ways to tell the cache. What is in the cache,
/// and what a caller gets, is never older than the last change of which the cache was told before the caller came.
#[test]
fn in_a_million_random_schedules_no_load_stores_or_returns_what_is_out_of_date() {
    let mut rng = Rng::seeded(12);
    let mut cx = Context::from_waker(Waker::noop());
    let (mut changes, mut overlapped) = (0_u32, 0_u32);
    // One that has room, one that evicts, one that keeps nothing.
    let caches = [100, 2, 0].map(MemoryCache::<usize, u32>::new);
    for history in 0.. {
        let cache = &caches[history % caches.len()];
        cache.clear();
        let origin: [Cell<u32>; KEYS] = std::array::from_fn(|_| Cell::new(changes));
        let mut told = [changes; KEYS];
        let mut calls = Vec::new();
        for _ in 0..200 {
            let key = rng.below(KEYS);
            match rng.below(10) {
                0..=2 => {
                    let (origin, polls) = (&origin[key], rng.below(4));
                    // It reads when it begins, and answers later.
                    let read = move || Read { value: origin.get(), polls };
                    let call = async move { cache.try_get_with(&key, read).await };
                    calls.push((key, told[key], Box::pin(call)));
                }
                3..=7 if !calls.is_empty() => {
                    let any = rng.below(calls.len());
                    let (key, least, call) = &mut calls[any];
                    if let Poll::Ready(result) = call.as_mut().poll(&mut cx) {
                        let value = result.unwrap();
                        // It came before later changes, and may have seen an older value than those.
                        assert!(value >= *least, "{value} of {key} is older than {least}");
                        drop(calls.swap_remove(any));
                    }
                }
                8 => {
                    changes += 1;
                    overlapped += u32::from(calls.iter().any(|(of, ..)| *of == key));
                    origin[key].set(changes);
                    match rng.below(4) {
                        0 => drop(cache.remove(&key)),
                        1 => cache.insert(key, changes),
                        2 => {
                            told = std::array::from_fn(|key| origin[key].get());
                            cache.clear();
                        }
                        _ => {
                            let lease = cache.lease(&key);
                            cache.remove(&key);
                            assert!(!lease.commit(0));
                        }
                    }
                    told[key] = changes;
                }
                9 if !calls.is_empty() => drop(calls.swap_remove(rng.below(calls.len()))),
                _ => {}
            }
            if let Some(value) = cache.get(&key) {
                assert!(value >= told[key], "{value} of {key} was stored, and {} is known", told[key]);
            }
        }
        if overlapped > 1_000_000 {
            break;
        }
    }
}
