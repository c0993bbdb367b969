//! Caches, as their users see them.

mod expiry;
mod flight;
mod support;
