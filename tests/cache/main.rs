//! Caches, as their users see them.

mod flight;
mod loading;
mod read_through;
mod stale;
