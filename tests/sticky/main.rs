//! Clients that stay with their node: cookies, sessions, and those who would cheat.

#![cfg(all(feature = "signed", feature = "proxy"))]

mod cookie;
mod hostile;
#[cfg(feature = "lru")]
mod learned;
#[path = "../support/sockets.rs"]
mod sockets;
mod stack;
mod support;
