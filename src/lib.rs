//! Scaling building blocks for [`tower`] services.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod balance;
pub mod cluster;
pub mod discover;
#[cfg(feature = "http")]
pub mod forward;
pub mod placement;
pub mod rng;
pub mod time;
