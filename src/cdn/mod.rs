//! A shared HTTP cache (RFC 9111).

mod answer;
mod body;
mod builder;
mod fetch;
mod field;
mod fill;
mod future;
mod handle;
mod key;
mod layer;
mod lead;
mod miss;
mod pass;
pub mod policy;
mod purge;
mod service;
mod stats;
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
    purge::{InvalidPurge, InvalidToken, Purge, PurgeFuture, PurgeService},
    service::CdnService,
    stats::Stats,
};

#[cfg(feature = "redis")]
pub use self::purge::{PurgeRelay, RelayError};

#[cfg(feature = "disk")]
pub use self::store::DiskStore;
