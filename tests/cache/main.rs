//! Caches, as their users see them.

mod flight;
