//! Values that are written through a cache to where they are kept.
//!
//! | | when a write is acknowledged | when it is lost |
//! |---|---|---|
//! | [`WriteThrough`] | when it is in the store | never |
//! | [`WriteBehind`] | when it is in a buffer in memory | when the process, or its runtime, ends before the buffer is written |
//!
//! Writing behind is for stores that are slow for single writes, and for values that are written often: writes of one key are
//! merged, and many keys are written with one call. Either way the cache never keeps a value that the store has
//! replaced: whatever overlaps with a write is not stored by the cache, as with a [`Lease`](super::Lease).

mod behind;
mod buffer;
mod store;
mod through;

pub use self::{
    behind::{InvalidWriteBehind, WriteBehind, WriteBehindBuilder, WriterStopped},
    store::{Store, Write, WriteTarget},
    through::WriteThrough,
};
