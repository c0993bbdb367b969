//! Caches, as their users see them.

mod flight;
mod layer;
mod loading;
mod read_through;
mod stale;
mod write;
