//! Passing requests and connections on: who the client is, which headers travel, and bodies that can be sent again.
//!
//! With the feature `http` come the pure parts of a reverse proxy, each usable alone: `client_addr` decides the
//! client's address, `ForwardHeaders` tells it to the next server, `HopByHop` takes out what must not travel, and
//! `Replay` lets a retry send a request body a second time.
//!
//! With the feature `proxy` they come together: `Proxy` is the reverse proxy as a service, `Upstream` reaches one
//! server behind it, and `PeerAddr` and `UpgradeLease` are what servers and balancers around it put into requests and
//! answers.
//!
//! With the feature `tcp`, `tcp` passes whole connections on, whatever they carry, and `proxy_protocol` says and hears
//! whose they are.

mod cidr;
#[cfg(feature = "http")]
mod client_addr;
#[cfg(feature = "http")]
mod forwarded;
#[cfg(feature = "http")]
mod headers;
#[cfg(feature = "http")]
mod hop;
#[cfg(feature = "proxy")]
mod interim;
#[cfg(feature = "http")]
mod lease;
#[cfg(feature = "proxy")]
mod proxy;
#[cfg(feature = "tcp")]
pub mod proxy_protocol;
#[cfg(feature = "http")]
mod replay;
#[cfg(feature = "tcp")]
pub mod tcp;
#[cfg(feature = "proxy")]
mod upgrade;
#[cfg(feature = "proxy")]
mod upstream;

pub use cidr::{Cidr, CidrError, TrustedProxies};
#[cfg(feature = "http")]
pub use client_addr::{AddrSource, ClientAddr, client_addr};
#[cfg(feature = "http")]
pub use forwarded::{Node, NodeError};
#[cfg(feature = "http")]
pub use headers::ForwardHeaders;
#[cfg(feature = "http")]
pub(crate) use headers::without_user;
#[cfg(any(feature = "cdn", feature = "proxy"))]
pub(crate) use hop::has_coded_body;
#[cfg(feature = "http")]
pub use hop::{HopByHop, ambiguous_framing, upgrade_of};
#[cfg(feature = "proxy")]
pub use interim::{Interim, InterimSender};
#[cfg(feature = "http")]
pub use lease::UpgradeLease;
#[cfg(feature = "proxy")]
pub use proxy::{PeerAddr, Proxy, ProxyBody, ProxyError};
#[cfg(feature = "http")]
pub use replay::{Replay, ReplayBody, Superseded};
#[cfg(feature = "proxy")]
pub use upstream::{
    Upstream, UpstreamBody, UpstreamBuilder, UpstreamError, UpstreamErrorKind, UpstreamUrlError,
};

#[cfg(feature = "proxy")]
pub mod future {
    //! The futures of the services in this module, for those who must name them.

    pub use super::proxy::ResponseFuture as ProxyFuture;
    pub use super::upstream::ResponseFuture as UpstreamFuture;
}
