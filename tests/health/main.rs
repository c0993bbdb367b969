//! Health checks: the monitor in paused time, and the checks that come with it over real sockets.

mod membership;
mod monitor;
mod spread;
mod stage;

#[cfg(feature = "grpc")]
mod grpc;
#[cfg(feature = "proxy")]
mod http;
#[cfg(feature = "proxy")]
#[path = "../support/sockets.rs"]
mod support;
#[cfg(feature = "tcp")]
mod tcp;
