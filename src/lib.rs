//! Scaling building blocks for [`tower`] services.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod placement;
