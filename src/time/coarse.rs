//! A clock for those who ask all the time.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use super::Clock;

/// How often the thread looks at the clock.
const TICK: Duration = Duration::from_millis(1);

/// After so many ticks without a question the thread rests.
const PATIENCE: u32 = 100;

/// The system's monotonic clock, with a thread that notes the time each millisecond for those who ask all the time.
///
/// To read a clock takes longer than to look up a value in a cache: some 27 ns and, as the processor waits for everything
/// before it, what lookups gain by overlapping. To read what the thread noted takes one. A cache with this clock goes by the
/// note while a value has more than 100 ms to live, and reads the clock after that.
///
/// So its promise never to return an expired value holds as long as the thread gets to run every 100 ms while the
/// cache is in use; a process that was stopped as a whole may see a value that expired meanwhile, in the moment it goes on. Where that is too
/// much, use [`TokioClock`](super::TokioClock).
///
/// The thread rests while nobody asks, and ends with the last clone of the clock. If it cannot be started the clock works without.
///
/// ```
/// use std::time::Duration;
/// use buttress::{cache::MemoryCache, time::CoarseClock};
///
/// let cache = MemoryCache::builder(1000).clock(CoarseClock::new()).ttl(Duration::from_secs(60)).build();
/// cache.insert("answer", 42);
/// assert_eq!(cache.get("answer"), Some(42));
/// ```
#[derive(Clone, Debug)]
pub struct CoarseClock {
    notes: Arc<Notes>,
    _thread: Option<Arc<Ticker>>,
}

#[derive(Debug)]
struct Notes {
    origin: Instant,
    /// The time since then, in nanoseconds; 0 while nobody keeps it.
    elapsed: AtomicU64,
    /// Whether anybody asked since the last tick.
    asked: AtomicBool,
    /// Whether the thread was woken since it went to rest.
    woken: AtomicBool,
    closed: AtomicBool,
    /// To wake it.
    thread: std::sync::OnceLock<Thread>,
}

/// Ends the thread when it is dropped.
#[derive(Debug)]
struct Ticker(Arc<Notes>);

impl CoarseClock {
    /// A clock with a thread of its own: clone it for each cache.
    #[allow(clippy::disallowed_methods, reason = "clocks are read here")]
    pub fn new() -> Self {
        let notes = Arc::new(Notes {
            origin: Instant::now(),
            elapsed: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            thread: std::sync::OnceLock::new(),
        });
        let kept = Arc::clone(&notes);
        let thread = thread::Builder::new().name("coarse-clock".into()).spawn(move || kept.keep());
        let ticker = thread.ok().map(|thread| {
            let _ = notes.thread.set(thread.thread().clone());
            Arc::new(Ticker(Arc::clone(&notes)))
        });
        Self { notes, _thread: ticker }
    }

    /// The time since this instant, as last noted: mostly a millisecond late. `None` while nobody keeps it; asking
    /// changes that soon.
    #[inline]
    pub(crate) fn elapsed(&self) -> Option<u64> {
        let notes = &*self.notes;
        let elapsed = notes.elapsed.load(Acquire);
        if elapsed == 0 {
            notes.wake();
            return None;
        }
        if !notes.asked.load(Relaxed) {
            notes.asked.store(true, Relaxed);
        }
        Some(elapsed)
    }

    /// What [`elapsed`](Self::elapsed) counts from.
    pub(crate) fn origin(&self) -> Instant {
        self.notes.origin
    }
}

impl Default for CoarseClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for CoarseClock {
    #[allow(clippy::disallowed_methods, reason = "clocks are read here")]
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn coarse(&self) -> Option<CoarseClock> {
        Some(self.clone())
    }
}

impl Notes {
    /// What the thread does.
    #[allow(clippy::disallowed_methods, reason = "clocks are read here")]
    fn keep(&self) {
        let mut unasked = 0;
        while !self.closed.load(Relaxed) {
            unasked = if self.asked.swap(false, Relaxed) { 0 } else { unasked + 1 };
            if unasked < PATIENCE {
                let elapsed = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(0);
                self.elapsed.store(elapsed, Release);
                thread::park_timeout(TICK);
            } else {
                self.woken.store(false, Relaxed);
                // Whoever sees the 0 sees that nobody has woken the thread yet.
                self.elapsed.store(0, Release);
                thread::park();
                unasked = 0;
            }
        }
    }

    #[cold]
    fn wake(&self) {
        if !self.woken.swap(true, AcqRel)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.closed.store(true, Relaxed);
        self.0.elapsed.store(0, Release);
        self.0.thread.get().inspect(|thread| thread.unpark());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_until(done: impl Fn() -> bool) {
        let start = CoarseClock::new();
        let begun = start.now();
        while !done() {
            assert!(start.now() - begun < Duration::from_secs(60), "it takes too long");
            thread::sleep(TICK);
        }
    }

    #[test]
    fn the_note_is_never_ahead_and_moves_on() {
        let clock = CoarseClock::new();
        let mut last = 0;
        for _ in 0..20 {
            wait_until(|| clock.elapsed().is_some_and(|noted| noted > last));
            last = clock.elapsed().unwrap_or(last);
            let elapsed = clock.now() - clock.origin();
            assert!(Duration::from_nanos(last) <= elapsed);
        }
    }

    #[test]
    fn the_thread_rests_while_nobody_asks_and_comes_back() {
        let clock = CoarseClock::new();
        for _ in 0..3 {
            wait_until(|| clock.elapsed().is_some());
            wait_until(|| clock.notes.elapsed.load(Relaxed) == 0);
        }
    }

    #[test]
    fn the_thread_ends_with_the_last_clone() {
        let clock = CoarseClock::new();
        let (clone, notes) = (clock.clone(), Arc::downgrade(&clock.notes));
        drop(clock);
        wait_until(|| clone.elapsed().is_some());
        drop(clone);
        wait_until(|| notes.strong_count() == 0);
    }
}
