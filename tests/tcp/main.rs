//! The TCP proxy, over real sockets.

mod cancel;
mod closing;
mod nodes;
mod proxy_protocol;
mod support;
