//! Tiers behind the cache: on disk, on a real Redis server, and stacked under memory.

#![cfg(all(feature = "disk", feature = "redis"))]

mod crash;
mod disk;
mod histories;
mod nodes;
mod redis;
mod server;
mod shelf;
mod stack;
mod support;
