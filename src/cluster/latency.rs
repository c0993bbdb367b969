//! How long a node takes, and whether it fails: arithmetic over two words, given the time.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

/// How fast the estimate follows samples above it.
const RISE_MS: f32 = 300.0;
/// How fast the estimate follows samples below it.
const FALL_MS: f32 = 3_000.0;
/// How fast the estimate of an idle node fades, so that one that was slow once is tried again.
const FADE_MS: f32 = 10_000.0;

/// How long the first failure puts a node aside; each one after it in a row, four times as long.
const FIRST_SUSPENSION_MS: u32 = 100;
const LONGEST_SUSPENSION_MS: u32 = 30_000;
/// What a suspended node costs more than its latency, in seconds: only worse nodes make it worth a try.
const SUSPENDED_COST: f32 = 5.0;

/// Milliseconds since the cluster was made, wrapping after 49 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(u32);

impl Stamp {
    #[allow(clippy::cast_possible_truncation, reason = "wraps by design: only differences are used")]
    pub(crate) fn since(origin: Instant, now: Instant) -> Self {
        Self(now.saturating_duration_since(origin).as_millis() as u32)
    }

    /// Milliseconds from `earlier` to here; 0 if that lies ahead, as it may where two threads read the clock.
    #[inline]
    fn millis_after(self, earlier: u32) -> u32 {
        let span = self.0.wrapping_sub(earlier);
        if span > u32::MAX / 2 { 0 } else { span }
    }
}

/// The latency estimate and failure record of one node.
///
/// A time-weighted average with two speeds: it climbs fast and comes down slowly, so that it leans to the slow side as
/// a peak detector does, but settles on the same value whatever the request rate.
#[derive(Debug)]
pub(crate) struct Latency {
    /// Seconds as `f32` above, the stamp of the last sample below. All zero means unknown.
    estimate: AtomicU64,
    /// Failures in a row above, the stamp until which the node is suspended below. Zero while the last one succeeded.
    failing: AtomicU64,
}

impl Latency {
    pub(crate) fn new(prior: Option<f32>) -> Self {
        let estimate = prior.map_or(0, |seconds| pack(seconds.to_bits(), 0));
        Self { estimate: AtomicU64::new(estimate), failing: AtomicU64::new(0) }
    }

    /// The estimate at the last sample, in seconds.
    pub(crate) fn last(&self) -> Option<f32> {
        let (bits, _) = unpack(self.estimate.load(Relaxed));
        (bits != 0).then(|| f32::from_bits(bits))
    }

    pub(crate) fn estimate(&self, _now: Stamp) -> Option<f32> {
        self.last()
    }

    pub(crate) fn streak(&self) -> u32 {
        unpack(self.failing.load(Relaxed)).0
    }

    /// Whether failures put it aside. Once the time is up, it stays aside while one request tries it.
    pub(crate) fn is_suspended(&self, now: Stamp, in_flight: u32) -> bool {
        let (streak, until) = unpack(self.failing.load(Relaxed));
        streak > 0 && (in_flight > 0 || now.millis_after(until) == 0)
    }

    pub(crate) fn succeeded(&self, seconds: f32, now: Stamp) {
        self.update(now, |estimate, elapsed| {
            let Some(estimate) = estimate else { return seconds };
            let constant = if seconds > estimate { RISE_MS } else { FALL_MS };
            // 1 - e^-x, within 5 % and without the call.
            let x = elapsed / constant;
            estimate + (seconds - estimate) * (x / (1.0 + x))
        });
    }

    /// A request was given up after `seconds`: its latency would have been more.
    pub(crate) fn at_least(&self, seconds: f32, now: Stamp) {
        if self.last().is_none_or(|estimate| seconds > estimate) {
            self.succeeded(seconds, now);
        }
    }

    pub(crate) fn clear_streak(&self) {
        if self.failing.load(Relaxed) != 0 {
            self.failing.store(0, Relaxed);
        }
    }

    pub(crate) fn failed(&self, now: Stamp) {
        let _ = self.failing.fetch_update(Relaxed, Relaxed, |word| {
            let streak = unpack(word).0.saturating_add(1);
            let factor = 4_u32.saturating_pow(streak - 1);
            let span = FIRST_SUSPENSION_MS.saturating_mul(factor).min(LONGEST_SUSPENSION_MS);
            Some(pack(streak, now.0.wrapping_add(span)))
        });
    }

    fn update(&self, now: Stamp, next: impl Fn(Option<f32>, f32) -> f32) {
        let _ = self.estimate.fetch_update(Relaxed, Relaxed, |word| {
            let (bits, stamp) = unpack(word);
            let known = (bits != 0).then(|| f32::from_bits(bits));
            let elapsed = now.millis_after(stamp) as f32;
            // Never exactly zero: that would mean unknown.
            Some(pack(next(known, elapsed).max(f32::MIN_POSITIVE).to_bits(), now.0))
        });
    }
}

/// What one more request to a node costs: its expected seconds, times the requests that it would then have.
#[inline]
pub(crate) fn cost(latency: &Latency, in_flight: u32, now: Stamp, unknown: f32) -> f32 {
    let (bits, stamp) = unpack(latency.estimate.load(Relaxed));
    let mut seconds = if bits == 0 { unknown } else { f32::from_bits(bits) };
    if in_flight == 0 {
        seconds *= FADE_MS / (FADE_MS + now.millis_after(stamp) as f32);
    }
    if latency.failing.load(Relaxed) != 0 && latency.is_suspended(now, in_flight) {
        seconds += SUSPENDED_COST;
    }
    seconds * (in_flight + 1) as f32
}

fn pack(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[allow(clippy::cast_possible_truncation, reason = "splits a word in halves")]
fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}
