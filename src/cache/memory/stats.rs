//! What a cache has done so far.

/// What a cache has done so far, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Lookups that found a value.
    pub hits: u64,
    /// Lookups that found none.
    pub misses: u64,
    /// Values that were put in, in place of others or not.
    pub insertions: u64,
    /// Values that were replaced by others of the same key.
    pub replaced: u64,
    /// Entries that left to make room.
    pub evicted: u64,
    /// Entries whose time was over.
    pub expired: u64,
    /// Entries that the application took out.
    pub removed: u64,
    /// Values that did not get in: too large, or worth less to the policy than what it had.
    pub refused: u64,
    /// Entries in the cache.
    pub len: usize,
    /// Their weight: their number, without a weigher.
    pub weight: u64,
}

impl Stats {
    /// The share of lookups that found a value, from 0 to 1; 0 when there was none.
    pub fn hit_ratio(&self) -> f64 {
        let lookups = self.hits.saturating_add(self.misses);
        if lookups == 0 { 0.0 } else { self.hits as f64 / lookups as f64 }
    }
}
