//! One stored response.

use std::{
    ops::Range,
    sync::atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

#[cfg(feature = "disk")]
use super::disk::FileBody;
use super::{Parts, Reader, name_of_tag, purges::Verdict};
use crate::cdn::policy::Stored;

/// A stored response: its head and its body, or what there is of it.
#[derive(Debug)]
pub(crate) struct Object {
    stored: Stored,
    content: Content,
    /// What it can be purged by besides its URL.
    pub(super) names: Box<[u64]>,
    /// A [`Checked`].
    checked: AtomicU64,
    /// Whether something newer has taken its place, or it was taken out.
    is_void: AtomicBool,
    /// When it was last found, in commits of the store.
    used: AtomicU64,
}

/// Where a body is.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Memory(Parts),
    /// All of it.
    #[cfg(feature = "disk")]
    File(FileBody),
}

impl Object {
    /// `body` must hold all that it says: an aborted or truncated body never becomes one.
    pub(crate) fn new(stored: Stored, body: Parts) -> Self {
        Self::with_content(stored, Content::Memory(body))
    }

    pub(super) fn with_content(stored: Stored, content: Content) -> Self {
        let mut names: Vec<_> = stored.tags().iter().map(|tag| name_of_tag(tag)).collect();
        names.sort_unstable();
        names.dedup();
        let names = names.into();
        Self {
            stored,
            content,
            names,
            checked: AtomicU64::new(0),
            is_void: AtomicBool::new(false),
            used: AtomicU64::new(0),
        }
    }

    pub(crate) fn stored(&self) -> &Stored {
        &self.stored
    }

    /// The length of the whole representation, if it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match &self.content {
            Content::Memory(parts) => parts.length(),
            #[cfg(feature = "disk")]
            Content::File(body) => Some(body.length()),
        }
    }

    /// Whether all of the representation is here.
    pub(crate) fn is_whole(&self) -> bool {
        self.parts().is_none_or(Parts::is_whole)
    }

    /// What of a range is not here, in order.
    pub(crate) fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.parts().map(|parts| parts.missing(range)).unwrap_or_default()
    }

    /// Reads a range, if all of it is here.
    pub(crate) fn read(&self, range: Range<u64>) -> Option<Reader> {
        match &self.content {
            Content::Memory(parts) => parts.cursor(range).map(Reader::from_memory),
            #[cfg(feature = "disk")]
            Content::File(body) => Reader::from_file(body, range),
        }
    }

    /// What there is of the body, if it is in memory. What is on disk is whole.
    #[allow(clippy::unnecessary_wraps, reason = "without a disk all is in memory")]
    pub(crate) fn parts(&self) -> Option<&Parts> {
        match &self.content {
            Content::Memory(parts) => Some(parts),
            #[cfg(feature = "disk")]
            Content::File(_) => None,
        }
    }

    /// How many bytes of it are here.
    pub(super) fn held(&self) -> Option<u64> {
        self.parts().map(Parts::held)
    }

    #[cfg(feature = "disk")]
    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    /// Whether the body can be read, as far as one knows.
    #[inline]
    #[allow(clippy::unused_self, reason = "without a disk all is in memory")]
    pub(super) fn is_sound(&self) -> bool {
        match &self.content {
            Content::Memory(_) => true,
            #[cfg(feature = "disk")]
            Content::File(body) => body.is_sound(),
        }
    }

    /// The memory that it takes, in bytes.
    pub(super) fn weight(&self) -> u64 {
        (size_of::<Self>() + self.stored.weight() + size_of_val(&*self.names)) as u64 + self.content.weight()
    }

    /// As it is stored: with what it is to be compared with from now on.
    pub(super) fn begin(&mut self, number: u64, verdict: Verdict, now: u64) {
        *self.checked.get_mut() = Checked::new(number, verdict).0;
        *self.used.get_mut() = now;
    }

    /// The same with its body elsewhere.
    #[cfg(feature = "disk")]
    pub(super) fn with_body(&self, body: FileBody) -> Self {
        let object = Self::with_content(self.stored.clone(), Content::File(body));
        object.checked.store(self.checked.load(Acquire), Release);
        object.used.store(self.last_use(), Relaxed);
        object.is_void.store(self.is_void(), Release);
        object
    }

    /// The same body behind another head.
    pub(crate) fn with_head(&self, stored: Stored) -> Self {
        Self::with_content(stored, self.content.clone())
    }

    /// What it was last compared with.
    #[inline]
    pub(super) fn checked(&self) -> Checked {
        Checked(self.checked.load(Acquire))
    }

    /// Notes the outcome of a comparison, unless somebody has noted something since `before`.
    pub(super) fn note_checked(&self, before: Checked, number: u64, verdict: Verdict) {
        let _ = self.checked.compare_exchange(before.0, Checked::new(number, verdict).0, Release, Relaxed);
    }

    /// Marks it as purged softly.
    pub(super) fn soften(&self) {
        self.checked.fetch_or(1, Release);
    }

    pub(super) fn void(&self) {
        self.is_void.store(true, Release);
    }

    pub(super) fn is_void(&self) -> bool {
        self.is_void.load(Acquire)
    }

    pub(super) fn last_use(&self) -> u64 {
        self.used.load(Relaxed)
    }

    #[inline]
    pub(super) fn note_use(&self, now: u64) {
        // Written only when it changes: who finds it all the time shares the line.
        if self.used.load(Relaxed) != now {
            self.used.store(now, Relaxed);
        }
    }
}

impl Content {
    fn weight(&self) -> u64 {
        match self {
            Self::Memory(parts) => parts.weight(),
            #[cfg(feature = "disk")]
            Self::File(body) => body.weight(),
        }
    }
}

/// The number of the last purge that an object was compared with, times two, and whether one was soft.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked(u64);

impl Checked {
    fn new(number: u64, verdict: Verdict) -> Self {
        Self(number << 1 | u64::from(verdict != Verdict::Live))
    }

    pub(super) fn number(self) -> u64 {
        self.0 >> 1
    }

    pub(super) fn verdict(self) -> Verdict {
        if self.0 & 1 == 1 { Verdict::SoftPurged } else { Verdict::Live }
    }
}
