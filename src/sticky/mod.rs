//! Keeps each client with the node that knows it.
//!
//! For applications that hold something for a client in one process: a session, a warm cache, an upload in parts. There are
//! several ways, and the first needs no memory and no agreement beyond a shared key:
//!
//! | sticky by | with | a client moves when |
//! |---|---|---|
//! | a signed cookie | [`Pins::cookie`] with a [`StickyCookie`] | its node cannot serve it |
//! | the application's session cookie | [`Pins::learned`] with a [`SessionTable`] | another node begins its session |
//! | a header | [`ByHeader`](crate::balance::http::ByHeader) and [`ConsistentHash`](crate::balance::ConsistentHash) | nodes come, go or fail, and its key is among those that move |
//! | its address | [`ByClientAddr`](crate::balance::http::ByClientAddr) and [`IpHash`](crate::balance::IpHash) | likewise |
//!
//! The first two are a service, [`Sticky`], around a balancer that was made [`sticky`](crate::balance::Balance::sticky):
//!
//! ```
//! use buttress::{
//!     balance::{Balance, LeastResponseTime, Retry, http::RepeatHttp},
//!     cluster::{Cluster, Node},
//!     sticky::{CookieKeys, Pins, Sticky, StickyCookie},
//! };
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let secret = [7; 32];
//! let node = |name: &'static str| {
//!     let reply = move |_| async move { Ok::<_, std::io::Error>(Response::new(Full::<Bytes>::from(name))) };
//!     (Node::new(name), service_fn(reply))
//! };
//! let cluster = Cluster::new([node("a"), node("b"), node("c")])?;
//!
//! let cookie = StickyCookie::new("shop", CookieKeys::new([secret])?)?;
//! let pins = Pins::cookie(cookie, &cluster);
//! let balance = Balance::http(cluster, LeastResponseTime::new()).sticky();
//! let mut service = Sticky::new(Retry::new(balance, RepeatHttp::new()), pins.clone());
//!
//! let response = service.ready().await?.call(Request::new(Full::<Bytes>::default())).await?;
//! let set = response.headers()["set-cookie"].to_str()?;
//! assert!(set.starts_with("__Host-shop=") && set.ends_with("; Path=/; HttpOnly; Secure; SameSite=Lax"));
//! assert_eq!(response.headers()["cache-control"], "private");
//!
//! let value = set.split(';').next().unwrap();
//! let request = Request::builder().header("cookie", value).body(Full::<Bytes>::default())?;
//! let response = service.ready().await?.call(request).await?;
//! assert!(!response.headers().contains_key("set-cookie"), "it has one already");
//! assert_eq!(pins.stats().kept, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//! * A client keeps its node while that is active or draining, healthy and not full, whatever else comes and goes. Then it
//!   moves once, to the node that answers in its stead; or it waits, with [`strict`](Pins::strict) pins.
//! * A cookie that is forged, expired, from another pool, dated in the future or there twice steers nothing, and is no error:
//!   the request goes where the policy says. Only [`stats`](Pins::stats) tell.
//! * A cookie is set only when it changes: a new client, another node, or half of the idle time gone. That response is made
//!   `private`, and marked [`Personal`], so that no shared cache gives one client's pin to others. An answer that fails
//!   (5xx) moves nobody to its node; a 304 and an answer to HEAD set nothing, as caches put their fields
//!   into what they have stored.
//! * The nodes do not see the cookie, and clients never see an id or an address of a node.
//!
//! A client that keeps no cookies is a new client with each request, and its answers are all `private`. Where a shared cache
//! stands in front, let what it should keep (pictures, scripts) pass beside this service.
//!
//! Pins can be gathered: whoever asks often enough without a cookie gets one for each node, and may then send much to one.
//! [`max_in_flight`](crate::cluster::Node::max_in_flight) bounds what a node takes: more than that goes elsewhere.
//!
//! Only nodes that are told apart by their ids can be returned to: an id should outlive a restart.

mod base64;
mod build;
mod cookie;
mod header;
mod index;
mod keys;
mod pins;
mod private;
mod service;
mod table;

pub use self::{
    build::{CookieBuilder, CookieError},
    cookie::{NodeTag, Pin, Rejected, SameSite, StickyCookie},
    keys::{CookieKeys, KeyError},
    pins::{PinStats, Pins},
    private::Personal,
    service::{ResponseFuture, Sticky, StickyLayer},
    table::{Session, SessionKey, SessionTable},
};
