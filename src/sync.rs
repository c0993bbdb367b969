//! What files that a model checker also compiles use of `std::sync` and `std::thread`.
//!
//! Those files say `use crate::sync::…`. A test that includes one of them by its path has a `sync` module of its own, with
//! the checker's types in place of these.

use std::cell::Cell;
#[allow(unused_imports, reason = "which of them are in use depends on the features")]
pub(crate) use std::{
    hint,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic},
    thread,
};

use self::atomic::{AtomicUsize, Ordering::Relaxed};

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The number of this thread: threads are counted as they first ask.
#[inline]
pub(crate) fn thread_number() -> usize {
    let number = NUMBER.get();
    if number == usize::MAX { count_thread() } else { number }
}

#[cold]
fn count_thread() -> usize {
    let number = THREADS.fetch_add(1, Relaxed);
    NUMBER.set(number);
    number
}
