//! The TCP proxy, over real sockets.

#![cfg(feature = "tcp")]

mod cancel;
mod closing;
mod nodes;
mod proxy_protocol;
mod support;
