//! A shared HTTP cache in the sense of RFC 9111, as a layer: in front of an axum router, a hyper service, or a client to an origin.
//!
//! ```
//! use axum::{Router, routing::get};
//! use buttress::cdn::{Cdn, Purge};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cdn = Cdn::new(256 << 20);
//! let news = || async { ([("cache-control", "max-age=60"), ("cache-tag", "news")], "nothing new") };
//! let app: Router = Router::new().route("/news", get(news)).layer(cdn.layer());
//! # use tower::ServiceExt;
//! # let ask = || axum::http::Request::get("http://example.com/news").body(axum::body::Body::empty());
//! # let status = |response: axum::response::Response| response.headers()["cache-status"].to_str().unwrap().to_owned();
//! # assert_eq!(status(app.clone().oneshot(ask()?).await?), "buttress; fwd=uri-miss; fwd-status=200; stored");
//! # assert_eq!(status(app.clone().oneshot(ask()?).await?), "buttress; hit; ttl=60");
//!
//! // When there is news:
//! cdn.purge(&Purge::tag("news")?);
//! # assert_eq!(status(app.oneshot(ask()?).await?), "buttress; fwd=uri-miss; fwd-status=200; stored");
//! # Ok(())
//! # }
//! ```
//!
//! Nothing is stored that its origin does not allow: without `Cache-Control`, `Expires` or a validator the layer only watches. The
//! rules and what may be decided about them are in [`policy`]; what a response is found by is a [`CacheKey`]; everything else is
//! set with a [`CdnBuilder`]. `Cache-Status` (RFC 9211) on each answer tells what was done and why.
//!
//! # What it does
//!
//! **One fetch for all who ask.** Requests that miss while another of the same URL is on its way wait for its head, and then
//! read the same body as it comes, each at its own pace: a slow client holds nobody up, and one that leaves aborts nobody. The
//! answer goes to those whom it may serve by the rules; the others go to the origin at once, all together, and for a while
//! nobody waits for the answers of such a URL any more (hit-for-miss). The same holds for validations.
//!
//! **What is stored is whole.** A body that breaks off, or is not as long as it says, is stored by nobody, and its readers see the
//! error. What is fetched goes on when the last reader leaves, if [`Finish`] says so. Bodies that are too large pass through.
//!
//! **Stale beats nothing.** Where the origin or the operator allows it, a stale response is served while one fetch in the background
//! renews it, and in place of an origin that fails, be it with a status or an error of the service.
//!
//! **Parts are worth something.** Ranges and conditions are answered from what is stored. Partial responses are kept, combined if they
//! share a strong validator, and completed by asking for what is missing.
//!
//! **A purge is final.** By URL, prefix, tag, or of everything, hard or soft; in the same time whatever the number of stored responses. What was asked
//! for before a purge is not stored after it, and no request that comes after it gets it.
//!
//! # What goes around it
//!
//! The layer calls the inner service for whatever it cannot answer, so the other blocks fit behind it: a
//! [`Balance`](crate::balance::Balance) over several origins, retries and hedges, [`Limit`](crate::overload::Limit) for each of them. A
//! second cache as the origin of many is an origin shield. Requests need a body that is `Default`, as what is asked in the background
//! has none; what runs in the background runs on tokio.
//!
//! # What it costs
//!
//! A hit takes no lock but for the read of one table, clones no service and boxes no future; the body is shared. Its memory is bounded: what
//! is stored by its weight, what is on its way by [`max_in_flight`](CdnBuilder::max_in_flight) and
//! [`max_fetches`](CdnBuilder::max_fetches), and so are keys, variants, heads, marks and purges.

mod alone;
mod answer;
mod body;
mod builder;
mod complete;
mod fetch;
mod field;
mod fill;
mod future;
mod handle;
mod key;
mod layer;
mod lead;
mod look;
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
