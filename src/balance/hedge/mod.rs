//! When a second node is asked beside the first.

mod latencies;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use self::latencies::Latencies;

/// When a request that has no answer yet is sent to a second node too: for [`Retry::hedge`](super::Retry::hedge).
///
/// The first answer that is no failure wins, and the other request is cancelled. This cuts the slow tail of the answers for
/// a few per cent more requests: hedged at the 95th percentile, 5 % of them are sent twice. See Dean and Barroso, "The Tail
/// at Scale", Communications of the ACM, 2013.
///
/// Clones share what they have learned. Waiting is exact to a millisecond: nodes that answer faster need no hedging.
///
/// ```
/// use std::time::Duration;
/// use buttress::balance::Hedge;
///
/// # fn main() -> Result<(), buttress::balance::InvalidQuantile> {
/// let learned = Hedge::quantile(0.95)?;
/// assert_eq!(learned.delay(), None, "it has seen no latencies yet");
/// let fixed = Hedge::after(Duration::from_millis(50));
/// assert_eq!(fixed.delay(), Some(Duration::from_millis(50)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Hedge(Delay);

#[derive(Clone, Debug)]
enum Delay {
    Fixed(Duration),
    Learned(Arc<Latencies>),
}

/// A quantile that is not a number above 0 and up to 0.9999.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("hedging at the quantile {0} makes no sense: give one between 0 and 0.9999, such as 0.95")]
pub struct InvalidQuantile(f64);

impl Hedge {
    /// After this delay.
    #[must_use]
    pub const fn after(delay: Duration) -> Self {
        Self(Delay::Fixed(delay))
    }

    /// After a delay that the given share of requests is answered in, so that the rest is hedged: 5 % at 0.95.
    ///
    /// It is learned from the last 50 / (1 − quantile) requests (1000 at 0.95; 500 at least) up to twice as many. The first
    /// fifth of that is not hedged.
    ///
    /// Counts how long first tries take. One that is cancelled or fails is known to have taken longer than that, which the
    /// estimate honours: it takes 12 KiB.
    ///
    /// # Errors
    /// If `quantile` is not above 0 and at most 0.9999.
    pub fn quantile(quantile: f64) -> Result<Self, InvalidQuantile> {
        if !(quantile > 0.0 && quantile <= 0.9999) {
            return Err(InvalidQuantile(quantile));
        }
        Ok(Self(Delay::Learned(Arc::new(Latencies::new(quantile)))))
    }

    /// How long a request waits for its first node alone at the moment. `None` while that is not known.
    pub fn delay(&self) -> Option<Duration> {
        match &self.0 {
            Delay::Fixed(delay) => Some(*delay),
            Delay::Learned(latencies) => latencies.quantile(),
        }
    }

    /// Begins to measure a first try.
    pub(super) fn lap(&self) -> Option<Lap> {
        match &self.0 {
            Delay::Fixed(_) => None,
            Delay::Learned(latencies) => {
                Some(Lap { latencies: Arc::clone(latencies), start: Instant::now(), answered: false })
            }
        }
    }
}

/// A first try, being measured. Dropped unanswered, it would have taken longer.
#[derive(Debug)]
pub(super) struct Lap {
    latencies: Arc<Latencies>,
    start: Instant,
    answered: bool,
}

impl Lap {
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Lap {
    fn drop(&mut self) {
        let elapsed = self.start.elapsed();
        if self.answered {
            self.latencies.answered(elapsed);
        } else {
            self.latencies.longer_than(elapsed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_that_is_none_is_refused() {
        for quantile in [0.0, -0.5, 1.0, 95.0, f64::NAN, f64::INFINITY] {
            assert!(Hedge::quantile(quantile).is_err(), "{quantile}");
        }
        assert!(Hedge::quantile(1e-9).is_ok() && Hedge::quantile(0.9999).is_ok());
    }
}
