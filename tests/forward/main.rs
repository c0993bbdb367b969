//! The reverse proxy over real sockets.

#![cfg(feature = "proxy")]

mod framing;
mod http2;
mod streaming;
mod support;
mod upgrade;
