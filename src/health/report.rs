//! What a monitor tells.

use std::{fmt, time::Duration};

use super::CheckResult;
use crate::cluster::{Health, NodeId};

/// How one node is, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeReport {
    /// Its name.
    pub id: NodeId,
    /// What it is taken for.
    pub health: Health,
    /// How long it has been that.
    pub lasting: Duration,
    /// What came of its last check, if there was one.
    pub last: Option<CheckResult>,
    /// How many checks in a row went well, or did not, as the last one.
    pub streak: u32,
    /// How many checks there were.
    pub checks: u64,
}

/// As in `web-1: down for 12s (3 failed in a row: connection refused)`.
impl fmt::Display for NodeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, health, lasting, last, streak, .. } = self;
        // Nanoseconds would only be noise.
        let lasting = Duration::from_millis(u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX));
        write!(f, "{id}: {health} for {lasting:?}")?;
        match last {
            None => f.write_str(" (not checked yet)"),
            Some(Ok(_)) => Ok(()),
            Some(Err(reason)) => write!(f, " ({streak} failed in a row: {reason})"),
        }
    }
}

/// A change in the health of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthChange {
    /// The node.
    pub id: NodeId,
    /// What it was taken for.
    pub from: Health,
    /// What it is taken for now.
    pub to: Health,
    /// The answer that made the difference.
    pub result: CheckResult,
}

/// As in `web-1: up -> down (connection refused)`.
impl fmt::Display for HealthChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, from, to, result } = self;
        write!(f, "{id}: {from} -> {to}")?;
        match result {
            Ok(_) => Ok(()),
            Err(reason) => write!(f, " ({reason})"),
        }
    }
}
