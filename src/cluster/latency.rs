//! How long a node takes, and whether it fails: arithmetic over two words, given the time.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use super::common::nanos;

/// Stamps count units of 2²⁰ ns.
const PER_MS: f32 = 1e6 / (1 << 20) as f32;

/// How fast the estimate follows the samples. Values from 0.3 to 10 s do equally well in simulation.
const SMOOTHING: f32 = 1_000.0 * PER_MS;
/// After how long the estimate of an idle node begins to fade, so that one which was slow once is tried again; in stamps.
const REST: u32 = 256;
/// In how long it then fades, and what is left of it in the end.
const FADING: f32 = 7_000.0 * PER_MS;
const FADED: f32 = 1.0 / 64.0;

/// How long the first failure puts a node aside; each one after it in a row, four times as long.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive constant")]
const FIRST_SUSPENSION: u32 = (100.0 * PER_MS) as u32;
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive constant")]
const LONGEST_SUSPENSION: u32 = (30_000.0 * PER_MS) as u32;
/// How far ahead a stamp can be. What seems to be further ahead lies more than a month back.
const AHEAD: u32 = 2 * LONGEST_SUSPENSION;
/// What is assumed of a node, in seconds, that has never answered: while idle it is worth a try before all others, and
/// while that try is on its way it is the last choice, or one that hangs from the start would draw all traffic.
const UNTRIED: f32 = f32::MIN_POSITIVE;
const UNANSWERED: f32 = 1.0;

/// Units of 2²⁰ ns, about a millisecond, since the cluster was made; wraps after 52 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(u32);

impl Stamp {
    pub(crate) fn since(origin: Instant, now: Instant) -> Self {
        Self::of(nanos(now.saturating_duration_since(origin)))
    }

    #[allow(clippy::cast_possible_truncation, reason = "wraps by design: only differences are used")]
    pub(crate) const fn of(nanos: u64) -> Self {
        Self((nanos >> 20) as u32)
    }

    /// The time from `earlier` to here; 0 if that lies ahead, as the end of a suspension does, or what another thread read
    /// from the clock.
    #[inline]
    fn after(self, earlier: u32) -> u32 {
        let span = self.0.wrapping_sub(earlier);
        if span > u32::MAX - AHEAD { 0 } else { span }
    }
}

/// The latency estimate and failure record of one node.
///
/// The estimate is a time-weighted average: it follows its samples at the same pace, and settles on the same value,
/// whether there are two of them a second or two thousand. (One that jumps to each peak settles on a multiple of the
/// mean that grows with the request rate.) Failures give no sample: they suspend the node instead, so that failing
/// fast never looks like answering fast.
#[derive(Debug)]
pub(crate) struct Latency {
    /// Seconds as `f32` above, the stamp of the last sample below. All zero means unknown.
    estimate: AtomicU64,
    /// Failures in a row above, the stamp until which the node is suspended below. Zero while the last one succeeded.
    failing: AtomicU64,
}

impl Latency {
    pub(crate) fn new(prior: Option<f32>, now: Stamp) -> Self {
        let estimate = prior.map_or(0, |seconds| pack(seconds.to_bits(), now.0));
        Self { estimate: AtomicU64::new(estimate), failing: AtomicU64::new(0) }
    }

    /// The estimate as of the last sample, in seconds.
    pub(crate) fn estimate(&self) -> Option<f32> {
        let (bits, _) = unpack(self.estimate.load(Relaxed));
        (bits != 0).then(|| f32::from_bits(bits))
    }

    pub(crate) fn streak(&self) -> u32 {
        unpack(self.failing.load(Relaxed)).0
    }

    /// Whether failures put it aside. Once the time is up, it stays aside while one request tries it.
    pub(crate) fn is_suspended(&self, now: Stamp, in_flight: u32) -> bool {
        let (streak, until) = unpack(self.failing.load(Relaxed));
        // Not by the order of the two: half of all stamps on, the past would pass for the future.
        streak > 0 && (in_flight > 0 || until.wrapping_sub(now.0) <= LONGEST_SUSPENSION)
    }

    #[inline]
    pub(crate) fn succeeded(&self, seconds: f32, now: Stamp) {
        let _ = self.estimate.fetch_update(Relaxed, Relaxed, |word| {
            let (bits, stamp) = unpack(word);
            let next = if bits == 0 {
                seconds
            } else {
                let estimate = f32::from_bits(bits);
                // 1 - e^-x to within what matters here, and without the call.
                let x = now.after(stamp) as f32 / SMOOTHING;
                estimate + (seconds - estimate) * (x / (1.0 + x))
            };
            // Never exactly zero: that would mean unknown.
            Some(pack(next.max(f32::MIN_POSITIVE).to_bits(), now.0))
        });
    }

    /// Whether there was a sample in this unit of time: there are more of them than are needed.
    #[inline]
    pub(crate) fn is_sampled_at(&self, now: Stamp) -> bool {
        let (bits, stamp) = unpack(self.estimate.load(Relaxed));
        stamp == now.0 && bits != 0
    }

    /// A request was given up after `seconds`: its latency would have been more.
    pub(crate) fn at_least(&self, seconds: f32, now: Stamp) {
        if self.estimate().is_none_or(|estimate| seconds > estimate) {
            self.succeeded(seconds, now);
        }
    }

    pub(crate) fn clear_streak(&self) {
        self.failing.store(0, Relaxed);
    }

    pub(crate) fn failed(&self, now: Stamp) {
        let _ = self.failing.fetch_update(Relaxed, Relaxed, |word| {
            let streak = unpack(word).0.saturating_add(1);
            let factor = 4_u32.saturating_pow(streak - 1);
            let span = FIRST_SUSPENSION.saturating_mul(factor).min(LONGEST_SUSPENSION);
            Some(pack(streak, now.0.wrapping_add(span)))
        });
    }

    /// The expected seconds of a request to a node that is in use: what there is of the estimate, with no look at the
    /// time.
    #[inline]
    pub(crate) fn seconds(&self) -> f32 {
        f32::from_bits(unpack(self.estimate.load(Relaxed)).0)
    }

    /// The expected seconds of a request to a node that may be new, or long idle.
    #[inline]
    pub(crate) fn expected(&self, in_flight: u32, now: Stamp) -> f32 {
        let (bits, stamp) = unpack(self.estimate.load(Relaxed));
        match (bits, in_flight) {
            (0, 0) => UNTRIED,
            (0, _) => UNANSWERED,
            (_, 0) => {
                let rest = now.after(stamp).saturating_sub(REST) as f32;
                f32::from_bits(bits) * (1.0 - rest * (1.0 / FADING)).max(FADED)
            }
            _ => f32::from_bits(bits),
        }
    }
}

fn pack(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[allow(clippy::cast_possible_truncation, reason = "splits a word in halves")]
fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    fn at(millis: u64) -> Stamp {
        Stamp::of(millis * 1_000_000)
    }

    /// The mean estimate, over the true mean, of exponential latencies at `rate` samples a second.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive numbers")]
    fn bias(rate: f64) -> f64 {
        let mut rng = Rng::seeded(7);
        let mut exponential = move || -(1.0 - rng.unit()).ln();
        let latency = Latency::new(None, at(0));
        let (mut millis, mut sum) = (0.0, 0.0);
        let samples = 100_000;
        for _ in 0..samples {
            millis += exponential() * 1000.0 / rate;
            latency.succeeded((0.05 * exponential()) as f32, at(millis as u64));
            sum += f64::from(latency.estimate().unwrap());
        }
        sum / f64::from(samples) / 0.05
    }

    #[test]
    fn the_estimate_does_not_depend_on_the_request_rate() {
        for rate in [2.0, 20.0, 200.0, 2000.0] {
            let bias = bias(rate);
            assert!((0.9..1.1).contains(&bias), "{bias} times the mean at {rate} a second");
        }
    }

    #[test]
    fn failures_in_a_row_suspend_for_longer_each_time_until_a_success() {
        let latency = Latency::new(Some(0.01), at(0));
        let mut now = 1000;
        for expected in [100, 400, 1600, 6400, 25_600, 30_000, 30_000] {
            latency.failed(at(now));
            assert!(latency.is_suspended(at(now + expected * 9 / 10), 0));
            assert!(!latency.is_suspended(at(now + expected * 11 / 10), 0), "after {expected} ms");
            assert!(latency.is_suspended(at(now + expected * 11 / 10), 1), "one request tries it at a time");
            now += 60_000;
        }
        latency.clear_streak();
        assert!(!latency.is_suspended(at(now), 5));
        latency.failed(at(now));
        assert_eq!(latency.streak(), 1);
    }

    #[test]
    fn a_node_that_is_left_alone_for_long_is_not_suspended_anew() {
        let latency = Latency::new(Some(0.01), at(0));
        latency.failed(at(1000));
        for days in [1, 24, 25, 30, 50] {
            let now = at(days * 86_400_000);
            assert!(!latency.is_suspended(now, 0), "after {days} days");
        }
    }

    #[test]
    fn an_idle_node_fades_but_never_to_nothing() {
        let latency = Latency::new(Some(1.0), at(0));
        assert!((latency.expected(0, at(200)) - 1.0).abs() < 1e-6);
        assert!((latency.expected(0, at(3_768)) - 0.5).abs() < 0.01);
        assert!(latency.expected(0, at(1_000_000)) > 0.0);
        assert!((latency.expected(1, at(10_000)) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_node_that_never_answered_is_tried_once_at_a_time() {
        let (new, slow) = (Latency::new(None, at(0)), Latency::new(Some(0.5), at(0)));
        assert!(new.expected(0, at(1)) < slow.expected(0, at(1)));
        assert!(new.expected(1, at(1)) > slow.expected(0, at(1)));
    }

    #[test]
    fn after_days_without_a_request_a_failure_is_long_over_and_an_estimate_is_old() {
        let day = 86_400_000;
        // The stamps wrap after 52 days.
        for days in [1, 26, 27, 30, 45, 52] {
            let latency = Latency::new(Some(1.0), at(1000));
            latency.failed(at(1000));
            let now = at(1000 + days * day);
            assert!(!latency.is_suspended(now, 0), "after {days} days");
            assert!(latency.expected(0, now) < 0.1, "after {days} days");
            latency.succeeded(0.01, now);
            assert!((latency.estimate().unwrap() - 0.01).abs() < 1e-4, "after {days} days");
        }
    }

    #[test]
    fn time_that_goes_backwards_changes_nothing() {
        let latency = Latency::new(Some(0.01), at(5000));
        latency.succeeded(1.0, at(4000));
        let estimate = latency.estimate().unwrap();
        assert!((estimate - 0.01).abs() < 1e-6, "{estimate}");
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Success(f32),
        Failure,
        GivenUp(f32),
    }

    fn event() -> impl Strategy<Value = Event> {
        let seconds = prop_oneof![Just(0.0_f32), 1e-9..1e-3_f32, 0.0..100.0_f32, Just(f32::MAX)];
        prop_oneof![
            3 => seconds.clone().prop_map(Event::Success),
            1 => Just(Event::Failure),
            1 => seconds.prop_map(Event::GivenUp),
        ]
    }

    proptest! {
        #[test]
        fn an_estimate_is_a_positive_number_whatever_happens_and_however_often_it_is_read(
            events in prop::collection::vec((event(), any::<u64>()), 1..50), in_flight: u32,
        ) {
            let (latency, untouched) = (Latency::new(None, at(0)), Latency::new(None, at(0)));
            for (event, nanos) in events {
                let now = Stamp::of(nanos);
                for latency in [&latency, &untouched] {
                    match event {
                        Event::Success(seconds) => latency.succeeded(seconds, now),
                        Event::Failure => latency.failed(now),
                        Event::GivenUp(seconds) => latency.at_least(seconds, now),
                    }
                }
                for reads in 0..3 {
                    let expected = latency.expected(in_flight, Stamp::of(nanos.wrapping_mul(reads)));
                    prop_assert!(expected.is_finite() && expected > 0.0, "{}", expected);
                    let _ = latency.is_suspended(now, in_flight);
                }
                prop_assert_eq!(latency.estimate(), untouched.estimate());
                prop_assert_eq!(latency.streak(), untouched.streak());
            }
        }
    }
}
