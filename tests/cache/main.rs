//! The caches, through their public interface.

mod expiry;
mod support;
