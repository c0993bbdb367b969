//! `ReadThrough`: what is served when, and what that costs the origin.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    cache::{
        MemoryCache,
        flight::FlightError,
        load::{InvalidReadThrough, Load, LoadError, Loaded, ReadThrough, ReadThroughBuilder},
    },
    rng::Rng,
    time::ManualClock,
};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, task};

const SECOND: Duration = Duration::from_secs(1);

/// An origin whose values are the numbers of its calls; odd keys do not exist.
#[derive(Clone, Default)]
struct Origin(Arc<State>);

#[derive(Default)]
struct State {
    calls: AtomicU32,
    down: AtomicBool,
    millis: AtomicU64,
    batches: Mutex<Vec<Vec<u32>>>,
}

impl Origin {
    fn taking(time: Duration) -> Self {
        let origin = Self::default();
        origin.takes(time);
        origin
    }

    fn takes(&self, time: Duration) {
        self.0.millis.store(u64::try_from(time.as_millis()).unwrap(), SeqCst);
    }

    fn down(&self, down: bool) {
        self.0.down.store(down, SeqCst);
    }

    fn calls(&self) -> u32 {
        self.0.calls.load(SeqCst)
    }

    async fn call(&self) -> io::Result<u32> {
        let call = self.0.calls.fetch_add(1, SeqCst) + 1;
        sleep(Duration::from_millis(self.0.millis.load(SeqCst))).await;
        if self.0.down.load(SeqCst) { Err(io::Error::other("down")) } else { Ok(call) }
    }
}

impl Load<u32, u32> for Origin {
    type Error = io::Error;

    async fn load(&self, key: u32) -> io::Result<Option<u32>> {
        Ok(key.is_multiple_of(2).then_some(self.call().await?))
    }

    async fn load_many(&self, keys: Vec<u32>) -> io::Result<Vec<(u32, u32)>> {
        self.0.batches.lock().unwrap().push(keys.clone());
        let call = self.call().await?;
        Ok(keys.into_iter().filter(|key| key % 2 == 0).map(|key| (key, call)).collect())
    }
}

type Through = ReadThrough<u32, u32, Origin>;
type Builder = ReadThroughBuilder<u32, u32, Origin, buttress::cache::RandomState>;

fn through(origin: &Origin, options: impl FnOnce(Builder) -> Builder) -> Through {
    let builder = ReadThrough::builder(MemoryCache::new(1000), origin.clone()).rng(Rng::seeded(7));
    options(builder).build().unwrap()
}

/// What a call returns, and how long that takes.
async fn timed(through: &Through, key: u32) -> (Result<Option<u32>, String>, Duration) {
    let start = Instant::now();
    let result = through.get(&key).await.map_err(|error| match error.inner() {
        Some(inner) => inner.to_string(),
        None => error.to_string(),
    });
    (result, start.elapsed())
}

const AT_ONCE: Duration = Duration::ZERO;

#[tokio::test(start_paused = true)]
async fn a_value_is_loaded_once_and_again_after_its_ttl() {
    let origin = Origin::taking(SECOND);
    let through = through(&origin, |builder| builder.ttl(SECOND * 10));
    assert_eq!(timed(&through, 2).await, (Ok(Some(1)), SECOND));
    sleep(SECOND * 9).await;
    assert_eq!(timed(&through, 2).await, (Ok(Some(1)), AT_ONCE));
    sleep(SECOND).await;
    assert_eq!(timed(&through, 2).await, (Ok(Some(2)), SECOND));
}

#[tokio::test(start_paused = true)]
async fn refresh_ahead_loads_in_the_background_once_and_nobody_waits() {
    let origin = Origin::taking(SECOND);
    let through = through(&origin, |builder| builder.ttl(SECOND * 10).refresh_ahead(0.8));
    assert_eq!(timed(&through, 2).await, (Ok(Some(1)), SECOND));
    sleep(SECOND * 8).await;
    for _ in 0..100 {
        assert_eq!(timed(&through, 2).await, (Ok(Some(1)), AT_ONCE));
    }
    sleep(SECOND + SECOND / 2).await;
    assert_eq!(timed(&through, 2).await, (Ok(Some(2)), AT_ONCE));
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn stale_while_revalidate_serves_the_old_value_while_one_load_goes_on() {
    let origin = Origin::taking(SECOND);
    let through = through(&origin, |builder| builder.ttl(SECOND * 10).stale_while_revalidate(SECOND * 5));
    through.get(&2).await.unwrap();
    sleep(SECOND * 14).await;
    for _ in 0..100 {
        assert_eq!(timed(&through, 2).await, (Ok(Some(1)), AT_ONCE));
    }
    sleep(SECOND * 2).await;
    assert_eq!(timed(&through, 2).await, (Ok(Some(2)), AT_ONCE));
    assert_eq!(origin.calls(), 2);
    sleep(SECOND * 15).await;
    assert_eq!(timed(&through, 2).await, (Ok(Some(3)), SECOND), "too old to be served");
}

#[tokio::test(start_paused = true)]
async fn stale_if_error_serves_the_old_value_up_to_its_limit() {
    let origin = Origin::taking(SECOND);
    let through = through(&origin, |builder| builder.ttl(SECOND * 10).stale_if_error(SECOND * 20));
    through.get(&2).await.unwrap();
    origin.down(true);
    sleep(SECOND * 11).await;
    assert_eq!(timed(&through, 2).await, (Ok(Some(1)), SECOND), "it waits to see whether it works");
    let calls = origin.calls();
    for _ in 0..100 {
        assert_eq!(timed(&through, 2).await, (Ok(Some(1)), AT_ONCE), "and not again at once");
    }
    assert_eq!(origin.calls(), calls);
    sleep(SECOND * 18).await;
    assert_eq!(timed(&through, 2).await.0, Err("down".into()));
    origin.down(false);
    assert!(timed(&through, 2).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_error_is_never_answered_with_what_was_invalidated() {
    let origin = Origin::taking(SECOND);
    let through = through(&origin, |builder| builder.ttl(SECOND * 10).stale_if_error(SECOND * 100));
    through.get(&2).await.unwrap();
    sleep(SECOND * 11).await;
    origin.down(true);
    through.remove(&2);
    assert_eq!(timed(&through, 2).await.0, Err("down".into()));
    // Nor with what is invalidated while the load goes on.
    origin.down(false);
    through.get(&2).await.unwrap();
    sleep(SECOND * 11).await;
    origin.down(true);
    let mut call = task::spawn(Box::pin(through.get(&2)));
    assert_pending!(call.poll());
    through.cache().remove(&2);
    assert!(call.into_inner().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_is_tried_again_after_a_pause_that_grows() {
    let origin = Origin::default();
    let through = through(&origin, |builder| {
        builder.ttl(SECOND).stale_while_revalidate(SECOND * 1000).backoff(SECOND, SECOND * 60)
    });
    through.get(&2).await.unwrap();
    origin.down(true);
    sleep(SECOND).await;
    // Asked for ten times a second, for ten minutes.
    for _ in 0..6000 {
        assert_eq!(timed(&through, 2).await, (Ok(Some(1)), AT_ONCE));
        sleep(SECOND / 10).await;
    }
    let tries = origin.calls() - 1;
    assert!((10..40).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_panics_makes_its_key_rest_as_one_that_fails() {
    // In the background, in the caller's time, and as a batch.
    for (revalidate, batch) in [(SECOND * 1000, false), (AT_ONCE, false), (AT_ONCE, true)] {
        let calls = Arc::new(AtomicU32::new(0));
        let load = {
            let calls = Arc::clone(&calls);
            // Half of the panics are in the call itself.
            move |key: u32| {
                let call = calls.fetch_add(1, SeqCst);
                assert!(call == 0 || call % 2 == 0, "out of order");
                async move {
                    assert!(call == 0, "out of order");
                    Ok::<_, io::Error>(Some(key))
                }
            }
        };
        let through = ReadThrough::builder(MemoryCache::new(10), load)
            .ttl(SECOND)
            .stale_while_revalidate(revalidate)
            .stale_if_error(SECOND * 1000)
            .backoff(SECOND, SECOND * 60)
            .rng(Rng::seeded(7))
            .build()
            .unwrap();
        through.get(&2).await.unwrap();
        sleep(SECOND).await;
        for _ in 0..6000 {
            let value =
                if batch { through.get_many(&[2]).await.unwrap()[0] } else { through.get(&2).await.unwrap() };
            assert_eq!(value, Some(2));
            sleep(SECOND / 10).await;
        }
        let tries = calls.load(SeqCst) - 1;
        assert!((10..40).contains(&tries), "{tries}");
    }
}

#[tokio::test(start_paused = true)]
async fn that_a_key_has_no_value_is_remembered_by_the_clock_of_the_cache() {
    let clock = ManualClock::new();
    let calls = Arc::new(AtomicU32::new(0));
    let load = {
        let calls = Arc::clone(&calls);
        move |_: u32| {
            calls.fetch_add(1, SeqCst);
            async { Ok::<Option<u32>, io::Error>(None) }
        }
    };
    let cache = MemoryCache::builder(10).clock(clock.clone()).build();
    let through = ReadThrough::builder(cache, load).negative(10, SECOND * 5).build().unwrap();
    for (by, all) in [(AT_ONCE, 1), (SECOND * 4, 1), (SECOND, 2)] {
        clock.advance(by);
        sleep(SECOND * 10).await;
        assert_eq!(through.get(&3).await.unwrap(), None);
        assert_eq!(calls.load(SeqCst), all);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_without_a_value_is_remembered_for_a_time_of_its_own() {
    let origin = Origin::taking(SECOND);
    let through = through(&origin, |builder| builder.ttl(SECOND * 100).negative(10, SECOND * 5));
    assert_eq!(timed(&through, 3).await, (Ok(None), SECOND));
    assert_eq!(timed(&through, 3).await, (Ok(None), AT_ONCE));
    sleep(SECOND * 5).await;
    assert_eq!(timed(&through, 3).await, (Ok(None), SECOND));
    through.insert(3, 33);
    assert_eq!(timed(&through, 3).await, (Ok(Some(33)), AT_ONCE));
    through.remove(&3);
    assert_eq!(timed(&through, 3).await, (Ok(None), SECOND));
    through.remove(&3);
    assert_eq!(timed(&through, 3).await, (Ok(None), SECOND));
    through.clear();
    assert_eq!(timed(&through, 3).await, (Ok(None), SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_keys_without_a_value_evicts_no_value() {
    let origin = Origin::default();
    let cache = MemoryCache::new(10);
    let through = ReadThrough::builder(cache.clone(), origin.clone()).negative(10, SECOND).build().unwrap();
    through.get(&2).await.unwrap();
    for key in 0..1000 {
        assert_eq!(through.get(&(key * 2 + 1)).await.unwrap(), None);
    }
    assert_eq!((cache.len(), timed(&through, 2).await.0), (1, Ok(Some(1))));
}

/// What loads find decides; what happens to the key meanwhile overrides it.
#[tokio::test(start_paused = true)]
async fn a_value_that_has_gone_is_not_served_and_one_that_has_come_is() {
    let exists = Arc::new(AtomicBool::new(true));
    let load = {
        let exists = Arc::clone(&exists);
        move |_: u32| {
            let exists = Arc::clone(&exists);
            async move {
                let found = exists.load(SeqCst);
                sleep(SECOND).await;
                Ok::<_, io::Error>(found.then_some("value"))
            }
        }
    };
    for negative in [false, true] {
        exists.store(true, SeqCst);
        let mut builder = ReadThrough::builder(MemoryCache::new(10), load.clone())
            .ttl(SECOND * 10)
            .stale_while_revalidate(SECOND * 100);
        if negative {
            builder = builder.negative(10, SECOND * 10);
        }
        let through = builder.build().unwrap();
        assert_eq!(through.get(&1).await.unwrap(), Some("value"));
        exists.store(false, SeqCst);
        sleep(SECOND * 11).await;
        assert_eq!(through.get(&1).await.unwrap(), Some("value"), "stale, while it is looked for");
        sleep(SECOND * 2).await;
        assert_eq!(through.get(&1).await.unwrap(), None);
        // A load that found nothing does not undo an insertion.
        through.remove(&1);
        let mut call = task::spawn(Box::pin(through.get(&1)));
        assert_pending!(call.poll());
        through.insert(1, "inserted");
        assert_eq!(call.into_inner().await.unwrap(), None, "it came first");
        assert_eq!(through.get(&1).await.unwrap(), Some("inserted"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_takes_too_long_is_an_error() {
    let origin = Origin::taking(SECOND * 60);
    let through =
        through(&origin, |builder| builder.timeout(SECOND * 2).ttl(SECOND).stale_if_error(SECOND * 1000));
    let (result, took) = timed(&through, 2).await;
    assert_eq!((result, took), (Err("the value was not loaded within 2s".into()), SECOND * 2));
    origin.takes(SECOND);
    assert_eq!(timed(&through, 2).await, (Ok(Some(2)), SECOND));
    origin.takes(SECOND * 60);
    sleep(SECOND).await;
    assert_eq!(timed(&through, 2).await, (Ok(Some(2)), SECOND * 2), "stale if error counts it as one");
}

#[tokio::test(start_paused = true)]
async fn errors_are_shared_or_retried_as_configured_and_there_is_one_load_at_a_time() {
    for (retries, expected) in [(0, 1), (2, 3)] {
        let origin = Origin::taking(SECOND);
        origin.down(true);
        let through = through(&origin, |builder| builder.retries(retries));
        let start = Instant::now();
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let through = through.clone();
                tokio::spawn(async move { through.get(&2).await })
            })
            .collect();
        for call in calls {
            assert!(matches!(call.await.unwrap(), Err(LoadError::Failed(_))));
        }
        assert_eq!(origin.calls(), expected);
        assert_eq!(start.elapsed(), SECOND * expected);
    }
    // With a retry, one failure is the trouble of its caller alone.
    let origin = Origin::taking(SECOND);
    origin.down(true);
    let through = through(&origin, |builder| builder.retries(1));
    let first = task::spawn(Box::pin(through.get(&2)));
    let (first, second, ()) = tokio::join!(first, through.get(&2), async {
        sleep(SECOND + SECOND / 2).await;
        origin.down(false);
    });
    assert!(first.is_err());
    assert_eq!(second.unwrap(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn background_refreshes_are_bounded() {
    let origin = Origin::taking(SECOND);
    let through = through(&origin, |builder| {
        builder.ttl(SECOND * 10).stale_while_revalidate(SECOND * 100).refreshes(3)
    });
    let keys: Vec<_> = (0..10).map(|key| key * 2).collect();
    through.get_many(&keys).await.unwrap();
    let before = origin.calls();
    sleep(SECOND * 11).await;
    for key in &keys {
        assert_eq!(timed(&through, *key).await.1, AT_ONCE);
    }
    sleep(SECOND / 2).await;
    assert_eq!(origin.calls() - before, 3);
}

#[test]
fn outside_of_a_runtime_nothing_runs_in_the_background() {
    let load = |_: u32| async { Ok::<_, io::Error>(Some(7)) };
    let clock = buttress::time::ManualClock::new();
    let cache = MemoryCache::builder(10).clock(clock.clone()).build();
    let through = ReadThrough::builder(cache, load)
        .ttl(SECOND * 10)
        .refresh_ahead(0.5)
        .stale_while_revalidate(SECOND * 10)
        .spawned()
        .build()
        .unwrap();
    for _ in 0..5 {
        let mut call = task::spawn(Box::pin(through.get(&1)));
        let std::task::Poll::Ready(result) = call.poll() else { panic!() };
        assert_eq!(result.unwrap(), Some(7));
        clock.advance(SECOND * 6);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_call_and_knows_stale_fresh_and_absent_keys() {
    let origin = Origin::taking(SECOND);
    let through = through(&origin, |builder| {
        builder.ttl(SECOND * 10).stale_if_error(SECOND * 100).negative(10, SECOND * 10)
    });
    assert_eq!(through.get_many(&[2, 3, 4]).await.unwrap(), [Some(1), None, Some(1)]);
    assert_eq!(through.get_many(&[4, 3, 6, 2]).await.unwrap(), [Some(1), None, Some(2), Some(1)]);
    assert_eq!(*origin.0.batches.lock().unwrap(), [vec![2, 3, 4], vec![6]]);
    let (one, other) = tokio::join!(through.get_many(&[8, 10]), through.get_many(&[10, 12]));
    assert_eq!((one.unwrap(), other.unwrap()), (vec![Some(3), Some(3)], vec![Some(3), Some(4)]));

    sleep(SECOND * 11).await;
    origin.down(true);
    assert_eq!(through.get_many(&[2, 4]).await.unwrap(), [Some(1), Some(1)]);
    assert!(through.get_many(&[2, 100]).await.is_err());
}

/// A load that is known when it is needed.
type Itself = Arc<
    std::sync::OnceLock<
        Box<dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = String> + Send>> + Send + Sync>,
    >,
>;

#[tokio::test(start_paused = true)]
async fn a_load_that_panics_or_asks_for_itself_is_an_error_that_says_so() {
    let panics = ReadThrough::builder(MemoryCache::new(10), |_: u32| async {
        panic!("out of order");
        #[allow(unreachable_code, reason = "for its type")]
        Ok::<Option<u32>, io::Error>(None)
    });
    let panics = panics.build().unwrap();
    let error = panics.get(&1).await.unwrap_err();
    assert!(matches!(error, LoadError::Broken(FlightError::Panicked(_))), "{error}");

    let itself = Itself::default();
    let load = {
        let itself = Arc::clone(&itself);
        move |_: u32| {
            let again = itself.get().unwrap()();
            async move { Ok::<_, io::Error>(Some(again.await)) }
        }
    };
    let through = ReadThrough::builder(MemoryCache::new(10), load).build().unwrap();
    let again = through.clone();
    let _ = itself.set(Box::new(move || {
        let again = again.clone();
        Box::pin(async move { again.get(&1).await.unwrap_err().to_string() })
    }));
    assert!(through.get(&1).await.unwrap().unwrap().contains("waits for itself"));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let builder = || ReadThrough::builder(MemoryCache::new(10), Origin::default());
    for share in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(builder().jitter(share).build(), Err(InvalidReadThrough::Jitter(_))));
    }
    for share in [0.0, 1.0, -0.1, f64::NAN] {
        let built = builder().refresh_ahead(share).build();
        assert!(matches!(built, Err(InvalidReadThrough::RefreshAhead(_))));
    }
    for beta in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(builder().early_expiry(beta).build(), Err(InvalidReadThrough::EarlyExpiry(_))));
    }
    assert!(matches!(builder().backoff(SECOND, AT_ONCE).build(), Err(InvalidReadThrough::Backoff(_))));
    let odd = builder().ttl(Duration::MAX).jitter(1.0).early_expiry(1e300).negative(0, Duration::MAX);
    assert!(odd.refreshes(usize::MAX).stale_if_error(Duration::MAX).build().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_nothing_stores_nothing_and_still_loads_once_for_all() {
    let origin = Origin::taking(SECOND);
    let through = through(&origin, |builder| builder.ttl(AT_ONCE));
    let (one, other) = tokio::join!(through.get(&2), through.get(&2));
    assert_eq!((one.unwrap(), other.unwrap()), (Some(1), Some(1)));
    assert_eq!(through.cache().len(), 0);
    assert_eq!(timed(&through, 2).await, (Ok(Some(2)), SECOND));
}

/// A key that is asked for ten times a second, for fifty times its TTL; loads take up to a twentieth of it.
#[tokio::test(start_paused = true)]
async fn a_hot_key_costs_one_load_for_each_ttl_and_nobody_waits() {
    const TTL: u32 = 60;
    for (name, millis, options) in [
        ("early expiry, slow", 3000, (|builder| builder.early_expiry(1.0)) as fn(Builder) -> Builder),
        ("early expiry, quick", 100, |builder| builder.early_expiry(1.0)),
        ("refresh ahead, slow", 3000, |builder| builder.refresh_ahead(0.96)),
        ("refresh ahead, quick", 100, |builder| builder.refresh_ahead(0.98)),
    ] {
        let origin = Origin::taking(Duration::from_millis(millis));
        let through = through(&origin, |builder| {
            options(builder.ttl(SECOND * TTL).jitter(0.04).stale_while_revalidate(SECOND * 4))
        });
        through.get(&2).await.unwrap();
        let start = Instant::now();
        let mut waited = 0;
        while start.elapsed() < SECOND * TTL * 50 {
            waited += u32::from(timed(&through, 2).await.1 > AT_ONCE);
            sleep(SECOND / 10).await;
        }
        let windows = start.elapsed().as_secs_f64() / f64::from(TTL);
        let per_window = f64::from(origin.calls() - 1) / windows;
        println!("{name}: {per_window:.3} loads for each TTL, {waited} waited");
        assert!(per_window <= 1.05, "{name}: {per_window}");
        assert_eq!(waited, 0, "{name}");
    }
}

#[test]
fn values_in_the_cache_say_what_they_are() {
    fn shared<T: Clone + Send + Sync + std::fmt::Debug>() {}
    shared::<Loaded<String>>();
    shared::<ReadThrough<u32, u32, Origin>>();
    shared::<LoadError<io::Error>>();
}
