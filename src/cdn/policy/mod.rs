//! What a shared cache may store, reuse, and must validate: RFC 9111 as plain functions of requests, responses and time.

mod cache_status;
mod combine;
mod condition;
mod forward;
mod invalidate;
mod moment;
mod range;
#[cfg(feature = "serde")]
mod record;
mod reuse;
mod storable;
mod stored;
mod update;

use std::time::Duration;

use http::HeaderName;

#[cfg(feature = "serde")]
pub use self::record::Record;
pub use self::{
    cache_status::CacheStatus,
    condition::Precondition,
    forward::Forward,
    moment::Moment,
    range::{Part, RangeAnswer},
    reuse::{Failure, Reuse, Why},
    storable::Unstorable,
    stored::Stored,
    update::HeadUpdate,
};

/// The rules of a shared cache, as RFC 9111 has them, and what an operator may decide about them.
#[derive(Clone, Debug)]
#[must_use]
pub struct Policy {
    targets: Vec<HeaderName>,
    heuristic_limit: Duration,
}

impl Policy {
    /// RFC 9111 to the letter, and nothing beyond it.
    pub fn new() -> Self {
        Self {
            targets: vec![HeaderName::from_static("cdn-cache-control")],
            heuristic_limit: Duration::from_secs(86400),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}
