//! Ten nodes are killed, hung, slowed, made to fail and revived by a seeded schedule while load runs: over real sockets,
//! and in paused time with ten thousand seeds. No idempotent request may fail, nothing may stay in flight, and never are
//! more nodes ejected than may be.
//!
//! `cargo test --all-features --test chaos` prints the figures of both.

#![cfg(feature = "proxy")]

mod paused;
mod report;
mod schedule;
mod sockets;
mod stage;
#[path = "../support"]
mod support {
    pub(crate) mod sockets;
}
