//! Values that are loaded when they are missing.
//!
//! | to | use |
//! |---|---|
//! | load here and there, each time in its own way | [`MemoryCache::get_with`](super::MemoryCache::get_with), [`try_get_with`](super::MemoryCache::try_get_with), [`get_many_with`](super::MemoryCache::get_many_with) |
//! | load all values in one way, and keep them fresh | [`ReadThrough`] over a [`Load`] |
//!
//! Either way there is one load for each key at a time ([`flight`](super::flight)), and a load that began before its key was
//! changed or invalidated is never stored ([`lease`](super::MemoryCache::lease)).

mod builder;
mod error;
mod freshness;
mod get_with;
mod loader;
mod read_through;
mod together;

pub(super) use self::get_with::Loads;
pub use self::{
    builder::{InvalidReadThrough, ReadThroughBuilder},
    error::LoadError,
    loader::Load,
    read_through::{Loaded, ReadThrough, Right},
};
