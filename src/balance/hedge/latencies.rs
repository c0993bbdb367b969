//! A quantile of recent latencies, some of which are known only to be longer than something.

use std::{
    fmt,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

/// Each power of two is divided into so many buckets, which are at most 1/32 wide.
const PARTS: usize = 32;
/// Up to 2²⁸ microseconds, four minutes and a half. What takes longer counts as that.
const BUCKETS: usize = 24 * PARTS;
/// How many samples above the quantile, and how many in all, an estimate is made from at least.
const TAIL: f64 = 10.0;
const SAMPLES: f64 = 100.0;
/// A window is full after so many estimates.
const ESTIMATES: u32 = 5;

const UNKNOWN: u64 = u64::MAX;

/// A histogram of the last samples, in two windows: when the newer one is full, the older is emptied and takes over.
///
/// A request that was dropped is no sample of what it had taken by then: those that are hedged and lose are just the slow
/// ones. It counts as longer than that, and the estimate is that of Kaplan and Meier ("Nonparametric Estimation from
/// Incomplete Observations", 1958). Lock-free: two atomic steps for a sample, a walk over the buckets now and then.
/// Samples that come in while the windows change over may be lost.
pub(super) struct Latencies {
    quantile: f64,
    /// Samples from one estimate to the next.
    step: u32,
    windows: [Window; 2],
    /// Which window is the newer.
    newer: AtomicUsize,
    /// In nanoseconds.
    estimate: AtomicU64,
}

struct Window {
    samples: AtomicU32,
    buckets: Box<[Bucket]>,
}

#[derive(Default)]
struct Bucket {
    answered: AtomicU32,
    longer: AtomicU32,
}

impl Latencies {
    /// For a quantile above 0 and below 1.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
    pub(super) fn new(quantile: f64) -> Self {
        Self {
            quantile,
            step: (TAIL / (1.0 - quantile)).round().max(SAMPLES) as u32,
            windows: std::array::from_fn(|_| Window::new()),
            newer: AtomicUsize::new(0),
            estimate: AtomicU64::new(UNKNOWN),
        }
    }

    /// The latency that the given share of requests is answered in. `None` while there are too few samples.
    pub(super) fn quantile(&self) -> Option<Duration> {
        let nanos = self.estimate.load(Relaxed);
        (nanos != UNKNOWN).then(|| Duration::from_nanos(nanos))
    }

    /// Learns from an answer that took so long.
    pub(super) fn answered(&self, latency: Duration) {
        self.count(latency, |bucket| &bucket.answered);
    }

    /// Learns from a request that was given up after so long.
    pub(super) fn longer_than(&self, elapsed: Duration) {
        self.count(elapsed, |bucket| &bucket.longer);
    }

    fn count(&self, latency: Duration, counter: fn(&Bucket) -> &AtomicU32) {
        let newer = self.newer.load(Relaxed);
        let window = &self.windows[newer];
        counter(&window.buckets[index(latency)]).fetch_add(1, Relaxed);
        let samples = window.samples.fetch_add(1, Relaxed) + 1;
        if !samples.is_multiple_of(self.step) {
            return;
        }
        self.estimate.store(self.estimate(), Relaxed);
        if samples == self.step * ESTIMATES {
            let older = 1 - newer;
            self.windows[older].clear();
            self.newer.store(older, Relaxed);
        }
    }

    /// Where the share of requests that take longer falls to 1 − quantile.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number of nanoseconds"
    )]
    fn estimate(&self) -> u64 {
        let sum = |index: usize, counter: fn(&Bucket) -> &AtomicU32| -> f64 {
            self.windows.iter().map(|window| f64::from(counter(&window.buckets[index]).load(Relaxed))).sum()
        };
        let counts = |index| (sum(index, |bucket| &bucket.answered), sum(index, |bucket| &bucket.longer));
        let mut left: f64 = (0..BUCKETS).map(|index| counts(index).0 + counts(index).1).sum();
        let wanted = 1.0 - self.quantile;
        let (mut surviving, mut longest) = (1.0, 0);
        for index in 0..BUCKETS {
            let (answered, longer) = counts(index);
            if answered + longer == 0.0 {
                continue;
            }
            longest = index;
            // Those given up within the bucket were there for half of it.
            let after = surviving * (1.0 - (answered / (left - longer / 2.0)).min(1.0));
            if after <= wanted {
                let (from, to) = bounds(index);
                let part = (surviving - wanted) / (surviving - after);
                return ((from + part.clamp(0.0, 1.0) * (to - from)) * 1000.0) as u64;
            }
            surviving = after;
            left -= answered + longer;
        }
        // Too many were given up: it is no less than that.
        (bounds(longest).1 * 1000.0) as u64
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latencies")
            .field("quantile", &self.quantile)
            .field("estimate", &self.quantile())
            .finish_non_exhaustive()
    }
}

impl Window {
    fn new() -> Self {
        Self { samples: AtomicU32::new(0), buckets: (0..BUCKETS).map(|_| Bucket::default()).collect() }
    }

    fn clear(&self) {
        for bucket in &self.buckets {
            bucket.answered.store(0, Relaxed);
            bucket.longer.store(0, Relaxed);
        }
        self.samples.store(0, Relaxed);
    }
}

/// The bucket that a latency falls into.
fn index(latency: Duration) -> usize {
    // What does not fit is beyond all buckets.
    let micros = usize::try_from(latency.as_micros()).unwrap_or(usize::MAX);
    if micros < PARTS {
        return micros;
    }
    // 32 up to 63 times a power of two.
    let power = (micros.ilog2() - PARTS.ilog2()) as usize;
    (power * PARTS + (micros >> power)).min(BUCKETS - 1)
}

/// The latencies of a bucket, in microseconds: from the first one up to, without, the second.
fn bounds(index: usize) -> (f64, f64) {
    if index < PARTS {
        return (index as f64, (index + 1) as f64);
    }
    let power = index / PARTS - 1;
    let first = index - power * PARTS;
    ((first << power) as f64, ((first + 1) << power) as f64)
}

#[cfg(test)]
mod tests;
