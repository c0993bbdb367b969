//! A lock whose readers do not meet.
//!
//! Taking a lock writes to it, and a cache line that two cores write to travels between them, which takes longer than the
//! lookup under the lock. So this lock consists of several *stripes*, each in cache lines of its own. A reader holds the
//! stripe of its thread; a writer holds all of them, taken in order.
//!
//! This is the one file with `unsafe` in it.

use std::{
    cell::UnsafeCell,
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

use crate::sync::{
    atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    hint, thread, thread_number,
};

/// The most stripes of a lock. More would cost writers more than readers gain.
const STRIPES: usize = 4;

/// How often a thread looks at a taken stripe, before it lets others run; how often it does so, before it sleeps; and how
/// long it sleeps. Who holds a stripe is done in less than a microsecond, unless it was interrupted or a table grows.
const SPINS: u32 = 64;
const YIELDS: u32 = 16;
const NAP: Duration = Duration::from_micros(50);

/// A value that many threads read and few change.
///
/// Unlike a `RwLock`, it never hands out more than one reference of a stripe, so readers that share a stripe take turns.
/// There is no poison: whoever panics with the lock held must leave the value sound.
#[repr(C)]
pub(super) struct Striped<T> {
    stripes: [Stripe; STRIPES],
    used: usize,
    value: UnsafeCell<T>,
}

/// Two lines: processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    /// 1 while it is held. A whole word, as exchanging a byte takes half as long again.
    held: AtomicU32,
    /// What readers count, each in its stripe: exact without an atomic addition, since who counts holds the stripe.
    hits: AtomicU64,
    misses: AtomicU64,
}

// SAFETY: a `Striped` owns its value, like a `Mutex` does.
#[allow(unsafe_code)]
unsafe impl<T: Send> Send for Striped<T> {}

// SAFETY: several readers may have `&T` at the same time, hence `T: Sync`; a writer, from any thread, has `&mut T`, hence
// `T: Send`. As for `RwLock`.
#[allow(unsafe_code)]
unsafe impl<T: Send + Sync> Sync for Striped<T> {}

impl Stripe {
    #[inline]
    fn hold(&self) {
        if self.held.swap(1, Acquire) != 0 {
            self.wait();
        }
    }

    #[cold]
    fn wait(&self) {
        let mut tries = 0;
        loop {
            if self.held.load(Relaxed) == 0 && self.held.swap(1, Acquire) == 0 {
                return;
            }
            tries += 1;
            if tries < SPINS {
                hint::spin_loop();
            } else if tries < SPINS + YIELDS {
                thread::yield_now();
            } else {
                thread::sleep(NAP);
            }
        }
    }

    #[inline]
    fn release(&self) {
        self.held.store(0, Release);
    }
}

impl<T> Striped<T> {
    /// A lock with one stripe for each of so many threads, but not more than are worth their while.
    pub(super) fn new(value: T, threads: usize) -> Self {
        let used = threads.next_power_of_two().clamp(1, STRIPES);
        Self { stripes: Default::default(), used, value: UnsafeCell::new(value) }
    }

    /// Waits for writers, and for readers of the same stripe.
    #[inline]
    pub(super) fn read(&self) -> Reader<'_, T> {
        // `used` is a power of two; the second mask tells the compiler the bound.
        let stripe = &self.stripes[thread_number() & (self.used - 1) & (STRIPES - 1)];
        stripe.hold();
        Reader { lock: self, stripe }
    }

    /// Waits for everybody.
    #[inline]
    pub(super) fn write(&self) -> Writer<'_, T> {
        for stripe in self.used() {
            stripe.hold();
        }
        Writer { lock: self }
    }

    fn used(&self) -> &[Stripe] {
        &self.stripes[..self.used.min(STRIPES)]
    }

    /// How many reads found something, and how many did not.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.used().iter().fold((0, 0), |(hits, misses), stripe| {
            (hits + stripe.hits.load(Relaxed), misses + stripe.misses.load(Relaxed))
        })
    }
}

impl<T> fmt::Debug for Striped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Striped").finish_non_exhaustive()
    }
}

/// Shared access, until it is dropped.
pub(super) struct Reader<'a, T> {
    lock: &'a Striped<T>,
    stripe: &'a Stripe,
}

impl<T> Reader<'_, T> {
    /// Counts a lookup.
    #[inline]
    pub(super) fn count(&self, hit: bool) {
        let counter = if hit { &self.stripe.hits } else { &self.stripe.misses };
        counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

impl<T> Deref for Reader<'_, T> {
    type Target = T;

    #[inline]
    #[allow(unsafe_code)]
    fn deref(&self) -> &T {
        // SAFETY: this reader holds a stripe until it is dropped. A writer needs all of them for its `&mut T`.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> Drop for Reader<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.stripe.release();
    }
}

/// Sole access, until it is dropped.
pub(super) struct Writer<'a, T> {
    lock: &'a Striped<T>,
}

impl<T> Writer<'_, T> {
    /// Counts a lookup.
    #[inline]
    pub(super) fn count(&self, hit: bool) {
        let stripe = &self.lock.stripes[0];
        let counter = if hit { &stripe.hits } else { &stripe.misses };
        counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

impl<T> Deref for Writer<'_, T> {
    type Target = T;

    #[inline]
    #[allow(unsafe_code)]
    fn deref(&self) -> &T {
        // SAFETY: as in `deref_mut`.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Writer<'_, T> {
    #[inline]
    #[allow(unsafe_code)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this writer holds every stripe until it is dropped, so there is no other reader or writer. References
        // from earlier calls have ended, because they borrow the writer.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Writer<'_, T> {
    #[inline]
    fn drop(&mut self) {
        for stripe in self.lock.used() {
            stripe.release();
        }
    }
}
