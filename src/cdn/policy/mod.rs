//! What a shared cache may store, reuse, and must validate: RFC 9111 as plain functions of requests,
//! responses and time.
//!
//! The rules do no I/O and read no clock, so they serve any store and any transport. [`Policy::store`] says
//! whether a response may be stored, and reads everything that later decisions need into a [`Stored`];
//! [`Policy::reuse`] says whether it may answer a request.
//!
//! ```
//! use std::time::Duration;
//! use buttress::{
//!     cdn::policy::{Moment, Policy, Reuse},
//!     time::{Clock, ManualClock},
//! };
//! use http::{Request, Response};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = ManualClock::new();
//! let (request, ()) = Request::get("https://example.com/").body(())?.into_parts();
//! let response = Response::builder().header("cache-control", "max-age=60, stale-while-revalidate=30");
//! let (response, ()) = response.body(())?.into_parts();
//!
//! let policy = Policy::new();
//! let now = Moment::now(&clock);
//! let stored = policy.store(&request, &response, now, now)?;
//!
//! clock.advance(Duration::from_secs(10));
//! assert_eq!(policy.reuse(&stored, &request, Moment::now(&clock)), Reuse::Fresh { age: 10 });
//! clock.advance(Duration::from_secs(60));
//! assert_eq!(policy.reuse(&stored, &request, Moment::now(&clock)), Reuse::Stale { age: 70, revalidate: true });
//! # Ok(())
//! # }
//! ```

mod cache_status;
mod combine;
mod condition;
mod extension;
mod forward;
mod freshness;
mod invalidate;
mod moment;
mod range;
#[cfg(feature = "serde")]
mod record;
mod reuse;
mod selectors;
mod settings;
mod status;
mod storable;
mod stored;
mod terms;
mod update;

#[cfg(test)]
mod tests;

#[cfg(feature = "serde")]
pub use self::record::Record;
pub use self::{
    cache_status::CacheStatus,
    condition::Precondition,
    forward::Forward,
    moment::Moment,
    range::{Part, RangeAnswer},
    reuse::{Failure, Reuse, Why},
    settings::{Policy, SetCookie},
    storable::Unstorable,
    stored::Stored,
    update::{HeadUpdate, Keep, Refreshed},
};
