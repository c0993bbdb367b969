//! What counts as an outlier, and for how long it is out.

use std::{sync::Arc, time::Duration};

use super::{Ejections, core::Detector, watch::Watch};
use crate::{
    cluster::{Cluster, nanos},
    rng::Rng,
};

/// Ejects nodes that stand out in the traffic: that fail in a row, more often than is bearable or than the others, or
/// that are far slower.
///
/// Where a check asks a node how it is, this looks at what becomes of real requests, so it finds within a few of them
/// what no check asks for. It wants [verdicts](crate::cluster::Verdict): answers have to be judged. Connections that fail,
/// break or time out are counted apart from answers that are failures, as they say more; a
/// [throttled](crate::cluster::FailureKind::Throttled) request counts as neither.
///
/// An ejected node gets no traffic for [`base_ejection`](Self::base_ejection), twice as long for each time in a row, up to
/// [`max_ejection`](Self::max_ejection). After that it is half-open: exactly one request tries it, whatever the policy
/// would choose. If that succeeds the node is back; if it fails or gives no answer in time, the node is out for
/// longer. A request that is given up says nothing, and the next one tries. Requests that were sent before an ejection
/// change nothing about it. All balancers over the cluster follow at once.
///
/// At most [`max_share`](Self::max_share) of the nodes are out, those that are down included, and the last one that takes
/// traffic is never ejected. While so few nodes are healthy that balancers ignore health (see
/// [`Levels::panic`](crate::balance::Levels::panic)), they ignore ejections too, and nothing that fails there ejects anybody.
///
/// There is no task and no timer in it: time is looked at by whoever has a request in hand. A request that succeeds costs
/// nothing more than without it. The rules are Envoy's outlier detection, with a growth that is exponential, a cap that
/// holds, and a half-open state; [`nginx`](Self::nginx) gives those of nginx.
///
/// ```
/// use std::time::Duration;
/// use buttress::{balance::{Balance, RoundRobin}, cluster::{Cluster, Node}, health::OutlierDetection};
/// use tower::{Service, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = |name: &'static str, works: bool| {
///     let reply = move |_: ()| async move { works.then_some(name).ok_or(std::io::Error::other("out of order")) };
///     (Node::new(name), service_fn(reply))
/// };
/// let cluster = Cluster::new([node("a", true), node("b", false), node("c", true)])?;
/// let ejections = OutlierDetection::new()
///     .consecutive_failures(3)
///     .base_ejection(Duration::from_secs(10))
///     .watch(&cluster)?;
///
/// let mut service = Balance::new(cluster, RoundRobin);
/// for _ in 0..30 {
///     let _ = service.ready().await?.call(()).await;
/// }
/// let ejected = ejections.list();
/// assert_eq!(ejected[0].node.as_str(), "b");
/// println!("{}", ejected[0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "nothing is watched until `watch` is called"]
pub struct OutlierDetection {
    pub(super) consecutive_failures: Option<u32>,
    pub(super) consecutive_gateway_failures: Option<u32>,
    pub(super) consecutive_local_failures: Option<u32>,
    pub(super) max_failures: Option<u32>,
    pub(super) failure_ratio: Option<f64>,
    pub(super) success_rate: Option<f64>,
    pub(super) latency: Option<f64>,
    pub(super) min_volume: u64,
    pub(super) min_nodes: usize,
    pub(super) interval: Duration,
    pub(super) base_ejection: Duration,
    pub(super) max_ejection: Duration,
    pub(super) jitter: u32,
    pub(super) max_share: u32,
    pub(super) at_least_one: bool,
    pub(super) probe_timeout: Duration,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_failures: Some(5),
            consecutive_gateway_failures: None,
            consecutive_local_failures: Some(5),
            max_failures: None,
            failure_ratio: None,
            success_rate: Some(1.9),
            latency: None,
            min_volume: 100,
            min_nodes: 5,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(5),
            max_ejection: Duration::from_secs(300),
            jitter: 10,
            max_share: 50,
            at_least_one: true,
            probe_timeout: Duration::from_secs(10),
        }
    }
}

impl OutlierDetection {
    /// The defaults: five failures in a row, or a success rate far below that of the others.
    pub fn new() -> Self {
        Self::default()
    }

    /// No rule at all, to choose from one by one.
    pub fn none() -> Self {
        Self {
            consecutive_failures: None,
            consecutive_local_failures: None,
            success_rate: None,
            ..Self::default()
        }
    }

    /// The rules of nginx's `max_fails` and `fail_timeout`: a node that fails so many requests within `fail_timeout` is out
    /// for as long; then one request tries it. The time does not grow, and any number of nodes may be out, but for the
    /// last one.
    ///
    /// nginx's own defaults are 1 and 10 s. A failure is whatever is [judged](crate::cluster::Verdict) one.
    pub fn nginx(max_fails: u32, fail_timeout: Duration) -> Self {
        Self {
            max_failures: Some(max_fails),
            interval: fail_timeout,
            base_ejection: fail_timeout,
            max_ejection: fail_timeout,
            jitter: 0,
            max_share: 100,
            ..Self::none()
        }
    }

    /// Ejects a node that answers so many requests in a row with a failure (default: 5; `None` turns the rule off).
    ///
    /// Only a success begins the row anew.
    pub fn consecutive_failures(mut self, limit: impl Into<Option<u32>>) -> Self {
        self.consecutive_failures = limit.into();
        self
    }

    /// Ejects a node that answers so many requests in a row as
    /// [gateway](crate::cluster::FailureKind::Gateway) or [overloaded](crate::cluster::FailureKind::Overloaded) (default:
    /// off). For a limit lower than that of [`consecutive_failures`](Self::consecutive_failures), which counts them too.
    pub fn consecutive_gateway_failures(mut self, limit: impl Into<Option<u32>>) -> Self {
        self.consecutive_gateway_failures = limit.into();
        self
    }

    /// Ejects a node that so many requests in a row get no answer from, because no connection is made or it breaks, or in
    /// time (default: 5).
    ///
    /// An answer begins the row anew, even if it is a failure.
    pub fn consecutive_local_failures(mut self, limit: impl Into<Option<u32>>) -> Self {
        self.consecutive_local_failures = limit.into();
        self
    }

    /// Ejects a node that fails so many requests of any kind within one [`interval`](Self::interval), which begins with
    /// the first of them (default: off).
    pub fn max_failures(mut self, limit: impl Into<Option<u32>>) -> Self {
        self.max_failures = limit.into();
        self
    }

    /// Ejects a node that fails this part of its requests, above 0 and up to 1, within one [`interval`](Self::interval)
    /// that begins with a failure (default: off). Judged from [`min_volume`](Self::min_volume) requests on.
    pub fn failure_ratio(mut self, ratio: impl Into<Option<f64>>) -> Self {
        self.failure_ratio = ratio.into();
        self
    }

    /// Ejects a node whose success rate over one [`interval`](Self::interval) is so many standard deviations below the
    /// mean of all nodes, and at least 2 % of all requests (default: 1.9). Nodes with fewer than
    /// [`min_volume`](Self::min_volume) requests are left out.
    pub fn success_rate(mut self, deviations: impl Into<Option<f64>>) -> Self {
        self.success_rate = deviations.into();
        self
    }

    /// Ejects a node that takes more than `factor` times as long as the median of the others, and 10 ms longer, at the
    /// end of two [intervals](Self::interval) in a row (default: off).
    ///
    /// Balancers then measure latency with every policy.
    pub fn latency(mut self, factor: impl Into<Option<f64>>) -> Self {
        self.latency = factor.into();
        self
    }

    /// Sets with how many requests in an interval a node's ratio or rate means something (default: 100).
    pub fn min_volume(mut self, requests: u64) -> Self {
        self.min_volume = requests;
        self
    }

    /// Sets with how many nodes that can be compared one of them can stand out (default: 5, at least 2).
    pub fn min_nodes(mut self, nodes: usize) -> Self {
        self.min_nodes = nodes.max(2);
        self
    }

    /// Sets what failures are counted over, how often nodes are compared, and for how long one has to stay in for each
    /// doubling of its ejection to be undone (default: 10 s).
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets for how long the first ejection lasts (default: 5 s). Each one after it doubles that.
    pub fn base_ejection(mut self, span: Duration) -> Self {
        self.base_ejection = span;
        self
    }

    /// Sets for how long an ejection lasts at most, jitter apart (default: 5 min).
    pub fn max_ejection(mut self, span: Duration) -> Self {
        self.max_ejection = span;
        self
    }

    /// Sets by how many per cent an ejection is prolonged at most, at random, so that the clients of a node do not try it
    /// all at once (default: 10, at most 100).
    pub fn jitter(mut self, percent: u32) -> Self {
        self.jitter = percent.min(100);
        self
    }

    /// Sets how many per cent of the nodes that are active, have a weight and do not drain may be ejected at once
    /// (default: 50).
    ///
    /// Those that checks find down count as well: ejections make way for them, so that they do not add up to a panic. When
    /// there are so many and another one fails, it takes the place of one that has been out for a while.
    pub fn max_share(mut self, percent: u32) -> Self {
        self.max_share = percent.min(100);
        self
    }

    /// Lets one node be ejected, or be down, even where [`max_share`](Self::max_share) comes to less than one (default:
    /// true).
    pub fn at_least_one(mut self, allow: bool) -> Self {
        self.at_least_one = allow;
        self
    }

    /// Sets after what time without an answer a request that tries a node has failed (default: 10 s).
    pub fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.probe_timeout = timeout;
        self
    }

    /// Watches the traffic of a cluster from here on, for as long as the cluster lives: the handle may be dropped.
    ///
    /// # Errors
    /// If the cluster is watched already, or a setting makes no sense.
    pub fn watch<S>(self, cluster: &Cluster<S>) -> Result<Ejections, OutlierError> {
        self.check()?;
        let common = cluster.common();
        let detector = Detector::new(self, Rng::from_thread(), common.nanos_now());
        let watch = Watch::new(detector, common);
        if !cluster.observe(Arc::clone(&watch) as _) {
            return Err(OutlierError::AlreadyWatched);
        }
        Ok(Ejections::new(watch))
    }

    fn check(&self) -> Result<(), OutlierError> {
        let counts = [
            (self.consecutive_failures, "consecutive_failures"),
            (self.consecutive_gateway_failures, "consecutive_gateway_failures"),
            (self.consecutive_local_failures, "consecutive_local_failures"),
            (self.max_failures, "max_failures"),
        ];
        if let Some((_, setting)) = counts.iter().find(|(count, _)| *count == Some(0)) {
            return Err(OutlierError::Setting(setting, "must be at least 1 (`None` turns it off)"));
        }
        let is_positive = |value: f64| value.is_finite() && value > 0.0;
        if self.failure_ratio.is_some_and(|ratio| !is_positive(ratio) || ratio > 1.0) {
            return Err(OutlierError::Setting("failure_ratio", "must be above 0 and at most 1"));
        }
        if self.success_rate.is_some_and(|deviations| !is_positive(deviations)) {
            return Err(OutlierError::Setting("success_rate", "must be above 0"));
        }
        if self.latency.is_some_and(|factor| !is_positive(factor) || factor <= 1.0) {
            return Err(OutlierError::Setting("latency", "must be above 1"));
        }
        let spans = [
            (self.interval, "interval"),
            (self.base_ejection, "base_ejection"),
            (self.probe_timeout, "probe_timeout"),
        ];
        if let Some((_, setting)) = spans.iter().find(|(span, _)| nanos(*span) == 0) {
            return Err(OutlierError::Setting(setting, "must be longer than nothing"));
        }
        if self.max_ejection < self.base_ejection {
            return Err(OutlierError::Setting("max_ejection", "must be at least `base_ejection`"));
        }
        let rates = [self.failure_ratio, self.success_rate, self.latency];
        if counts.iter().all(|(count, _)| count.is_none()) && rates.iter().all(Option::is_none) {
            return Err(OutlierError::NoRule);
        }
        Ok(())
    }
}

/// Why a cluster cannot be watched so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutlierError {
    /// Another detection watches this cluster.
    #[error("the cluster is watched already: keep the handle that the first `watch` gave")]
    AlreadyWatched,
    /// Every rule is off.
    #[error("no rule is on: set at least one, such as `consecutive_failures(5)`")]
    NoRule,
    /// A setting makes no sense: its name, and what it has to be.
    #[error("{0} {1}")]
    Setting(&'static str, &'static str),
}
