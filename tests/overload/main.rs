//! What overload control must reach: in a simulation, and around real services in virtual time.
//!
//! `cargo test --test overload -- --nocapture` prints the tables. The same seed gives the same run, to the last bit, so
//! that what is asserted here holds on every run or on none.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times and counts of a model, far below where numbers are cut off"
)]

#[cfg(feature = "http")]
mod http;
mod model;
mod outage;
mod priority;
mod service;
mod steps;
mod stress;
