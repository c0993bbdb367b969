//! Ejection of nodes that stand out in the traffic.

mod core;
mod settings;
mod sweep;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

pub use self::settings::{OutlierDetection, OutlierError};
use self::watch::Watch;
use crate::cluster::NodeId;

/// Why a node was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// It answered too many requests in a row with a failure.
    ConsecutiveFailures,
    /// It answered too many in a row with a failure of what it depends on, or that it is overloaded.
    ConsecutiveGatewayFailures,
    /// Too many in a row got no answer.
    ConsecutiveLocalFailures,
    /// It failed too many within an interval.
    MaxFailures,
    /// It failed too large a part of an interval's requests.
    FailureRatio,
    /// It succeeded less often than the others.
    SuccessRate,
    /// It took longer than the others.
    Latency,
}

impl Cause {
    /// Each of them.
    pub const ALL: [Self; 7] = [
        Self::ConsecutiveFailures,
        Self::ConsecutiveGatewayFailures,
        Self::ConsecutiveLocalFailures,
        Self::MaxFailures,
        Self::FailureRatio,
        Self::SuccessRate,
        Self::Latency,
    ];
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConsecutiveFailures => "failures in a row",
            Self::ConsecutiveGatewayFailures => "gateway failures in a row",
            Self::ConsecutiveLocalFailures => "requests in a row without an answer",
            Self::MaxFailures => "too many failures",
            Self::FailureRatio => "too many failures for its requests",
            Self::SuccessRate => "more failures than others",
            Self::Latency => "slower than others",
        })
    }
}

/// A node that is out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ejection {
    /// Which one.
    pub node: NodeId,
    /// Why.
    pub cause: Cause,
    /// Since when it has been out. Requests that tried it in vain change nothing about that.
    pub since: Instant,
    /// From when on it may be tried.
    pub until: Instant,
    /// How long that is from now; zero while it is half-open.
    pub left: Duration,
}

/// `web-1: failures in a row, out for 4s more`
impl fmt::Display for Ejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, cause, left, .. } = self;
        if left.is_zero() {
            return write!(f, "{node}: {cause}, to be tried");
        }
        // Whole milliseconds: nobody reads more.
        let left = Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        write!(f, "{node}: {cause}, out for {left:?} more")
    }
}

/// Who is ejected from a cluster. Clones look at the same one.
#[derive(Clone, Debug)]
pub struct Ejections {
    watch: Arc<Watch>,
}

impl Ejections {
    fn new(watch: Arc<Watch>) -> Self {
        Self { watch }
    }

    /// The nodes of the cluster that are out, in the order of their ids.
    pub fn list(&self) -> Vec<Ejection> {
        let mut list = self.watch.list();
        list.sort_by(|a, b| a.node.cmp(&b.node));
        list
    }

    /// How many ejections there have been for this cause, those of nodes that were tried in vain included.
    pub fn total(&self, cause: Cause) -> u64 {
        self.watch.total(cause)
    }

    /// Lets a node of the cluster back in, whatever is held against it. False if it is not out.
    pub fn release(&self, node: impl Into<NodeId>) -> bool {
        self.watch.release(&node.into())
    }
}
