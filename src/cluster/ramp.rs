//! Slow start: how much a node is trusted with after its return.

use std::time::Duration;

use super::common::nanos;

/// Lets a node that returns, or joins while others serve, take up its share little by little: caches are cold, pools are
/// empty, code is not compiled yet.
///
/// At the age `t` it is chosen as often as it would be with `max(min_share, (t / window)^(1 / aggression))` of its weight,
/// whatever the policy. What it would have got beyond that goes to nodes that have warmed up. Of requests with keys, those
/// come home first whose keys have the lowest hashes, and none leaves again. Requests without are enough to keep
/// it from starving: each brings it `min_share` of its share past the policy, which might otherwise wait for ever for
/// a latency that it likes.
///
/// Nodes return when checks find them up again, or draining no longer, and when their ejection is over. Within the first `window` of a cluster's
/// life nobody is slowed down, as then all are new. The curve is Envoy's.
///
/// ```
/// use std::time::Duration;
/// use buttress::cluster::{Cluster, Node, SlowStart};
///
/// # fn main() -> Result<(), buttress::cluster::ClusterError> {
/// let slow_start = SlowStart::new(Duration::from_secs(30));
/// let cluster = Cluster::builder().slow_start(slow_start).build([(Node::new("a"), "service a")])?;
/// # let _ = cluster;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    window: Duration,
    aggression: f64,
    min_share: f64,
}

impl SlowStart {
    /// Takes this long until a node has its full share, in a straight line from a tenth of it on.
    pub const fn new(window: Duration) -> Self {
        Self { window, aggression: 1.0, min_share: 0.1 }
    }

    /// Bends the line (default: 1): above 1 most of the share comes early, below 1 late.
    #[must_use]
    pub const fn aggression(mut self, aggression: f64) -> Self {
        self.aggression = aggression;
        self
    }

    /// Sets the part of its share that a node gets from the beginning, above 0 and up to 1 (default: 0.1).
    #[must_use]
    pub const fn min_share(mut self, share: f64) -> Self {
        self.min_share = share;
        self
    }

    /// What is wrong with it, if anything.
    pub(super) fn fault(&self) -> Option<&'static str> {
        if self.window.is_zero() {
            return Some("the window must be longer than nothing");
        }
        if !self.aggression.is_finite() || self.aggression <= 0.0 {
            return Some("aggression must be above 0");
        }
        if !(self.min_share > 0.0 && self.min_share <= 1.0) {
            return Some("min_share must be above 0 and at most 1");
        }
        None
    }

    pub(super) fn window_nanos(&self) -> u64 {
        nanos(self.window)
    }

    /// Where a node stands that returned so long ago; `None` once it has warmed up.
    pub(super) fn ramp_at(&self, age_nanos: u64) -> Option<Ramp> {
        let window = self.window_nanos();
        (age_nanos < window).then(|| {
            let grown = (age_nanos as f64 / window as f64).powf(1.0 / self.aggression);
            Ramp { share: grown.max(self.min_share), floor: self.min_share }
        })
    }
}

/// Where a node stands that has not warmed up yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ramp {
    /// The part of its share that it is trusted with.
    pub(crate) share: f64,
    /// The part of that which it gets in any case.
    pub(crate) floor: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(slow_start: SlowStart, millis: u64) -> Option<f64> {
        slow_start.ramp_at(millis * 1_000_000).map(|ramp| ramp.share)
    }

    #[test]
    #[allow(clippy::float_cmp, reason = "exact in binary")]
    fn the_share_grows_from_the_least_to_all() {
        let line = SlowStart::new(Duration::from_secs(10));
        let shares = [0, 500, 2500, 5000, 10_000, u64::MAX / 1_000_000].map(|millis| share(line, millis));
        assert_eq!(shares, [Some(0.1), Some(0.1), Some(0.25), Some(0.5), None, None]);
        assert_eq!(share(line.aggression(2.0), 2500), Some(0.5));
        assert_eq!(share(line.aggression(0.5), 5000), Some(0.25));
        assert_eq!(share(line.min_share(1.0), 1), Some(1.0));
    }

    #[test]
    fn nonsense_is_named() {
        let good = SlowStart::new(Duration::from_secs(1));
        assert_eq!(good.fault(), None);
        for bad in [
            SlowStart::new(Duration::ZERO),
            good.aggression(0.0),
            good.aggression(f64::NAN),
            good.aggression(f64::INFINITY),
            good.min_share(0.0),
            good.min_share(1.1),
            good.min_share(f64::NAN),
        ] {
            assert!(bad.fault().is_some(), "{bad:?}");
        }
    }
}
