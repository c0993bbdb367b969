//! Scaling building blocks for [`tower`] services.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "http")]
pub mod forward;
