//! A limit that follows the ratio of unloaded to current latency.

use std::time::{Duration, Instant};

use super::{Bounds, InvalidSetting, LimitAlgorithm, Outcome, Sample, whole};

const TOLERANCE: f64 = 1.5;

/// How much of each step is taken. (Netflix)
const SMOOTHING: f64 = 0.2;

/// The limit is never cut by more than half in one step, whatever an outlier says. (Netflix)
const LEAST_GRADIENT: f64 = 0.5;

/// A window is no shorter than this (Envoy), nor than the latency that it measures, up to the longest.
const WINDOW: Duration = Duration::from_millis(100);
const LONGEST_WINDOW: Duration = Duration::from_secs(10);
/// Nor does it have fewer samples, so that the mean of scattered latencies is good to a fifth.
const WINDOW_SAMPLES: u32 = 30;

/// By how many windows those in which latency is too high must outnumber the others before it is looked into whether the
/// load is to blame.
const STRAIN: u32 = 15;
/// The share of the limit that is taken away to find out, in as many steps of one window: those who wait shall notice
/// little of it.
const DRAIN: f64 = 0.5;
const DRAIN_STEPS: u32 = 5;
/// What latency has to keep of itself in a drain for the load not to be to blame. (It keeps half, where all of it is due
/// to the load, and all, where none of it is.)
const FLAT: f64 = 0.7;

/// How much one window counts in the unloaded latency: with little load or a lower latency than known, and at the end of
/// a drain.
const PASSING_WEIGHT: f64 = 0.05;
const DRAIN_WEIGHT: f64 = 0.7;

/// Finds the limit by itself: grows while latency stays near what it is without load, and shrinks as it rises.
///
/// The default choice when nobody knows the right limit. Latencies are averaged over windows of at least 100 ms and 30
/// samples. After each, with `gradient = tolerance * unloaded / current`, kept between 0.5 and 1, the limit moves a fifth
/// of the way to `limit * gradient + sqrt(limit)`: the root is the queue that it allows. A window in which less than half
/// of the limit was used changes nothing, as it says nothing about the limit.
///
/// The unloaded latency is measured in passing: when there is little to do, or when latency falls. Only if latency stays
/// too high for some fifteen windows is the limit brought down to half, step by step, to see whether latency falls with
/// it (then there are too many requests) or not (then the service has become slower, and its new latency is the measure).
/// In a healthy service this hardly ever happens, nor are requests turned away for a measurement: those that wait do so a
/// little longer.
///
/// O(1) for each sample.
///
/// Source: Netflix's concurrency-limits, `Gradient2Limit`. Its long-term mean follows the latency of an overload that
/// lasts, and the limit with it up to the maximum; the drain is what ours does instead.
#[derive(Clone, Debug)]
pub struct Gradient {
    bounds: Bounds,
    tolerance: f64,
    limit: f64,
    /// The mean latency without load, in seconds, once known.
    unloaded: Option<f64>,
    /// The mean latency of late.
    current: Option<f64>,
    window: Option<Window>,
    /// The length of the window.
    span: Duration,
    strain: u32,
    /// How far the drain has come that finds out whether the load is to blame.
    drain: u32,
}

/// What there is to know of the last moments.
#[derive(Clone, Debug)]
struct Window {
    start: Instant,
    samples: u32,
    seconds: f64,
    refused: u32,
    most_in_flight: usize,
}

impl Window {
    fn new(start: Instant) -> Self {
        Self { start, samples: 0, seconds: 0.0, refused: 0, most_in_flight: 0 }
    }

    fn mean(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.seconds / f64::from(self.samples))
    }

    fn refused_share(&self) -> f64 {
        f64::from(self.refused) / (f64::from(self.samples) + f64::from(self.refused)).max(1.0)
    }
}

impl Gradient {
    /// A limit within `bounds`.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            tolerance: TOLERANCE,
            limit: bounds.start(),
            unloaded: None,
            current: None,
            window: None,
            span: WINDOW,
            strain: 0,
            drain: 0,
        }
    }

    /// Sets how many times the unloaded latency is still good. 1.5 by default; less keeps queues in the service shorter,
    /// more suits latencies that vary by themselves.
    ///
    /// # Errors
    /// If `factor` is not between 1 and 1.9. (From 2 on, a drain to half of the limit would no longer tell anything.)
    pub fn tolerance(self, factor: f64) -> Result<Self, InvalidSetting> {
        if !(1.0..=1.9).contains(&factor) {
            return Err(InvalidSetting::Tolerance(factor));
        }
        Ok(Self { tolerance: factor, ..self })
    }

    /// Learns from a window that has ended.
    fn end(&mut self, window: &Window) {
        match self.drain {
            0 => self.step(window),
            DRAIN_STEPS => {
                (self.drain, self.strain) = (0, 0);
                let is_flat = window.mean() > self.current.map(|current| FLAT * current);
                if is_flat || window.mean() < self.unloaded {
                    self.measure(window, DRAIN_WEIGHT);
                }
            }
            _ => self.drain += 1,
        }
    }

    /// Moves the limit by what a window has shown.
    fn step(&mut self, window: &Window) {
        let is_used = window.most_in_flight.saturating_mul(2) >= whole(self.limit);
        let is_quick = window.mean() < self.unloaded;
        let unloaded = self.measure(window, if is_quick || !is_used { PASSING_WEIGHT } else { 0.0 });
        let mut gradient = match (unloaded, window.mean()) {
            // No latency at all is good.
            (Some(unloaded), Some(mean)) if mean > 0.0 => (self.tolerance * unloaded / mean).min(1.0),
            _ => 1.0,
        };
        if let Some(mean) = window.mean() {
            let current = self.current.get_or_insert(mean);
            *current += SMOOTHING * (mean - *current);
        }
        let is_strained = is_used && gradient < 1.0;
        self.strain = if is_strained { self.strain + 1 } else { self.strain.saturating_sub(1) };
        if self.strain >= STRAIN {
            self.drain = 1;
        }
        gradient = gradient.min(1.0 - window.refused_share()).max(LEAST_GRADIENT);
        let allowance = if is_used { self.limit.sqrt() } else { 0.0 };
        if is_used || window.refused > 0 {
            let target = self.limit * gradient + allowance;
            self.limit = self.bounds.clamp(self.limit + SMOOTHING * (target - self.limit));
        }
    }

    /// Lets the mean of a window count in the unloaded latency.
    fn measure(&mut self, window: &Window, weight: f64) -> Option<f64> {
        if let Some(mean) = window.mean() {
            let unloaded = self.unloaded.get_or_insert(mean);
            *unloaded += weight * (mean - *unloaded);
        }
        self.unloaded
    }
}

impl Default for Gradient {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl LimitAlgorithm for Gradient {
    fn limit(&self) -> usize {
        let left = 1.0 - DRAIN * f64::from(self.drain) / f64::from(DRAIN_STEPS);
        whole(self.bounds.clamp(self.limit * left))
    }

    fn observe(&mut self, sample: Sample, now: Instant) {
        let window = self.window.get_or_insert_with(|| Window::new(now));
        let seconds = sample.latency.as_secs_f64();
        match sample.outcome {
            // Whoever gave up early says nothing. One who waited long says that it takes at least as long.
            Outcome::Cancelled if self.unloaded.is_none_or(|unloaded| seconds < unloaded) => return,
            Outcome::Overloaded => window.refused = window.refused.saturating_add(1),
            Outcome::Success | Outcome::Cancelled => {
                window.samples = window.samples.saturating_add(1);
                window.seconds += seconds;
            }
        }
        window.most_in_flight = window.most_in_flight.max(sample.in_flight);
        let is_over = now.saturating_duration_since(window.start) >= self.span
            && window.samples.saturating_add(window.refused) >= WINDOW_SAMPLES;
        if !is_over {
            return;
        }
        if let Some(window) = self.window.replace(Window::new(now)) {
            let span = window.mean().map_or(Ok(WINDOW), Duration::try_from_secs_f64);
            self.span = span.unwrap_or(LONGEST_WINDOW).clamp(WINDOW, LONGEST_WINDOW);
            self.end(&window);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rng::Rng,
        time::{Clock, ManualClock},
    };

    /// Runs a service at its limit: the latency follows from how many are in flight. Returns the last limits.
    fn run(
        gradient: &mut Gradient,
        clock: &ManualClock,
        millis: u64,
        latency: impl Fn(usize) -> f64,
    ) -> Vec<usize> {
        let mut limits = Vec::new();
        for _ in 0..millis {
            clock.advance(Duration::from_millis(1));
            let in_flight = gradient.limit();
            let latency = Duration::from_secs_f64(latency(in_flight));
            gradient.observe(Sample { latency, in_flight, outcome: Outcome::Success }, clock.now());
            limits.push(gradient.limit());
        }
        limits
    }

    fn saturating(workers: usize, seconds: f64) -> impl Fn(usize) -> f64 {
        move |in_flight| seconds * (in_flight as f64 / workers as f64).max(1.0)
    }

    #[test]
    fn the_limit_settles_where_workers_are_busy_and_the_queue_is_short() {
        for workers in [10, 20, 100, 400] {
            let (mut gradient, clock) = (Gradient::default(), ManualClock::new());
            run(&mut gradient, &clock, 60_000, saturating(workers, 0.05));
            // Ten minutes of overload do not carry it away.
            let limits = run(&mut gradient, &clock, 600_000, saturating(workers, 0.05));
            let (least, most) = (limits.iter().min().unwrap(), limits.iter().max().unwrap());
            assert!(
                *least * 10 >= workers * 7 && *most <= workers * 5 / 2,
                "{least} to {most} for {workers}"
            );
        }
    }

    #[test]
    fn a_service_that_becomes_slower_for_good_keeps_its_limit() {
        let (mut gradient, clock) = (Gradient::default(), ManualClock::new());
        run(&mut gradient, &clock, 30_000, saturating(20, 0.05));
        run(&mut gradient, &clock, 10_000, saturating(20, 0.5));
        let limits = run(&mut gradient, &clock, 10_000, saturating(20, 0.5));
        assert!(limits.iter().sum::<usize>() / limits.len() >= 20, "{:?}", limits.last());
    }

    #[test]
    fn a_healthy_service_is_never_drained() {
        let (mut gradient, clock) = (Gradient::default(), ManualClock::new());
        run(&mut gradient, &clock, 10_000, |_| 0.05);
        let limits = run(&mut gradient, &clock, 60_000, |_| 0.05);
        assert!(limits.is_sorted());
        assert_eq!(gradient.limit(), 1000);
    }

    #[test]
    fn refusals_cut_the_limit_and_idle_windows_leave_it() {
        let (mut gradient, clock) = (Gradient::default(), ManualClock::new());
        let observe = |gradient: &mut Gradient, outcome| {
            for _ in 0..1000 {
                clock.advance(Duration::from_millis(1));
                let latency = Duration::from_millis(50);
                gradient.observe(Sample { latency, in_flight: 3, outcome }, clock.now());
            }
        };
        observe(&mut gradient, Outcome::Success);
        assert_eq!(gradient.limit(), 20);
        observe(&mut gradient, Outcome::Cancelled);
        assert_eq!(gradient.limit(), 20);
        observe(&mut gradient, Outcome::Overloaded);
        assert!(gradient.limit() < 10, "{}", gradient.limit());
    }

    #[test]
    fn no_sample_drives_the_limit_out_of_its_bounds() {
        let clock = ManualClock::new();
        for seed in 0..50 {
            let mut rng = Rng::seeded(seed);
            let mut gradient = Gradient::new(Bounds::new(3, 300).unwrap());
            for _ in 0..5_000 {
                let latency = match rng.below(5) {
                    0 => Duration::ZERO,
                    1 => Duration::MAX,
                    _ => Duration::from_nanos(rng.next_u64() >> rng.below(64)),
                };
                let outcome = [Outcome::Success, Outcome::Overloaded, Outcome::Cancelled][rng.below(3)];
                let in_flight = [0, 1, 20, usize::MAX][rng.below(4)];
                clock.advance(Duration::from_millis(rng.below(50) as u64));
                gradient.observe(Sample { latency, in_flight, outcome }, clock.now());
                assert!(gradient.limit.is_finite() && (3..=300).contains(&gradient.limit()));
                assert!(gradient.unloaded.is_none_or(|unloaded| unloaded.is_finite() && unloaded >= 0.0));
            }
        }
    }

    #[test]
    fn a_tolerance_out_of_range_is_refused() {
        for factor in [0.0, 0.9, 2.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Gradient::default().tolerance(factor).is_err(), "{factor}");
        }
    }
}
