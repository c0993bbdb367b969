//! The cache in front of a service, in one process and in paused time.

#![cfg(feature = "cdn")]

mod collapse;
mod contract;
mod origin;
mod partial;
mod reuse;
mod storm;
mod unsafe_methods;
