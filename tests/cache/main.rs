//! Caches, as their users see them.

mod expiry;
mod flight;
mod layer;
mod loading;
mod read_through;
mod soak;
mod stale;
mod support;
mod write;
