//! What may be set for each cluster.

use std::time::Duration;

use buttress::balance::{Levels, Queue};
use serde::Deserialize;

use super::{
    Config,
    health::{Health, Outlier, Warmup},
    overload::Overload,
    policy::Policy,
    retries::Retries,
    sticky::Sticky,
    value::span,
};

/// The tables of one cluster, each in place of the one that holds for all.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Overrides {
    pub(super) policy: Option<Policy>,
    retries: Option<Retries>,
    queue: Option<QueueLimits>,
    levels: Option<LevelShares>,
    health: Option<Health>,
    outlier: Option<Outlier>,
    slow_start: Option<Warmup>,
    pub(super) sticky: Option<Sticky>,
    pub(super) overload: Option<Overload>,
}

/// What holds for one cluster.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) retries: &'a Retries,
    queue: Option<&'a QueueLimits>,
    levels: &'a LevelShares,
    pub(crate) health: Option<&'a Health>,
    pub(crate) outlier: &'a Outlier,
    pub(crate) slow_start: &'a Warmup,
    pub(crate) sticky: Option<&'a Sticky>,
    pub(crate) overload: Option<&'a Overload>,
}

impl Config {
    /// What holds for the cluster of this name.
    pub(crate) fn settings(&self, cluster: &str) -> Settings<'_> {
        let own = self.cluster.iter().find(|(name, _)| name.get_ref() == cluster).map(|(_, own)| own);
        let health = own.and_then(|own| own.health.as_ref()).or(self.health.as_ref());
        let sticky = own.and_then(|own| own.sticky.as_ref()).or(self.sticky.as_ref());
        let overload = own.and_then(|own| own.overload.as_ref()).or(self.overload.as_ref());
        Settings {
            policy: own.and_then(|own| own.policy.as_ref()).unwrap_or(&self.policy),
            retries: own.and_then(|own| own.retries.as_ref()).unwrap_or(&self.retries),
            queue: own.and_then(|own| own.queue.as_ref()).or(self.queue.as_ref()),
            levels: own.and_then(|own| own.levels.as_ref()).unwrap_or(&self.levels),
            health: health.filter(|health| health.is_enabled()),
            outlier: own.and_then(|own| own.outlier.as_ref()).unwrap_or(&self.outlier),
            slow_start: own.and_then(|own| own.slow_start.as_ref()).unwrap_or(&self.slow_start),
            sticky: sticky.filter(|sticky| sticky.is_enabled()),
            overload: overload.filter(|overload| overload.is_enabled()),
        }
    }
}

impl Settings<'_> {
    pub(crate) fn queue(&self) -> Option<Queue> {
        self.queue.filter(|queue| queue.enabled).map(|queue| Queue::new(queue.limit, queue.patience))
    }

    pub(crate) fn levels(&self) -> Levels {
        let LevelShares { zone, overprovisioning, panic } = self.levels;
        let levels = Levels::default().overprovisioning(*overprovisioning).panic(*panic);
        match zone {
            Some(zone) => levels.zone(zone.as_str()),
            None => levels,
        }
    }
}

/// Where requests wait while every node is full.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct QueueLimits {
    enabled: bool,
    limit: usize,
    #[serde(deserialize_with = "span")]
    patience: Duration,
}

/// How priorities and zones divide the traffic: see [`Levels`].
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LevelShares {
    zone: Option<String>,
    overprovisioning: u32,
    panic: u32,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { enabled: true, limit: 1000, patience: Duration::from_secs(1) }
    }
}

impl Default for LevelShares {
    fn default() -> Self {
        Self { zone: None, overprovisioning: 140, panic: 50 }
    }
}
