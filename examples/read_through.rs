//! A cache over a slow function that sometimes fails. Time is paused, so sleeping takes none.
//!
//! `cargo run --example read_through`

use std::{
    error::Error,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress::cache::{
    MemoryCache,
    load::{Load, LoadError, ReadThrough},
};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// A database that takes a second for each question.
#[derive(Clone, Default)]
struct Database(Arc<State>);

#[derive(Default)]
struct State {
    questions: AtomicU32,
    down: AtomicBool,
}

impl Load<u32, String> for Database {
    type Error = io::Error;

    async fn load(&self, user: u32) -> io::Result<Option<String>> {
        let question = self.0.questions.fetch_add(1, Relaxed) + 1;
        sleep(SECOND).await;
        if self.0.down.load(Relaxed) {
            return Err(io::Error::other("the database is down"));
        }
        Ok((user < 100).then(|| format!("user {user}, by question {question}")))
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let database = Database::default();
    let users = ReadThrough::builder(MemoryCache::new(10_000), database.clone())
        .ttl(SECOND * 60)
        .refresh_ahead(0.8)
        .stale_if_error(SECOND * 3600)
        .negative(1_000, SECOND * 10)
        .timeout(SECOND * 5)
        .build()?;

    println!("a thousand callers at once, the first of whom leaves:");
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let users = users.clone();
            tokio::spawn(async move { users.get(&42).await })
        })
        .collect();
    sleep(SECOND / 2).await;
    callers[0].abort();
    let mut answered = 0;
    for caller in callers {
        answered += u32::from(caller.await.is_ok_and(|answer| answer.is_ok()));
    }
    println!("  {answered} answers, {} question", database.0.questions.load(Relaxed));

    println!("a caller every five seconds for five minutes:");
    let (start, mut longest) = (Instant::now(), Duration::ZERO);
    while start.elapsed() < SECOND * 300 {
        let asked = Instant::now();
        users.get(&42).await?;
        longest = longest.max(asked.elapsed());
        sleep(SECOND * 5).await;
    }
    println!("  {} questions in all, the longest wait {longest:?}", database.0.questions.load(Relaxed));

    println!("the database fails for a while:");
    database.0.down.store(true, Relaxed);
    sleep(SECOND * 120).await;
    println!("  known:   {:?}", users.get(&42).await?);
    match users.get(&43).await {
        Err(LoadError::Failed(error)) => println!("  unknown: {error}"),
        other => println!("  unknown: {other:?}"),
    }

    database.0.down.store(false, Relaxed);
    println!("somebody who does not exist, twice:");
    let before = database.0.questions.load(Relaxed);
    println!("  {:?} and {:?}", users.get(&200).await?, users.get(&200).await?);
    println!("  {} question", database.0.questions.load(Relaxed) - before);
    Ok(())
}
