//! The gateway of `examples/gateway`, run as it is, over real sockets.

mod clusters;
mod command_line;
mod failures;
mod nodes;
mod process;
mod stopping;
#[path = "../support/sockets.rs"]
mod support;
mod tls;
#[path = "../support/tls.rs"]
mod tls_support;
mod traffic;
