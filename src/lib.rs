//! Scaling building blocks for [`tower`] services.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod balance;
pub mod cache;
pub mod cluster;
#[cfg(feature = "http")]
pub mod forward;
pub mod placement;
pub mod rng;
pub mod time;
