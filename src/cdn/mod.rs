//! A shared HTTP cache (RFC 9111).

mod field;
#[allow(dead_code, reason = "until the service stands")]
mod key;
pub mod policy;
#[allow(dead_code, reason = "until the service stands")]
mod purge;
#[allow(dead_code, reason = "until the service stands")]
mod stats;
#[allow(dead_code, reason = "until the service stands")]
mod store;

pub use self::{
    key::{CacheKey, Unkeyed},
    purge::{InvalidPurge, Purge},
    stats::Stats,
};
