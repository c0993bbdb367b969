//! Caches, as their users see them.

mod expiry;
mod flight;
mod layer;
mod loading;
mod read_through;
mod stale;
mod soak;
mod support;
mod write;
