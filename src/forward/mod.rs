//! Passing HTTP requests on: who the client is, which headers travel, and bodies that can be sent again.
//!
//! These are the pure parts of a reverse proxy, each usable alone: [`client_addr`] decides the client's address,
//! [`ForwardHeaders`] tells it to the next server, [`HopByHop`] takes out what must not travel, and [`Replay`] lets a
//! retry send a request body a second time.
//!
//! With the feature `proxy` they come together: `Proxy` is the reverse proxy as a service, `Upstream` reaches one
//! server behind it, and `PeerAddr` and `UpgradeLease` are what servers and balancers around it put into requests and
//! answers.

mod cidr;
mod client_addr;
mod forwarded;
mod headers;
mod hop;
mod lease;
#[cfg(feature = "proxy")]
mod proxy;
mod replay;
#[cfg(feature = "proxy")]
mod upgrade;
#[cfg(feature = "proxy")]
mod upstream;

pub use cidr::{Cidr, CidrError, TrustedProxies};
pub use client_addr::{AddrSource, ClientAddr, client_addr};
pub use forwarded::{Node, NodeError};
pub use headers::ForwardHeaders;
pub use hop::{HopByHop, ambiguous_framing, upgrade_of};
pub use lease::UpgradeLease;
#[cfg(feature = "proxy")]
pub use proxy::{PeerAddr, Proxy, ProxyBody, ProxyError};
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
