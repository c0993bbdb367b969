//! How many retries there may be.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What one retry costs. A request pays in a whole number of these parts: enough of them for every ratio to be exact to within
/// one retry in a billion requests, and few enough for the largest burst to fit.
const PRICE: u64 = 1_000_000_000;

/// A share of retries that is never passed, however many requests fail.
///
/// Each request pays `ratio` of a retry in, each retry takes a whole one out, and at most `burst` (but room for two) are
/// saved up, as many as there are at the start. So of n requests at most ratio · n + burst are retried: a service that fails
/// altogether is not hit by several times its load.
///
/// Exact to a billionth and O(1): one atomic step for each request and each retry, after any idle time.
///
/// ```
/// use buttress::balance::Budget;
///
/// # fn main() -> Result<(), buttress::balance::InvalidRatio> {
/// let budget = Budget::new(0.2, 10)?;
/// assert_eq!((0..50).filter(|_| budget.withdraw()).count(), 10, "the burst");
/// (0..40).for_each(|_| budget.deposit());
/// assert_eq!((0..50).filter(|_| budget.withdraw()).count(), 8, "a fifth of 40");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Budget {
    deposit: u64,
    cap: u64,
    saved: AtomicU64,
}

/// A retry ratio that is not a number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("a retry ratio of {0} makes no sense: give one from 0 to 1")]
pub struct InvalidRatio(f64);

impl Budget {
    /// A budget of `ratio` retries for each request, rounded to a billionth, and `burst` on top.
    ///
    /// # Errors
    /// If `ratio` is not between 0 and 1.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the ratio is between 0 and 1"
    )]
    pub fn new(ratio: f64, burst: u32) -> Result<Self, InvalidRatio> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(InvalidRatio(ratio));
        }
        let full = u64::from(burst) * PRICE;
        // A deposit that completes one retry must have room for what it pays towards the next.
        let cap = full.max(2 * PRICE);
        Ok(Self { deposit: (ratio * PRICE as f64).round() as u64, cap, saved: AtomicU64::new(full) })
    }

    /// One retry for each request, and `burst` on top.
    #[cfg(feature = "tcp")]
    pub(crate) fn per_request(burst: u32) -> Self {
        let full = u64::from(burst) * PRICE;
        Self { deposit: PRICE, cap: full.max(2 * PRICE), saved: AtomicU64::new(full) }
    }

    /// Counts a request.
    pub fn deposit(&self) {
        let _ = self.saved.fetch_update(Relaxed, Relaxed, |saved| {
            (saved < self.cap).then(|| (saved + self.deposit).min(self.cap))
        });
    }

    /// Takes a retry out, if there is one.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.saved.fetch_update(Relaxed, Relaxed, |saved| saved.checked_sub(PRICE)).is_ok()
    }
}

/// One retry for every five requests, and 50 at once.
impl Default for Budget {
    fn default() -> Self {
        Self { deposit: PRICE / 5, cap: 50 * PRICE, saved: AtomicU64::new(50 * PRICE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ratio_is_granted_to_within_one_retry() -> Result<(), InvalidRatio> {
        for thousandths in 0..=1000_u32 {
            let budget = Budget::new(f64::from(thousandths) / 1000.0, 0)?;
            let mut granted = 0;
            for request in 1..=5000_u64 {
                budget.deposit();
                granted += u64::from(budget.withdraw());
                let due = request * u64::from(thousandths) / 1000;
                assert!(granted.abs_diff(due) <= 1, "{granted} of {due} at {thousandths}");
            }
        }
        Ok(())
    }

    #[test]
    fn ratios_between_thousandths_and_the_largest_burst_are_exact_too() -> Result<(), InvalidRatio> {
        for ratio in [1.0 / 3.0, 1.0 / 7.0, 0.033_3, 0.000_5, 1e-6] {
            let budget = Budget::new(ratio, 0)?;
            let requests = 2_000_000_u32;
            let granted: u32 = (0..requests)
                .map(|_| {
                    budget.deposit();
                    u32::from(budget.withdraw())
                })
                .sum();
            let due = ratio * f64::from(requests);
            assert!((f64::from(granted) - due).abs() <= 1.0, "{granted} of {due} at {ratio}");
        }
        let budget = Budget::new(1.0, u32::MAX)?;
        budget.deposit();
        assert!(budget.withdraw());
        Ok(())
    }

    #[test]
    fn no_thread_takes_out_what_another_has_taken() -> Result<(), InvalidRatio> {
        let (threads, requests) = (4, 25_000_u64);
        let budget = Budget::new(0.6, 0)?;
        let withdrawn = || {
            (0..requests).map(|_| {
                budget.deposit();
                u64::from(budget.withdraw())
            })
        };
        let granted: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| withdrawn().sum::<u64>())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(u64::MAX)).sum()
        });
        let due = threads * requests * 6 / 10;
        // What comes together may pass the cap, so a little may be lost. Nothing is won.
        assert!(granted <= due && granted >= due * 9 / 10, "{granted} of {due}");
        Ok(())
    }

    /// There is no clock in it: the longest pause costs nothing and gives nothing.
    #[test]
    fn no_more_than_the_burst_is_saved_however_many_succeed() -> Result<(), InvalidRatio> {
        let budget = Budget::new(1.0, 10)?;
        (0..1_000_000).for_each(|_| budget.deposit());
        assert_eq!((0..1000).filter(|_| budget.withdraw()).count(), 10);
        Ok(())
    }

    #[test]
    fn a_ratio_out_of_range_is_refused() {
        for ratio in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Budget::new(ratio, 10).is_err());
        }
    }
}
