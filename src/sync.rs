//! The `std::sync` types of files that a model checker also compiles.
//!
//! Those files say `use crate::sync::…`. A test that includes one of them by its path has a `sync` module of its own, with
//! the checker's types in place of these.

#[allow(unused_imports, reason = "which of them are in use depends on the features")]
pub(crate) use std::{
    hint,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak, atomic},
    thread,
};
