//! A lock whose readers do not meet.

use std::ops::{Deref, DerefMut};

use crate::sync::{
    PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// A value that many threads read and few change.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Striped<T> {
    lock: RwLock<T>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl<T> Striped<T> {
    pub(super) fn new(value: T) -> Self {
        Self { lock: RwLock::new(value), hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    pub(super) fn read(&self) -> Reader<'_, T> {
        let guard = self.lock.read().unwrap_or_else(PoisonError::into_inner);
        Reader { lock: self, guard }
    }

    pub(super) fn write(&self) -> Writer<'_, T> {
        Writer { guard: self.lock.write().unwrap_or_else(PoisonError::into_inner) }
    }

    /// How many reads found something, and how many did not.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.hits.load(Relaxed), self.misses.load(Relaxed))
    }

    pub(super) fn count(&self, hit: bool) {
        let counter = if hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Relaxed);
    }
}

pub(super) struct Reader<'a, T> {
    lock: &'a Striped<T>,
    guard: RwLockReadGuard<'a, T>,
}

impl<T> Reader<'_, T> {
    #[inline]
    pub(super) fn count(&self, hit: bool) {
        self.lock.count(hit);
    }
}

impl<T> Deref for Reader<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

pub(super) struct Writer<'a, T> {
    guard: RwLockWriteGuard<'a, T>,
}

impl<T> Deref for Writer<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for Writer<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}
