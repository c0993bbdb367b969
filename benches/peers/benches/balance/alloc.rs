//! Counts what is asked of the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static COUNT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// The system's allocator with a tally. The tally costs every allocation about the same few ns, ours and the peers'.
pub(crate) struct Counting;

fn tally(bytes: usize) {
    COUNT.fetch_add(1, Relaxed);
    BYTES.fetch_add(bytes as u64, Relaxed);
}

// SAFETY: every call is handed on to `System` unchanged, and the tally itself does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        tally(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `System` with this layout, as all of ours do.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        tally(new_size);
        // SAFETY: as for `dealloc`; the caller keeps the contract of `realloc`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Allocations and bytes for one of the `ops` operations that `run` makes.
pub(crate) fn per_op(ops: u64, run: impl FnOnce()) -> (f64, f64) {
    let (count, bytes) = (COUNT.load(Relaxed), BYTES.load(Relaxed));
    run();
    let of_one = |total: u64| total as f64 / ops as f64;
    (of_one(COUNT.load(Relaxed) - count), of_one(BYTES.load(Relaxed) - bytes))
}
