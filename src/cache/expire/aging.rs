//! What a cache as a whole knows of time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{Alarm, Expiry, Life, NEVER, nanos};
use crate::time::{Clock, CoarseClock};

/// When caches are made: 146 years after time zero, so that a clock may go back further than that.
const ORIGIN: u64 = 1 << 62;

/// How much later than noted it may be, in nanoseconds. [`CoarseClock`] documents it.
const LATE: u64 = 100_000_000;

/// The clock of a cache, and how long its entries live. Times are in nanoseconds.
#[derive(Debug)]
pub(crate) struct Aging {
    expiry: Expiry,
    clock: Arc<dyn Clock>,
    origin: Instant,
    /// Whether any entry ever had a deadline: until then nobody reads the clock.
    timed: AtomicBool,
    /// Notes the time, which is then as many nanoseconds later here.
    coarse: Option<(CoarseClock, u64)>,
    alarm: Arc<Alarm>,
}

impl Aging {
    pub(crate) fn new(expiry: Expiry, clock: Arc<dyn Clock>) -> Self {
        let origin = clock.now();
        let coarse = clock.coarse().map(|coarse| {
            let before = nanos(origin.saturating_duration_since(coarse.origin()));
            (coarse, ORIGIN.saturating_sub(before))
        });
        Self { expiry, clock, origin, timed: AtomicBool::new(false), coarse, alarm: Arc::default() }
    }

    /// The time: 0 as long as nothing can expire.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        if self.timed.load(Relaxed) { self.read_clock() } else { 0 }
    }

    /// The time and the idle time of entries, if uses put their deadlines off.
    #[inline]
    pub(crate) fn idle(&self) -> Option<(u64, u64)> {
        let idle = self.expiry.idle_nanos()?;
        Some((self.now(), idle))
    }

    /// Whether a deadline has passed. Reads the clock only if there is one.
    #[inline]
    pub(crate) fn is_over(&self, deadline: u64) -> bool {
        deadline != NEVER && !self.is_far(deadline) && deadline <= self.read_clock()
    }

    /// Whether a deadline is so far away that a note of the time will do.
    #[inline]
    fn is_far(&self, deadline: u64) -> bool {
        self.coarse.as_ref().is_some_and(|(clock, later)| {
            clock.elapsed().is_some_and(|noted| noted.saturating_add(later + LATE) < deadline)
        })
    }

    /// The time, and how long an entry lives that is put in now. `None`: it is not to be kept.
    #[inline]
    pub(crate) fn begin(&self, hash: u64, ttl: Option<Duration>) -> (u64, Option<Life>) {
        if !self.timed.load(Relaxed) {
            if ttl.is_none() && !self.expiry.for_all() {
                return (0, Some(Life::ENDLESS));
            }
            self.timed.store(true, Relaxed);
        }
        let now = self.read_clock();
        (now, self.expiry.life(now, hash, ttl))
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// What wakes the maintenance.
    pub(crate) fn alarm(&self) -> &Arc<Alarm> {
        &self.alarm
    }

    /// How long until this instant.
    pub(crate) fn until(&self, instant: u64) -> Duration {
        Duration::from_nanos(instant.saturating_sub(self.read_clock()))
    }

    /// How long until this deadline; `None` if it never comes.
    pub(crate) fn left(&self, deadline: u64) -> Option<Duration> {
        (deadline != NEVER).then(|| self.until(deadline))
    }

    fn read_clock(&self) -> u64 {
        let now = self.clock.now();
        match now.checked_duration_since(self.origin) {
            Some(after) => ORIGIN.saturating_add(nanos(after)).min(NEVER - 1),
            None => ORIGIN.saturating_sub(nanos(self.origin.saturating_duration_since(now))).max(1),
        }
    }
}

/// The cache is gone: its maintenance is over.
impl Drop for Aging {
    fn drop(&mut self) {
        self.alarm.ring();
    }
}
