//! The caches, through their public interface.

mod expiry;
mod soak;
mod support;
