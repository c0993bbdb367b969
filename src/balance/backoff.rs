//! How long to wait before a retry.

use std::time::Duration;

use crate::{cluster::nanos, rng::Rng};

/// Waits that grow with each retry, with full jitter: uniform from nothing to min(cap, base · 2ⁿ) before retry n, counted
/// from 0.
///
/// Requests that failed together would come back together. Full jitter spreads them over the whole time, which takes the
/// fewest calls until all are done; see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. Delays are exact to
/// a nanosecond.
///
/// ```
/// use std::time::Duration;
/// use buttress::{balance::Backoff, rng::Rng};
///
/// # fn main() -> Result<(), buttress::balance::InvalidBackoff> {
/// let backoff = Backoff::new(Duration::from_millis(25), Duration::from_secs(1))?;
/// let mut rng = Rng::from_thread();
/// assert!(backoff.delay(0, &mut rng) <= Duration::from_millis(25));
/// assert!(backoff.delay(3, &mut rng) <= Duration::from_millis(200));
/// assert!(backoff.delay(u32::MAX, &mut rng) <= Duration::from_secs(1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

/// Why a [`Backoff`] makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBackoff {
    /// The base is zero: no wait would ever grow out of it.
    #[error("a backoff cannot grow from nothing: give a base above zero, or no backoff")]
    ZeroBase,
    /// The cap is below the base.
    #[error("a backoff from {base:?} cannot end at {cap:?}: give a cap that is no less than the base")]
    CapBelowBase {
        /// The base.
        base: Duration,
        /// The cap.
        cap: Duration,
    },
}

impl Backoff {
    /// Waits of up to `base` at first, twice that each time, and never more than `cap`.
    ///
    /// # Errors
    /// If `base` is zero, or more than `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Result<Self, InvalidBackoff> {
        if base.is_zero() {
            return Err(InvalidBackoff::ZeroBase);
        }
        if cap.as_nanos() < base.as_nanos() {
            return Err(InvalidBackoff::CapBelowBase { base, cap });
        }
        Ok(Self { base, cap })
    }

    /// How long to wait before the retry with this number; the first has 0.
    #[must_use]
    pub fn delay(&self, retry: u32, rng: &mut Rng) -> Duration {
        let grown = 1_u32.checked_shl(retry).and_then(|factor| self.base.checked_mul(factor));
        let ceiling = nanos(grown.unwrap_or(self.cap).min(self.cap));
        // The high half of a product of 64 bits by at most 64.
        let drawn = (u128::from(rng.next_u64()) * (u128::from(ceiling) + 1)) >> 64;
        Duration::from_nanos(u64::try_from(drawn).unwrap_or(ceiling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// The largest distance between the distribution of `draws` and a uniform one up to `ceiling`.
    fn kolmogorov_smirnov(mut draws: Vec<f64>, ceiling: f64) -> f64 {
        draws.sort_by(f64::total_cmp);
        let n = draws.len() as f64;
        let distance = |(rank, draw): (usize, &f64)| {
            let (expected, rank) = (draw / ceiling, rank as f64);
            (expected - rank / n).abs().max((expected - (rank + 1.0) / n).abs())
        };
        draws.iter().enumerate().map(distance).fold(0.0, f64::max)
    }

    #[test]
    fn sessions_differ_and_are_uniform_at_any_base() {
        for base in ["1us", "999us", "100ms", "1s", "2s", "4s", "1h"].into_iter().zip([
            Duration::from_micros(1),
            Duration::from_micros(999),
            Duration::from_millis(100),
            Duration::from_secs(1),
            Duration::from_secs(2),
            Duration::from_secs(4),
            HOUR,
        ]) {
            let (name, base) = base;
            let backoff = Backoff::new(base, HOUR * 10).unwrap();
            for retry in [0, 1, 3] {
                let mut seeds = Rng::seeded(42);
                // Each session has dice of its own.
                let draws: Vec<_> = (0..1000)
                    .map(|_| backoff.delay(retry, &mut Rng::seeded(seeds.next_u64())).as_nanos() as f64)
                    .collect();
                let ceiling = (base * (1 << retry)).as_nanos() as f64;
                let mut distinct = draws.clone();
                distinct.sort_by(f64::total_cmp);
                distinct.dedup();
                // There are only so many nanoseconds in a microsecond.
                let expected = if base < Duration::from_millis(1) { 600 } else { 990 };
                assert!(distinct.len() >= expected, "{} of 1000 differ at {name}", distinct.len());
                // 1.95 / √n: one in a thousand uniform samples is farther off.
                let distance = kolmogorov_smirnov(draws, ceiling);
                assert!(distance < 1.95 / 1000_f64.sqrt(), "{distance} at {name}, retry {retry}");
            }
        }
    }

    #[test]
    fn the_cap_holds_however_often_and_however_long() {
        let mut rng = Rng::seeded(1);
        for cap in [Duration::from_nanos(1), Duration::from_secs(5), Duration::MAX] {
            let backoff = Backoff::new(Duration::from_nanos(1), cap).unwrap();
            for retry in [0, 1, 31, 32, 33, 63, 64, 1000, u32::MAX] {
                assert!(backoff.delay(retry, &mut rng) <= cap);
            }
        }
        let longest = Backoff::new(Duration::MAX, Duration::MAX).unwrap();
        assert!(longest.delay(u32::MAX, &mut rng) <= Duration::MAX);
    }

    #[test]
    fn nonsense_is_refused() {
        let second = Duration::from_secs(1);
        assert_eq!(Backoff::new(Duration::ZERO, second), Err(InvalidBackoff::ZeroBase));
        let error = Backoff::new(second, second / 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a backoff from 1s cannot end at 500ms: give a cap that is no less than the base"
        );
    }
}
