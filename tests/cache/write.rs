//! Writes through a cache, and behind it.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    cache::{
        MemoryCache,
        load::ReadThrough,
        write::{InvalidWriteBehind, Store, Write, WriteBehind, WriteThrough, WriterStopped},
    },
    rng::Rng,
};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, task};

const STEP: Duration = Duration::from_millis(100);

/// A store that is slow and may fail: before a write has an effect, or after.
#[derive(Clone, Default)]
struct Table(Arc<State>);

#[derive(Default)]
struct State {
    rows: Mutex<BTreeMap<u32, u32>>,
    batches: Mutex<Vec<usize>>,
    millis: AtomicU64,
    /// So many calls fail from now on; of those every third arrives all the same, and every fourth panics.
    failing: AtomicUsize,
}

impl Table {
    fn taking(time: Duration) -> Self {
        let table = Self::default();
        table.0.millis.store(u64::try_from(time.as_millis()).unwrap(), SeqCst);
        table
    }

    fn get(&self, key: u32) -> Option<u32> {
        self.0.rows.lock().unwrap().get(&key).copied()
    }

    fn fail(&self, times: usize) {
        self.0.failing.store(times, SeqCst);
    }

    fn batches(&self) -> Vec<usize> {
        std::mem::take(&mut self.0.batches.lock().unwrap())
    }

    fn apply(&self, writes: Vec<Write<u32, u32>>) {
        let mut rows = self.0.rows.lock().unwrap();
        for write in writes {
            match write {
                Write::Put(key, value) => rows.insert(key, value),
                Write::Remove(key) => rows.remove(&key),
            };
        }
    }
}

impl Store<u32, u32> for Table {
    type Error = io::Error;

    async fn write(&self, writes: Vec<Write<u32, u32>>) -> io::Result<()> {
        let failing = self.0.failing.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).unwrap_or(0);
        sleep(Duration::from_millis(self.0.millis.load(SeqCst))).await;
        match failing {
            0 => {
                self.0.batches.lock().unwrap().push(writes.len());
                self.apply(writes);
                Ok(())
            }
            left => {
                if left.is_multiple_of(3) {
                    self.apply(writes);
                }
                assert!(!left.is_multiple_of(4), "the store is broken");
                Err(io::Error::other("down"))
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_is_in_the_store_before_it_is_in_the_cache() {
    let (cache, table) = (MemoryCache::new(10), Table::taking(STEP));
    let through = WriteThrough::new(cache.clone(), table.clone());
    cache.insert(1, 10);
    let mut write = task::spawn(Box::pin(through.insert(1, 11)));
    assert_pending!(write.poll());
    assert_eq!((cache.get(&1), table.get(1)), (None, None), "neither old nor new");
    write.into_inner().await.unwrap();
    assert_eq!((cache.get(&1), table.get(1)), (Some(11), Some(11)));
    through.remove(1).await.unwrap();
    assert_eq!((cache.get(&1), table.get(1)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_or_is_cancelled_leaves_nothing_in_the_cache() {
    let (cache, table) = (MemoryCache::new(10), Table::taking(STEP));
    let through = WriteThrough::new(cache.clone(), table.clone());
    through.insert(1, 10).await.unwrap();
    table.fail(3);
    assert!(through.insert(1, 11).await.is_err());
    assert_eq!((cache.get(&1), table.get(1)), (None, Some(11)), "it had arrived");
    table.fail(0);
    let mut write = task::spawn(Box::pin(through.insert(1, 12)));
    assert_pending!(write.poll());
    // Somebody reads meanwhile.
    cache.insert(1, 11);
    drop(write);
    assert_eq!(cache.get(&1), None);
}

/// Writes and loads of one key that overlap in every way: in the end the cache has what the store has, or nothing.
#[tokio::test(start_paused = true)]
async fn whatever_overlaps_the_cache_never_keeps_what_the_store_has_not() {
    for seed in 0..1_000 {
        let mut rng = Rng::seeded(seed);
        let (cache, table) = (MemoryCache::new(10), Table::default());
        let through = WriteThrough::new(cache.clone(), table.clone());
        table.fail(rng.below(3));
        let mut tasks = Vec::new();
        for number in 0..8 {
            table.0.millis.store(rng.below(5) as u64, SeqCst);
            let (through, cache, table, kind) = (through.clone(), cache.clone(), table.clone(), rng.below(5));
            let task = tokio::spawn(async move {
                match kind {
                    0..=2 => drop(through.insert(1, number).await),
                    3 => drop(through.remove(1).await),
                    _ => {
                        let read = || async move {
                            let read = table.get(1);
                            sleep(Duration::from_millis(2)).await;
                            read.ok_or(())
                        };
                        let _ = cache.try_get_with(&1, read).await;
                    }
                }
            });
            sleep(Duration::from_millis(rng.below(3) as u64)).await;
            if rng.below(4) == 0 {
                task.abort();
            }
            tasks.push(task);
        }
        for task in tasks {
            let _ = task.await;
        }
        let kept = cache.get(&1);
        assert!(kept.is_none() || kept == table.get(1), "seed {seed}: {kept:?} {:?}", table.get(1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_through_a_read_through_is_read_with_its_times() {
    let table = Table::default();
    let read = {
        let table = table.clone();
        move |key: u32| {
            let row = table.get(key);
            async move { Ok::<_, io::Error>(row) }
        }
    };
    let reads = ReadThrough::builder(MemoryCache::new(10), read).ttl(STEP).negative(10, STEP * 100).build();
    let reads = reads.unwrap();
    assert_eq!(reads.get(&1).await.unwrap(), None);
    let writes = WriteThrough::new(reads.clone(), table.clone());
    writes.insert(1, 7).await.unwrap();
    table.apply(vec![Write::Put(1, 8)]);
    assert_eq!(reads.get(&1).await.unwrap(), Some(7));
    sleep(STEP).await;
    assert_eq!(reads.get(&1).await.unwrap(), Some(8), "the TTL is over");
}

type Cache = MemoryCache<u32, u32>;

fn behind(table: &Table, capacity: usize) -> (Cache, WriteBehind<u32, u32, Cache>) {
    let cache = MemoryCache::new(1000);
    let builder = WriteBehind::builder(cache.clone(), table.clone()).capacity(capacity).batch(4);
    (cache, builder.rng(Rng::seeded(1)).build().unwrap())
}

#[tokio::test(start_paused = true)]
async fn writes_of_a_key_are_merged_and_those_of_many_go_in_batches() {
    let table = Table::taking(STEP);
    let (cache, behind) = behind(&table, 100);
    let start = Instant::now();
    for value in 0..10 {
        for key in 0..6 {
            behind.insert(key, value).await.unwrap();
        }
    }
    behind.remove(5).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO, "nobody waits for the store");
    assert_eq!((cache.get(&0), cache.get(&5)), (Some(9), None));
    assert_eq!((behind.unsaved(&0), behind.unsaved(&5)), (Some(Some(9)), Some(None)));
    behind.flush().await.unwrap();
    assert_eq!(table.batches(), [4, 2]);
    assert_eq!((table.get(0), table.get(5)), (Some(9), None));
    assert_eq!((behind.pending(), behind.unsaved(&0)), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_makes_writers_wait_and_a_cancelled_one_takes_no_room() {
    let table = Table::taking(STEP);
    let (_, behind) = behind(&table, 2);
    behind.insert(1, 1).await.unwrap();
    behind.insert(2, 1).await.unwrap();
    behind.insert(2, 2).await.unwrap();
    let mut waiting = task::spawn(Box::pin(behind.insert(3, 1)));
    let mut cancelled = task::spawn(Box::pin(behind.insert(4, 1)));
    assert_pending!(waiting.poll());
    assert_pending!(cancelled.poll());
    drop(cancelled);
    assert_eq!(behind.pending(), 2);
    waiting.into_inner().await.unwrap();
    behind.flush().await.unwrap();
    assert_eq!([1, 2, 3, 4].map(|key| table.get(key)), [Some(1), Some(2), Some(1), None]);
    // All the room is back.
    for key in 0..2 {
        let mut write = task::spawn(Box::pin(behind.insert(key, 5)));
        assert!(write.poll().is_ready());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_is_tried_until_it_works_and_loses_nothing() {
    let table = Table::taking(STEP);
    let (_, behind) = behind(&table, 100);
    table.fail(12);
    for key in 0..10 {
        behind.insert(key, key).await.unwrap();
    }
    sleep(STEP + STEP / 2).await;
    assert!(behind.failures() > 0);
    behind.insert(0, 100).await.unwrap();
    behind.flush().await.unwrap();
    assert_eq!(behind.failures(), 0);
    assert_eq!(table.get(0), Some(100));
    assert!((1..10).all(|key| table.get(key) == Some(key)));
}

#[tokio::test(start_paused = true)]
async fn shutdown_and_the_drop_of_the_last_handle_write_everything_out() {
    let table = Table::taking(STEP);
    let (_, first) = behind(&table, 100);
    let second = first.clone();
    for key in 0..20 {
        first.insert(key, key).await.unwrap();
    }
    table.fail(2);
    first.shutdown().await.unwrap();
    assert_eq!(table.0.rows.lock().unwrap().len(), 20);
    assert_eq!(second.insert(1, 7).await, Err(WriterStopped));
    assert_eq!(second.remove(1).await, Err(WriterStopped));
    second.shutdown().await.unwrap();

    let table = Table::taking(STEP);
    let (_, behind) = behind(&table, 100);
    for key in 0..20 {
        behind.insert(key, key).await.unwrap();
    }
    drop(behind);
    sleep(STEP * 6).await;
    assert_eq!(table.0.rows.lock().unwrap().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_delay_merges_more_and_a_flush_does_not_wait_for_it() {
    let table = Table::default();
    let builder = WriteBehind::builder(MemoryCache::new(10), table.clone()).batch(100).delay(STEP * 10);
    let behind = builder.build().unwrap();
    let start = Instant::now();
    for value in 0..50 {
        behind.insert(1, value).await.unwrap();
        behind.insert(2, value).await.unwrap();
        sleep(STEP / 10).await;
    }
    assert!(table.batches().is_empty());
    behind.flush().await.unwrap();
    assert_eq!((table.batches(), start.elapsed()), (vec![2], STEP * 5));
    behind.insert(1, 7).await.unwrap();
    sleep(STEP * 11).await;
    assert_eq!(table.get(1), Some(7));
    // A whole batch does not wait either.
    for key in 0..100 {
        behind.insert(key, 8).await.unwrap();
    }
    sleep(STEP).await;
    assert_eq!(table.get(99), Some(8));
}

/// Many writers of few keys, a store that fails and panics, callers that are cancelled: whatever was acknowledged is there.
#[tokio::test(start_paused = true)]
async fn nothing_that_was_acknowledged_is_lost() {
    for seed in 0..30 {
        let mut rng = Rng::seeded(seed);
        let table = Table::taking(Duration::from_millis(rng.below(20) as u64));
        let (cache, behind) = behind(&table, 3);
        let mut writers = Vec::new();
        for key in 0..5 {
            let (behind, mut rng) = (behind.clone(), Rng::seeded(rng.next_u64()));
            writers.push(tokio::spawn(async move {
                let (mut least, mut most) = (0, 0);
                for value in 1..40 {
                    most = value;
                    let write = behind.insert(key, value);
                    let patience = Duration::from_millis(rng.below(30) as u64);
                    if tokio::time::timeout(patience, write).await.is_ok() {
                        least = value;
                    }
                    sleep(Duration::from_millis(rng.below(10) as u64)).await;
                }
                (key, least, most)
            }));
        }
        for _ in 0..10 {
            table.fail(rng.below(9));
            sleep(Duration::from_millis(rng.below(100) as u64)).await;
        }
        table.fail(0);
        let mut acknowledged = Vec::new();
        for writer in writers {
            acknowledged.push(writer.await.unwrap());
        }
        behind.flush().await.unwrap();
        for (key, least, most) in acknowledged {
            let value = table.get(key).unwrap_or_default();
            assert!((least..=most).contains(&value), "seed {seed}: {key} is {value}, not {least}");
            let kept = cache.get(&key);
            assert!(kept.is_none() || kept == Some(value), "seed {seed}: {kept:?} of {key}, not {value}");
        }
        assert_eq!(behind.pending(), 0);
    }
}

#[test]
fn the_end_of_the_runtime_is_told_to_those_who_wait() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let writers = runtime();
    let table = Table::taking(STEP * 1000);
    let behind = writers.block_on(async { behind(&table, 1).1 });
    runtime().block_on(async {
        behind.insert(1, 1).await.unwrap();
        let mut waiting = task::spawn(Box::pin(behind.insert(2, 1)));
        let mut flush = task::spawn(Box::pin(behind.flush()));
        assert_pending!(waiting.poll());
        assert_pending!(flush.poll());
        writers.shutdown_background();
        assert_eq!(waiting.into_inner().await, Err(WriterStopped));
        assert_eq!(flush.into_inner().await, Err(WriterStopped));
    });
}

#[tokio::test]
async fn a_writer_that_could_write_nothing_is_refused() {
    let builder = || WriteBehind::builder(MemoryCache::<u32, u32>::new(10), Table::default());
    let error = |builder: buttress::cache::write::WriteBehindBuilder<_, _>| builder.build().unwrap_err();
    assert_eq!(error(builder().capacity(0)), InvalidWriteBehind::ZeroCapacity);
    assert_eq!(error(builder().batch(0)), InvalidWriteBehind::ZeroBatch);
    assert!(matches!(error(builder().backoff(STEP, Duration::ZERO)), InvalidWriteBehind::Backoff(_)));
    let outside = std::thread::spawn(move || error(builder())).join().unwrap();
    assert_eq!(outside, InvalidWriteBehind::NoRuntime);
    assert!(builder_with_no_end().is_ok());
}

fn builder_with_no_end() -> Result<WriteBehind<u32, u32, MemoryCache<u32, u32>>, InvalidWriteBehind> {
    let builder = WriteBehind::builder(MemoryCache::new(10), Table::default());
    builder.capacity(usize::MAX).batch(usize::MAX).delay(Duration::MAX).build()
}

/// A value whose end is told to somebody.
#[derive(Clone)]
struct Ends(Arc<dyn Fn() + Send + Sync>);

impl Drop for Ends {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Fails at first, while another value is written.
#[derive(Clone)]
struct Fails(Arc<AtomicUsize>);

impl Store<u32, Ends> for Fails {
    type Error = io::Error;

    async fn write(&self, writes: Vec<Write<u32, Ends>>) -> io::Result<()> {
        drop(writes);
        sleep(STEP).await;
        match self.0.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Err(io::Error::other("down")),
            Err(_) => Ok(()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn values_are_dropped_where_they_may_use_the_writer() {
    let writer = WriteBehind::builder(MemoryCache::new(0), Fails(Arc::new(1.into()))).build().unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    let value = || {
        let (ended, writer) = (Arc::clone(&ended), writer.clone());
        Ends(Arc::new(move || {
            writer.pending();
            ended.fetch_add(1, SeqCst);
        }))
    };
    writer.insert(1, value()).await.unwrap();
    sleep(STEP / 2).await;
    // Takes the place of the first, which is under way and fails.
    writer.insert(1, value()).await.unwrap();
    writer.flush().await.unwrap();
    assert_eq!(writer.pending(), 0);
    assert!(ended.load(SeqCst) > 2);
}
