//! What every service of the crate promises to tower, and the cluster to its readers.

#![cfg(feature = "proxy")]

mod auto_traits;
mod dropped;
mod readiness;
mod stress;
