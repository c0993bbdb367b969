//! Passing HTTP requests on: who the client is, which headers travel, and bodies that can be sent again.
//!
//! These are the pure parts of a reverse proxy, each usable alone: [`client_addr`] decides the client's address,
//! [`ForwardHeaders`] tells it to the next server, [`HopByHop`] takes out what must not travel, and [`Replay`] lets a
//! retry send a request body a second time.

mod cidr;
mod client_addr;
mod forwarded;
mod headers;
mod hop;
mod replay;

pub use cidr::{Cidr, CidrError, TrustedProxies};
pub use client_addr::{AddrSource, ClientAddr, client_addr};
pub use forwarded::{Node, NodeError};
pub use headers::ForwardHeaders;
pub use hop::{HopByHop, ambiguous_framing, upgrade_of};
pub use replay::{Replay, ReplayBody, Superseded};
