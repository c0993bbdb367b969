//! How the nodes are: what their traffic says of them, and who is taken out of it.
//!
//! [`OutlierDetection`] watches the requests that a cluster's nodes get anyway, and ejects those that stand out for failing
//! or for being slow.

pub mod outlier;

pub use self::outlier::{Cause, Ejection, Ejections, OutlierDetection, OutlierError};
