//! What a cache does when nobody asks it for anything: it gives memory back.

use std::{sync::Arc, time::Duration};

use tokio::{task, time};

use super::{MemoryCache, listener::Outgoing};
use crate::cache::expire::nanos;

/// How many steps an insertion spends on entries that have expired, each of constant time. An entry needs at most nine in
/// its life, and mostly three: so insertions keep up with what they put in.
pub(super) const STEPS: u32 = 16;

/// How many steps maintenance takes in a row with a shard locked: some ten microseconds.
const SLICE: u32 = 64;

/// How long the task works before it lets others run.
const TURN: Duration = Duration::from_micros(100);

/// How much later than the first deadline the task wakes, so that many share one wake-up.
const SLACK: Duration = Duration::from_millis(250);

/// What is left to do.
enum Left {
    /// More, right now.
    More,
    /// Nothing before this deadline, if there is one.
    Until(Option<u64>),
}

impl<K, V, S> MemoryCache<K, V, S> {
    /// Takes out entries that have expired, for about as long as `budget` allows; whether all were. Tables that are empty by
    /// then are made smaller.
    ///
    /// A cache whose entries expire takes a few of them out with each insertion. Call this, or let
    /// [`maintain`](Self::maintain) run, to get memory back while nothing is inserted. At least a slice is done: a shard is locked for at most 64
    /// steps at a time, some ten microseconds, so nobody waits long however many entries expire at once.
    pub fn run_maintenance(&self, budget: Duration) -> bool {
        matches!(self.upkeep(budget), Left::Until(_))
    }

    /// A task that takes out entries as they expire: within a second, with nobody using the cache.
    ///
    /// Spawn it on any tokio runtime; one for a cache is enough. It sleeps while there is nothing to do, works in turns of about 100 µs, and
    /// ends when the last handle of the cache is dropped; it is not one.
    ///
    /// The application's clock says what has expired, tokio's timers when to look: a clock that runs ahead of them makes the task
    /// late, and nothing else.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use buttress::cache::MemoryCache;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let cache: MemoryCache<&str, u32> = MemoryCache::builder(100).ttl(Duration::from_secs(60)).build();
    /// tokio::spawn(cache.maintain());
    /// cache.insert("answer", 42);
    /// tokio::time::sleep(Duration::from_secs(61)).await;
    /// assert_eq!(cache.len(), 0);
    /// # }
    /// ```
    pub fn maintain(&self) -> impl Future<Output = ()> + use<K, V, S> {
        let cache = Arc::downgrade(&self.inner);
        let alarm = Arc::clone(self.inner.aging.alarm());
        async move {
            loop {
                alarm.look();
                let Some(inner) = cache.upgrade() else { break };
                let cache = Self { inner };
                let sleep = match cache.upkeep(TURN) {
                    Left::More => Some(Duration::ZERO),
                    Left::Until(None) => None,
                    Left::Until(Some(deadline)) => {
                        alarm.plan(deadline);
                        Some(cache.inner.aging.until(deadline) + SLACK)
                    }
                };
                drop(cache);
                match sleep {
                    Some(Duration::ZERO) => task::yield_now().await,
                    // Whether it rang or the time is over: there is something to do.
                    Some(sleep) => drop(time::timeout(sleep, alarm.rung()).await),
                    None => alarm.rung().await,
                }
            }
            // There may be another task.
            alarm.ring();
        }
    }

    fn upkeep(&self, budget: Duration) -> Left {
        let inner = &*self.inner;
        let mut now = inner.aging.now();
        let end = now.saturating_add(nanos(budget));
        let mut next: Option<u64> = None;
        for lock in &inner.shards {
            loop {
                let (due, spare) = {
                    let shard = lock.read();
                    (shard.next_deadline(), shard.is_spare())
                };
                let is_due = due.is_some_and(|due| due <= now);
                if !is_due && !spare {
                    next = due.into_iter().chain(next).min();
                    break;
                }
                if now > end {
                    return Left::More;
                }
                if is_due {
                    let mut out = Outgoing::new();
                    lock.write().expire(now, &mut { SLICE }, &mut out);
                    out.settle(inner.listener.as_ref());
                } else {
                    let policy = inner.eviction.policy(inner.budget.fair());
                    // What is left of the old tables goes when the lock is free.
                    let old = lock.write().shrink(policy);
                    drop(old);
                }
                now = inner.aging.now();
            }
        }
        Left::Until(next)
    }
}
