//! One cache on one trace.

use super::trace::Trace;

/// How much a cache may keep.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Room {
    Entries(u64),
    Bytes(u64),
}

impl Room {
    pub(crate) fn capacity(self) -> u64 {
        match self {
            Self::Entries(capacity) | Self::Bytes(capacity) => capacity,
        }
    }

    /// How many entries a user would expect to fit.
    pub(crate) fn entries(self, trace: &Trace) -> usize {
        let entries = match self {
            Self::Entries(entries) => entries,
            Self::Bytes(bytes) => bytes / (trace.distinct_bytes / trace.distinct).max(1),
        };
        // Some take memory for all of them at once.
        usize::try_from(entries.clamp(1, trace.distinct)).unwrap_or(usize::MAX)
    }
}

/// A cache under test.
pub(crate) trait Contestant {
    /// Whether the key is there; counts as a use.
    fn get(&mut self, key: u64) -> bool;

    /// Keeps a key that was not there.
    fn insert(&mut self, key: u64, size: u32);

    /// How much is kept now, in entries or bytes, as capacity is counted.
    fn kept(&self) -> u64;
}

/// What a cache made of a trace.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) hits: u64,
    pub(crate) bytes: u64,
    pub(crate) hit_bytes: u64,
    /// The most that was kept after any request.
    pub(crate) peak: u64,
}

impl Outcome {
    pub(crate) fn hit_ratio(&self) -> f64 {
        self.hits as f64 / self.requests as f64
    }

    pub(crate) fn byte_hit_ratio(&self) -> f64 {
        self.hit_bytes as f64 / self.bytes as f64
    }
}

/// A name for the tables, and how its bearer plays. Nothing comes back from one that cannot count what the room counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entrant {
    pub(crate) name: &'static str,
    pub(crate) play: fn(&Trace, Room) -> Option<Outcome>,
}

/// Reads a trace through a cache.
pub(crate) fn replay(mut cache: impl Contestant, trace: &Trace) -> Outcome {
    let mut outcome = Outcome::default();
    for (key, size) in trace.requests() {
        let hit = cache.get(key);
        if !hit {
            cache.insert(key, size);
            outcome.peak = outcome.peak.max(cache.kept());
        }
        outcome.requests += 1;
        outcome.hits += u64::from(hit);
        outcome.bytes += u64::from(size);
        outcome.hit_bytes += if hit { u64::from(size) } else { 0 };
    }
    outcome
}
