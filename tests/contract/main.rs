//! What every service of the crate promises to tower, and the cluster to its readers.

#![cfg(all(feature = "proxy", feature = "signed"))]

mod auto_traits;
mod dropped;
mod readiness;
mod stress;
