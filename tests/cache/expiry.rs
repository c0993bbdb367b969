//! Entries end when their time is over: for readers at once, for memory soon after.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use buttress::{
    cache::{Cause, Expiry, Keep, MemoryCache, evict::Eviction},
    rng::Rng,
    time::{Clock, ManualClock},
};

use crate::support::{Polls, WildClock, nanos};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn keep(ttl: Duration) -> Keep {
    Keep::new().ttl(ttl)
}

/// Durations of every size up to 2 hours.
fn span(rng: &mut Rng) -> Duration {
    Duration::from_nanos((rng.next_u64() >> (21 + rng.below(40))).min(7_200_000_000_000))
}

/// A map of values and deadlines beside the cache, which is large enough to keep everything: same answers, whatever the
/// clock does. Values that are there must be found, values whose time is over must not.
#[test]
fn a_value_is_found_until_its_time_is_over_and_never_after() {
    for seed in 0..200 {
        let mut rng = Rng::seeded(seed);
        let clock = WildClock::new();
        let goes_back = seed % 4 >= 2;
        let eviction = if seed % 2 == 0 { Eviction::fifo() } else { Eviction::lru() };
        let cache = MemoryCache::<u64, u64>::builder(1000)
            .eviction(eviction)
            .clock(clock.clone())
            .ttl(10 * SECOND)
            .build();
        let mut model: HashMap<u64, (u64, Option<u64>)> = HashMap::new();
        for step in 0..500 {
            let key = rng.next_u64() % 50;
            match rng.below(10) {
                0..3 => {
                    let (ttl, keep) = match rng.below(4) {
                        0 => (Some(10 * SECOND), Keep::new()),
                        1 => (None, keep(Duration::MAX)),
                        _ => {
                            let ttl = span(&mut rng);
                            (Some(ttl), keep(ttl))
                        }
                    };
                    cache.insert_with(key, step, &keep);
                    model.insert(key, (step, ttl.map(|ttl| clock.nanos() + nanos(ttl))));
                }
                3..8 => {
                    let fresh = model
                        .get(&key)
                        .filter(|(_, deadline)| deadline.is_none_or(|end| clock.nanos() < end));
                    let found = cache.get(&key);
                    // What was freed does not come back when the clock does.
                    if found.is_some() || !goes_back {
                        assert_eq!(found, fresh.map(|(value, _)| *value), "step {step} of {seed}");
                    }
                }
                8 => clock.advance(span(&mut rng)),
                _ if goes_back => clock.set(clock.nanos().saturating_sub(nanos(span(&mut rng)))),
                _ => assert!(cache.run_maintenance(Duration::ZERO) || !cache.is_empty()),
            }
        }
        assert!(cache.stats().hits > 20, "{:?}", cache.stats());
        clock.advance(2 * HOUR);
        while !cache.run_maintenance(HOUR) {}
        for (key, (_, deadline)) in model {
            let over = deadline.is_some_and(|end| end <= clock.nanos());
            assert!(!over || cache.get(&key).is_none());
        }
    }
}

#[test]
fn threads_never_see_a_value_whose_time_was_over_when_they_asked() {
    let clock = WildClock::new();
    let cache = MemoryCache::<u64, u64>::builder(500).clock(clock.clone()).build();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..2 {
            let (cache, clock, done) = (cache.clone(), clock.clone(), &done);
            scope.spawn(move || {
                let mut rng = Rng::seeded(thread);
                let mut hits = 0;
                while hits < 50_000 || cache.stats().expired == 0 {
                    let key = rng.next_u64() % 400;
                    let asked = clock.nanos();
                    if let Some(deadline) = cache.get(&key) {
                        assert!(asked < deadline, "{asked} {deadline}");
                        hits += 1;
                    } else {
                        let ttl = span(&mut rng) / 1000;
                        // The clock may move before it is read in there: the value lives longer than it says, not less.
                        cache.insert_with(key, u64::MAX, &keep(ttl));
                        let stays = clock.nanos() + nanos(ttl) + 1_000_000_000;
                        cache.insert_with(key, stays, &keep(ttl));
                    }
                }
                done.store(true, Relaxed);
            });
        }
        let mut rng = Rng::seeded(9);
        while !done.load(Relaxed) {
            clock.advance(Duration::from_nanos(rng.next_u64() % 1_000_000));
        }
    });
}

#[test]
fn no_time_is_not_stored_and_endless_times_are() {
    let clock = ManualClock::new();
    let left = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&left);
    let cache = MemoryCache::<u32, u32>::builder(10)
        .clock(clock.clone())
        .listener(move |key, value, cause| seen.lock().unwrap().push((*key, *value, cause)))
        .build();
    cache.insert_with(1, 1, &keep(Duration::MAX));
    cache.insert(2, 2);
    cache.insert_with(2, 3, &keep(Duration::ZERO));
    assert_eq!(
        (cache.get(&1), cache.get(&2), cache.len()),
        (Some(1), None, 1),
        "the older value is out of date"
    );
    assert_eq!(*left.lock().unwrap(), [(2, 2, Cause::Replaced), (2, 3, Cause::Expired)]);
    clock.advance(500 * 365 * 24 * HOUR);
    assert_eq!(cache.get(&1), Some(1));
    let none = MemoryCache::<u32, u32>::builder(10).ttl(Duration::ZERO).build();
    none.insert(1, 1);
    assert!(none.is_empty());
}

#[test]
fn the_clock_is_read_only_for_entries_that_can_expire() {
    for eviction in [Eviction::fifo(), Eviction::lru()] {
        let clock = WildClock::new();
        let cache = MemoryCache::<u32, u32>::builder(100).eviction(eviction).clock(clock.clone()).build();
        clock.reads();
        cache.insert(1, 1);
        assert_eq!((cache.get(&1), cache.remove(&2), clock.reads()), (Some(1), None, 0));
        cache.insert_with(2, 2, &keep(HOUR));
        assert_eq!(clock.reads(), 1);
        assert_eq!((cache.get(&1), clock.reads()), (Some(1), 0), "an endless entry beside one that ends");
        assert_eq!((cache.get(&3), clock.reads()), (None, 0));
        assert_eq!((cache.get(&2), clock.reads()), (Some(2), 1));
    }
}

#[test]
fn what_expires_counts_as_a_miss_and_as_expired() {
    for eviction in [Eviction::fifo(), Eviction::lru()] {
        let clock = ManualClock::new();
        let cache =
            MemoryCache::<u32, u32>::builder(100).eviction(eviction).clock(clock.clone()).ttl(SECOND).build();
        cache.insert(1, 1);
        assert_eq!(cache.get(&1), Some(1));
        clock.advance(SECOND);
        assert_eq!((cache.get(&1), cache.peek(&1), cache.contains_key(&1)), (None, None, false));
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.expired, stats.len), (1, 1, 0, 1));
        clock.advance(Duration::from_millis(2));
        assert!(cache.run_maintenance(Duration::ZERO));
        let stats = cache.stats();
        assert_eq!((stats.expired, stats.removed, stats.len, stats.weight), (1, 0, 0, 0));
    }
}

#[test]
fn uses_put_the_end_off_and_looks_do_not() {
    for eviction in [Eviction::fifo(), Eviction::lru()] {
        let clock = ManualClock::new();
        let expiry = Expiry::new().ttl(10 * SECOND).idle(3 * SECOND);
        let cache = MemoryCache::<u32, u32>::builder(100)
            .eviction(eviction)
            .clock(clock.clone())
            .expiry(expiry)
            .build();
        for key in 0..3 {
            cache.insert(key, key);
        }
        for _ in 0..4 {
            clock.advance(2 * SECOND);
            assert_eq!(cache.get(&0), Some(0), "in use");
            cache.peek(&1);
            cache.contains_key(&2);
            // The timer goes off all the while, and is set anew.
            assert!(cache.run_maintenance(SECOND));
        }
        assert_eq!((cache.peek(&1), cache.peek(&2), cache.len()), (None, None, 1));
        clock.advance(2 * SECOND);
        assert_eq!(cache.get(&0), None, "old, although in use");
    }
}

#[test]
fn jitter_spreads_what_was_inserted_together() -> Result<(), Box<dyn std::error::Error>> {
    let clock = ManualClock::new();
    let expiry = Expiry::new().ttl(100 * SECOND).jitter(0.2)?;
    let cache = MemoryCache::<u64, u64>::builder(10_000).clock(clock.clone()).expiry(expiry).build();
    (0..10_000).for_each(|key| cache.insert(key, key));
    clock.advance(Duration::from_nanos(79_999_999_999));
    let mut before = (0..10_000).filter(|key| cache.contains_key(key)).count();
    let all = before;
    for _ in 0..20 {
        clock.advance(SECOND);
        let now = (0..10_000).filter(|key| cache.contains_key(key)).count();
        assert!((all / 40..all / 10).contains(&(before - now)), "{before} to {now}");
        before = now;
    }
    clock.advance(Duration::from_nanos(1));
    assert_eq!((0..10_000).filter(|key| cache.contains_key(key)).count(), 0);
    Ok(())
}

#[test]
fn insertions_free_what_has_expired() {
    let clock = ManualClock::new();
    let cache = MemoryCache::<u64, Arc<()>>::builder(100_000).clock(clock.clone()).ttl(SECOND).build();
    let alive = Arc::new(());
    for key in 0..50_000 {
        // 5000 a second live for a second each.
        clock.advance(Duration::from_micros(200));
        cache.insert(key, Arc::clone(&alive));
        assert!(Arc::strong_count(&alive) <= 6_000, "{}", Arc::strong_count(&alive));
    }
    assert!(cache.stats().expired > 44_000);
}

/// No call frees more than a slice, and none of them is lost between the calls.
#[test]
fn a_mass_expiry_is_freed_in_slices() {
    let clock = ManualClock::new();
    let freed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&freed);
    let cache = MemoryCache::<u64, u64>::builder(50_000)
        .clock(clock.clone())
        .ttl(SECOND)
        .listener(move |_, _, cause| {
            count.fetch_add(usize::from(cause == Cause::Expired), Relaxed);
        })
        .build();
    (0..50_000).for_each(|key| cache.insert(key, key));
    let all = cache.len();
    clock.advance(HOUR);
    for key in 0..1000 {
        cache.insert(50_000 + key, key);
        assert!(freed.swap(0, Relaxed) <= 16, "an insertion frees little");
    }
    let clock = WildClock::new();
    let count = Arc::clone(&freed);
    let cache = MemoryCache::<u64, u64>::builder(50_000)
        .clock(Hurried(clock.clone()))
        .ttl(SECOND)
        .listener(move |_, _, cause| {
            count.fetch_add(usize::from(cause == Cause::Expired), Relaxed);
        })
        .build();
    (0..all as u64).for_each(|key| cache.insert(key, key));
    clock.advance(HOUR);
    freed.store(0, Relaxed);
    let (len, mut total) = (cache.len(), 0);
    let mut calls = 0;
    while !cache.run_maintenance(Duration::ZERO) {
        let now = freed.swap(0, Relaxed);
        assert!(now <= 64, "{now} in a slice");
        total += now;
        calls += 1;
    }
    assert_eq!((total + freed.load(Relaxed), cache.len()), (len, 0));
    assert!(calls >= len / 64, "{calls} calls");
}

/// Time passes whenever one looks at it.
#[derive(Debug)]
struct Hurried(WildClock);

impl Clock for Hurried {
    fn now(&self) -> std::time::Instant {
        self.0.advance(Duration::from_nanos(1));
        self.0.now()
    }
}

#[test]
fn a_listener_may_use_the_cache_as_entries_expire() {
    let clock = ManualClock::new();
    let own: Arc<Mutex<Option<MemoryCache<u64, u64>>>> = Arc::default();
    let handle = Arc::clone(&own);
    let cache = MemoryCache::<u64, u64>::builder(1000)
        .clock(clock.clone())
        .ttl(SECOND)
        .listener(move |key, value, cause| {
            let cache = handle.lock().unwrap().clone();
            if let Some(cache) = cache.filter(|_| cause == Cause::Expired && *key < 100) {
                assert_eq!(cache.get(key), None);
                cache.insert(key + 100, *value);
            }
        })
        .build();
    *own.lock().unwrap() = Some(cache.clone());
    (0..100).for_each(|key| cache.insert(key, key));
    clock.advance(2 * SECOND);
    assert!(cache.run_maintenance(SECOND));
    assert!((0..100).all(|key| cache.get(&(key + 100)) == Some(key)));
    own.lock().unwrap().take();
}

#[tokio::test(start_paused = true)]
async fn an_idle_cache_gives_its_memory_back_within_a_second() {
    let cache = MemoryCache::<u64, Arc<()>>::builder(20_000).build();
    tokio::spawn(cache.maintain());
    let alive = Arc::new(());
    let mut rng = Rng::seeded(1);
    for round in 0..20_u64 {
        let longest = [10, 1_000, 60_000, 7_200_000, 10_000_000_000][rng.below(5)];
        for key in 0..200 {
            let ttl = Duration::from_millis(1 + rng.next_u64() % longest);
            cache.insert_with(round * 1000 + key, Arc::clone(&alive), &keep(ttl));
        }
        tokio::time::sleep(Duration::from_millis(longest) + SECOND).await;
        assert_eq!((Arc::strong_count(&alive), cache.len()), (1, 0), "all of {longest} ms are gone");
    }
}

#[tokio::test(start_paused = true)]
async fn the_task_wakes_for_a_deadline_earlier_than_it_knew() {
    let cache = MemoryCache::<u64, u64>::builder(1000).build();
    tokio::spawn(cache.maintain());
    tokio::time::sleep(SECOND).await;
    for (key, ttl) in [(1, 100 * HOUR), (2, HOUR), (3, SECOND), (4, Duration::from_millis(1))] {
        cache.insert_with(key, key, &keep(ttl));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (sleep, len) in [(SECOND, 3), (SECOND, 2), (HOUR, 1), (99 * HOUR, 0)] {
        tokio::time::sleep(sleep).await;
        assert_eq!(cache.len(), len);
    }
}

#[tokio::test(start_paused = true)]
async fn the_task_sleeps_while_there_is_nothing_to_do() {
    let cache = MemoryCache::<u64, u64>::builder(1000).build();
    let (task, polls) = Polls::of(cache.maintain());
    let task = tokio::spawn(task);
    cache.insert(0, 0);
    tokio::time::sleep(1000 * HOUR).await;
    assert_eq!(polls.swap(0, Relaxed), 1, "nothing can expire");
    cache.insert_with(1, 1, &keep(100 * HOUR));
    tokio::time::sleep(1000 * HOUR).await;
    let wakes = polls.swap(0, Relaxed);
    assert!(wakes <= 10, "{wakes} for one entry");
    // A thousand an hour: they share wake-ups.
    for key in 0..1000 {
        cache.insert_with(key, key, &keep(HOUR));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    polls.store(0, Relaxed);
    tokio::time::sleep(2 * HOUR).await;
    let wakes = polls.swap(0, Relaxed);
    assert!(wakes <= 60 && cache.is_empty(), "{wakes} for 1000 entries within 3 s");
    drop(cache);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_tasks_end_with_the_last_handle() {
    for ttl in [None, Some(HOUR)] {
        let cache = MemoryCache::<u64, u64>::builder(1000).build();
        let tasks: Vec<_> = (0..3).map(|_| tokio::spawn(cache.maintain())).collect();
        let never_run = cache.maintain();
        if let Some(ttl) = ttl {
            cache.insert_with(1, 1, &keep(ttl));
        }
        tokio::time::sleep(SECOND).await;
        let clone = cache.clone();
        drop(cache);
        tokio::time::sleep(SECOND).await;
        assert!(tasks.iter().all(|task| !task.is_finished()), "a handle is left");
        drop(clone);
        for task in tasks {
            tokio::time::timeout(Duration::from_millis(10), task).await.unwrap().unwrap();
        }
        never_run.await;
    }
}

/// Tables, too: once they were as large as a million entries, and then nothing is left.
#[test]
fn an_empty_cache_is_as_good_as_new_after_maintenance() {
    for eviction in [Eviction::fifo(), Eviction::lru()] {
        let clock = ManualClock::new();
        let cache = MemoryCache::<u64, u64>::builder(5_000)
            .eviction(eviction)
            .clock(clock.clone())
            .ttl(SECOND)
            .build();
        for round in 0..3 {
            (0..5_000).for_each(|key| cache.insert(key, round));
            let lease = cache.lease(&7);
            clock.advance(2 * SECOND);
            assert!(cache.run_maintenance(SECOND) && cache.is_empty());
            assert!(lease.commit(round), "what is being loaded is stored all the same");
            assert_eq!(cache.get(&7), Some(round));
            (0..20_000).for_each(|key| cache.insert(key, round));
            assert!(cache.len() == 5_000 && cache.get(&19_999) == Some(round));
            clock.advance(2 * SECOND);
            assert!(cache.run_maintenance(SECOND));
        }
    }
}
