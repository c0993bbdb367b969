//! Seeded random histories over tiers that are slow and fail by chance: nobody gets a value from before a change that was
//! over when they asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    cache::{MemoryCache, tier::Tiered},
    rng::Rng,
    time::TokioClock,
};
use tokio::time::sleep;

use crate::shelf::{Key, Shelf};

const KEYS: usize = 4;
const SEEDS: u64 = 300;

/// What the database says, and the oldest version of each key that may still be seen.
#[derive(Default)]
struct World {
    truth: [AtomicU64; KEYS],
    oldest: [AtomicU64; KEYS],
}

#[test]
fn no_reader_sees_what_was_changed_before_it_asked() {
    let (mut reads, mut changes, mut hits) = (0, 0, 0);
    for seed in 0..SEEDS {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (r, c, h) = runtime.block_on(play(seed));
        (reads, changes, hits) = (reads + r, changes + c, hits + h);
    }
    println!("{SEEDS} histories: {reads} reads, of which {hits} found something, and {changes} changes");
    assert!(hits > reads / 10, "it must not be empty all the time");
}

async fn play(seed: u64) -> (u64, u64, u64) {
    let mut rng = Rng::seeded(seed);
    let memory = MemoryCache::builder(3).clock(TokioClock).build();
    let delay = Duration::from_millis(20);
    let stack: Tiered<Key, u64> = Tiered::builder(memory)
        .tier(Shelf::random(false, delay, rng.next_u64()))
        .tier(Shelf::random(true, delay, rng.next_u64()))
        .ttl(Duration::from_secs(10))
        .build();
    let world = Arc::new(World::default());
    let tasks: Vec<_> = (0..6)
        .map(|_| tokio::spawn(act(stack.clone(), Arc::clone(&world), Rng::seeded(rng.next_u64()))))
        .collect();
    let mut counts = (0, 0, 0);
    for task in tasks {
        let (reads, changes, hits) = task.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        counts = (counts.0 + reads, counts.1 + changes, counts.2 + hits);
    }
    counts
}

async fn act(stack: Tiered<Key, u64>, world: Arc<World>, mut rng: Rng) -> (u64, u64, u64) {
    let mut counts = (0, 0, 0);
    for _ in 0..40 {
        sleep(Duration::from_millis(rng.below(30) as u64)).await;
        let at = rng.below(KEYS);
        let key = Key::try_from(at).unwrap();
        if rng.below(4) == 0 {
            let version = world.truth[at].fetch_add(1, SeqCst) + 1;
            // What is told before this is over may be older; nothing after it, whether all tiers were reached or not.
            let _ = stack.remove(&key).await;
            world.oldest[at].fetch_max(version, SeqCst);
            counts.1 += 1;
            continue;
        }
        let oldest = world.oldest[at].load(SeqCst);
        let slow = Duration::from_millis(rng.below(50) as u64);
        let found = match rng.below(4) {
            0 => stack.get(&key).await,
            1 => stack.get_many(&[key]).await[0],
            _ => {
                let world = Arc::clone(&world);
                let load = || async move {
                    let version = world.truth[at].load(SeqCst);
                    sleep(slow).await;
                    version
                };
                Some(stack.get_with(&key, load).await)
            }
        };
        counts.0 += 1;
        if let Some(version) = found {
            counts.2 += 1;
            assert!(version >= oldest, "version {version} of key {key} was gone, {oldest} is the oldest");
        }
    }
    counts
}
