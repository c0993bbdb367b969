//! `get_with` and its family.

use std::{
    future::pending,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::cache::{MemoryCache, flight::FlightError, load::LoadError};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, task};

const STEP: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn ten_thousand_misses_of_one_key_cost_one_load_though_its_leader_is_cancelled() {
    for capacity in [1000, 0] {
        let cache = MemoryCache::<u8, u32>::new(capacity);
        let loads = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..10_000)
            .map(|_| {
                let (cache, loads) = (cache.clone(), Arc::clone(&loads));
                tokio::spawn(async move {
                    let load = || async move {
                        loads.fetch_add(1, SeqCst);
                        sleep(STEP).await;
                        7
                    };
                    cache.get_with(&1, load).await
                })
            })
            .collect();
        let start = Instant::now();
        sleep(STEP / 2).await;
        for (index, caller) in callers.into_iter().enumerate() {
            if index == 0 {
                caller.abort();
            } else {
                assert_eq!(caller.await.unwrap(), 7);
            }
        }
        assert_eq!(loads.load(SeqCst), 1);
        assert_eq!(start.elapsed(), STEP, "the work of the first is not lost");
        assert_eq!(cache.get(&1), (capacity > 0).then_some(7));
    }
}

/// Each way to say that a value is out of date, and whether it leaves another.
#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_an_invalidation_stores_nothing_and_is_joined_by_nobody() {
    type Way = fn(&MemoryCache<u8, &'static str>);
    let ways: [(&str, Way); 4] = [
        ("remove", |cache| {
            cache.remove(&1);
        }),
        ("clear", MemoryCache::clear),
        ("insert", |cache| cache.insert(1, "newer")),
        ("insert and remove", |cache| {
            cache.insert(1, "newer");
            cache.remove(&1);
        }),
    ];
    for (name, way) in ways {
        let cache = MemoryCache::new(100);
        let old = cache.get_with(&1, || async {
            sleep(STEP).await;
            "old"
        });
        let mut old = task::spawn(Box::pin(old));
        assert_pending!(old.poll());
        way(&cache);
        let late = cache.get_with(&1, || async {
            sleep(STEP * 2).await;
            "newer"
        });
        let (late, old) = tokio::join!(late, old.into_inner());
        assert_eq!((late, old), ("newer", "old"), "{name}");
        assert_eq!(cache.get(&1), Some("newer"), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_is_shared_with_those_who_wait_and_not_kept() {
    let cache = MemoryCache::<u8, u8>::new(100);
    let loads = AtomicUsize::new(0);
    let load = || {
        loads.fetch_add(1, SeqCst);
        async {
            sleep(STEP).await;
            Err(io::Error::other("down"))
        }
    };
    let (one, other) = tokio::join!(cache.try_get_with(&1, load), cache.try_get_with(&1, load));
    let (Err(LoadError::Failed(one)), Err(LoadError::Failed(other))) = (one, other) else { panic!() };
    assert!(Arc::ptr_eq(&one, &other));
    assert_eq!(loads.load(SeqCst), 1);
    let again = cache.try_get_with(&1, || async { Ok::<_, io::Error>(7) });
    assert_eq!(again.await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn loads_of_one_key_may_fail_in_different_ways() {
    let cache = MemoryCache::<u8, u8>::new(100);
    let io = cache.try_get_with(&1, || async {
        sleep(STEP).await;
        Err(io::Error::other("down"))
    });
    let number = cache.try_get_with(&1, || async { "x".parse::<u8>() });
    let plain = cache.get_with(&1, || async {
        sleep(STEP).await;
        7
    });
    let (io, number, plain) = tokio::join!(io, number, plain);
    assert_eq!(io.unwrap_err().inner().unwrap().to_string(), "down");
    // Whoever joined a load with an error of another type loads, or joins again.
    assert!(number.is_err() || number.is_ok_and(|number| number == 7));
    assert_eq!(plain, 7);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_panics_leaves_the_key_usable_and_another_caller_takes_over() {
    let cache = MemoryCache::<u8, u8>::new(100);
    let broken = cache.try_get_with(&1, || async {
        sleep(STEP).await;
        panic!("out of order");
        #[allow(unreachable_code, reason = "for its type")]
        Ok::<u8, io::Error>(0)
    });
    let waiting = cache.get_with(&1, || async { 7 });
    let (broken, waiting) = tokio::join!(broken, waiting);
    let LoadError::Broken(FlightError::Panicked(message)) = broken.unwrap_err() else { panic!() };
    assert_eq!(&*message, "out of order");
    assert_eq!((waiting, cache.get(&1)), (7, Some(7)));
}

#[tokio::test]
async fn a_load_that_asks_for_its_own_key_gets_an_error_and_no_deadlock() {
    let cache = MemoryCache::<u8, u8>::new(100);
    let inner = cache.clone();
    let outer = cache.try_get_with(&1, || async move {
        inner.try_get_with(&1, || async { Ok::<_, io::Error>(7) }).await.map_err(|error| match error {
            LoadError::Broken(error) => error,
            error => panic!("{error}"),
        })
    });
    let LoadError::Failed(error) = outer.await.unwrap_err() else { panic!() };
    assert_eq!(*error, FlightError::Recursive);
}

#[tokio::test(start_paused = true)]
async fn a_load_is_dropped_when_nobody_waits_any_more() {
    let cache = MemoryCache::<u8, u8>::new(100);
    let held = Arc::new(());
    let guard = Arc::clone(&held);
    let mut call = task::spawn(Box::pin(cache.get_with(&1, || async move {
        pending::<()>().await;
        drop(guard);
        7
    })));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(cache.get_with(&1, || async { 7 }).await, 7);
}

/// An origin that can be asked for many keys at once, and remembers how.
#[derive(Clone, Default)]
struct Origin(Arc<Mutex<Vec<Vec<u32>>>>);

impl Origin {
    fn load(&self, keys: Vec<u32>) -> impl Future<Output = Result<Vec<(u32, u32)>, io::Error>> + use<> {
        let broken = keys.contains(&13);
        self.0.lock().unwrap().push(keys.clone());
        async move {
            sleep(STEP).await;
            if broken {
                return Err(io::Error::other("unlucky"));
            }
            // Odd ones do not exist; one comes that nobody asked for.
            let pairs = keys.into_iter().filter(|key| key % 2 == 0).map(|key| (key, key * 10));
            Ok(pairs.chain([(1000, 0)]).collect())
        }
    }

    fn calls(&self) -> Vec<Vec<u32>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_call_for_what_is_missing_and_what_nobody_else_loads() {
    let (cache, origin) = (MemoryCache::<u32, u32>::new(100), Origin::default());
    cache.insert(2, 20);
    let load = |keys| origin.load(keys);
    let start = Instant::now();
    let single = cache.get_with(&8, || async {
        sleep(STEP).await;
        80
    });
    let (single, one, other) = tokio::join!(
        single,
        cache.get_many_with(&[2, 4, 3, 4, 8], load),
        cache.get_many_with(&[6, 4, 2, 8], load),
    );
    assert_eq!(single, 80);
    assert_eq!(one.unwrap(), [Some(20), Some(40), None, Some(40), Some(80)]);
    assert_eq!(other.unwrap(), [Some(60), Some(40), Some(20), Some(80)]);
    assert_eq!(origin.calls(), [vec![4, 3], vec![6]]);
    assert_eq!(start.elapsed(), STEP);
    assert_eq!(cache.get_many_with(&[2, 4, 6, 8], load).await.unwrap(), [20, 40, 60, 80].map(Some));
    assert!(origin.calls().is_empty());
    assert_eq!(cache.get(&1000), None, "nobody asked for it");
    assert_eq!(cache.get_many_with(&[], load).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_or_is_cancelled_leaves_its_keys_usable() {
    let (cache, origin) = (MemoryCache::<u32, u32>::new(100), Origin::default());
    let load = |keys| origin.load(keys);
    let (failed, waiting) =
        tokio::join!(cache.get_many_with(&[12, 13], load), cache.get_with(&12, || async { 7 }),);
    assert_eq!(failed.unwrap_err().inner().unwrap().to_string(), "unlucky");
    assert_eq!(waiting, 7, "an error of a kind that it cannot have: it loads itself");
    origin.calls();

    // Whoever waits for one key of a batch keeps all of it going.
    let mut batch = task::spawn(Box::pin(cache.get_many_with(&[20, 22], load)));
    assert_pending!(batch.poll());
    let mut waiting = task::spawn(Box::pin(cache.get_with(&20, || async { 7 })));
    assert_pending!(waiting.poll());
    drop(batch);
    assert_eq!(waiting.into_inner().await, 200);
    assert_eq!(origin.calls(), [[20, 22]]);

    let mut batch = task::spawn(Box::pin(cache.get_many_with(&[30, 32], load)));
    assert_pending!(batch.poll());
    drop(batch);
    assert_eq!(cache.get_many_with(&[30], load).await.unwrap(), [Some(300)]);
}

#[tokio::test]
async fn a_key_that_a_batch_names_often_is_loaded_once_though_it_has_no_value() {
    let cache = MemoryCache::<u32, u32>::new(100);
    let loads = AtomicUsize::new(0);
    let load = |keys: Vec<u32>| {
        loads.fetch_add(1, SeqCst);
        assert_eq!(keys, [1, 2]);
        async { Ok::<_, io::Error>(vec![(2, 20)]) }
    };
    let values = cache.get_many_with(&[1, 1, 2, 1, 2], load).await.unwrap();
    assert_eq!(values, [None, None, Some(20), None, Some(20)]);
    assert_eq!(loads.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_asks_for_its_own_keys_or_panics_ends_with_an_error() {
    let cache = MemoryCache::<u32, u32>::new(100);
    let inner = cache.clone();
    let recursive = cache.get_many_with(&[1, 2], |keys| {
        let inner = inner.clone();
        async move {
            let mut pairs = Vec::new();
            for key in keys {
                let load = || async { Ok::<_, io::Error>(7) };
                pairs.push((key, inner.try_get_with(&key, load).await.map_err(io::Error::other)?));
            }
            Ok::<_, io::Error>(pairs)
        }
    });
    assert!(recursive.await.is_err());
    let panics = cache.get_many_with(&[1, 2], |_| async {
        sleep(STEP).await;
        panic!("out of order");
        #[allow(unreachable_code, reason = "for its type")]
        Ok::<Vec<(u32, u32)>, io::Error>(Vec::new())
    });
    let (panics, waiting) = tokio::join!(panics, cache.get_with(&2, || async { 7 }));
    assert!(matches!(panics.unwrap_err(), LoadError::Broken(FlightError::Panicked(_))));
    assert_eq!(waiting, 7);
    // Before there is a future, too.
    let call = |keys: Vec<u32>| {
        assert!(keys.is_empty(), "out of order");
        async { Ok::<Vec<(u32, u32)>, io::Error>(Vec::new()) }
    };
    let error = cache.get_many_with(&[3, 4], call).await.unwrap_err();
    assert!(error.to_string().contains("out of order"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_stores_nothing_that_was_invalidated_meanwhile() {
    let (cache, origin) = (MemoryCache::<u32, u32>::new(100), Origin::default());
    let mut batch = task::spawn(Box::pin(cache.get_many_with(&[2, 4], |keys| origin.load(keys))));
    assert_pending!(batch.poll());
    cache.remove(&2);
    assert_eq!(batch.into_inner().await.unwrap(), [Some(20), Some(40)]);
    assert_eq!((cache.get(&2), cache.get(&4)), (None, Some(40)));
}

#[tokio::test]
async fn loads_can_be_awaited_in_spawned_tasks() {
    let cache = MemoryCache::<u32, u32>::new(100);
    tokio::spawn({
        let cache = cache.clone();
        async move {
            assert_eq!(cache.get_with(&1, || async { 7 }).await, 7);
            assert_eq!(cache.try_get_with(&2, || async { Ok::<_, io::Error>(7) }).await.unwrap(), 7);
            let load = |keys: Vec<u32>| async move {
                Ok::<_, io::Error>(keys.into_iter().map(|key| (key, key)).collect())
            };
            assert_eq!(cache.get_many_with(&[1, 3], load).await.unwrap(), [Some(7), Some(3)]);
        }
    })
    .await
    .unwrap();
}
