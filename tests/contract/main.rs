//! What every service of the crate promises to tower, and the cluster to its readers.

#![cfg(all(feature = "proxy", feature = "signed"))]

mod auto_traits;
mod dropped;
mod panics;
mod readiness;
mod stress;
