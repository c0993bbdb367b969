//! The reverse proxy over real sockets.

#![cfg(feature = "proxy")]

mod client;
mod framing;
mod http2;
mod interim;
mod pool;
mod streaming;
#[path = "../support/sockets.rs"]
mod support;
mod tls;
#[path = "../support/tls.rs"]
mod tls_support;
mod upgrade;
