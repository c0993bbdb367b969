//! The balancer as it is used: queues, cancelled requests, and the whole stack over real sockets under load.

#![cfg(feature = "proxy")]

mod affinity;
mod cancel;
mod queue;
mod servers;
mod sockets;
mod support;
