//! A shared HTTP cache (RFC 9111).

mod body;
mod builder;
mod field;
#[allow(dead_code, reason = "until the service stands")]
mod fill;
mod future;
mod handle;
#[allow(dead_code, reason = "until the service stands")]
mod key;
mod layer;
pub mod policy;
#[allow(dead_code, reason = "until the service stands")]
mod purge;
mod service;
#[allow(dead_code, reason = "until the service stands")]
mod stats;
#[allow(dead_code, reason = "until the service stands")]
mod store;

pub use self::{
    body::{Body, BodyError},
    builder::{CdnBuilder, Finish},
    fill::FillError,
    future::ResponseFuture,
    handle::Cdn,
    key::{CacheKey, Unkeyed},
    layer::CdnLayer,
    policy::Policy,
    purge::{InvalidPurge, Purge},
    service::CdnService,
    stats::Stats,
};
