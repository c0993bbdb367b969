//! Tiers behind the cache: on disk, on a real Redis server, and stacked under memory.
//! And purges of an HTTP cache, over a real Redis server.

#![cfg(all(feature = "cdn", feature = "disk", feature = "redis"))]

mod crash;
mod disk;
mod histories;
mod nodes;
mod purges;
mod redis;
mod server;
mod shelf;
mod stack;
mod support;
