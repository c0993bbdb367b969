//! Which rules would have served best: small caches that are played on a sample of the keys.

use hashbrown::{HashTable, hash_table::Entry};

use super::{
    super::{Slot, Victim},
    segments::{Rules, Segments},
};

/// Plays some sets of rules against each other.
///
/// Each of them has a cache without values, as much smaller than the real one as the sample is than the traffic (Waldspurger
/// and others, "Cache Modeling and Optimization using Miniature Simulations", 2017). What counts is how often one of
/// a pair hits where the other misses: traffic that all serve alike says nothing. The choice changes when the lead of another
/// is beyond chance.
#[derive(Debug)]
pub(super) struct Trial {
    rules: &'static [Rules],
    caches: Vec<Segments>,
    /// The keys that are in one of the caches at least, by hash; all caches know a key by the same number.
    index: HashTable<Slot>,
    keys: Vec<Key>,
    free: Vec<Slot>,
    /// One key in 2^shift is played.
    shift: u32,
    /// The capacity of the real cache, and what it was when the sample was last halved.
    capacity: u64,
    halved_at: u64,
    /// `leads[i * n + j]`: how often i hit and j did not, lately.
    leads: Vec<f32>,
    /// Requests since the leads were last lessened.
    requests: u64,
    chosen: usize,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    hash: u32,
    /// A bit for each cache that it is in.
    caches: u8,
}

/// A small cache with twice as many entries is halved, together with the sample,
const ENTRIES: usize = 256;
/// unless the sample is as small as one key in 4096,
const MAX_SHIFT: u32 = 12;
/// or a small cache has twice as many as this: or the trial of a cache that is never full would grow for ever.
const MOST: usize = 1 << 13;
/// Leads are lessened by a factor, whenever the requests were so many times the entries of a small cache: half is forgotten
/// after eight times the entries.
const HORIZON: u64 = 2;
const FORGET: f32 = 0.84;
/// The lead in standard deviations, and beyond them, that is no chance.
const DEVIATIONS: f32 = 1.5;
const START: f32 = 2.0;

impl Trial {
    pub(super) fn new(rules: &'static [Rules]) -> Self {
        Self {
            rules,
            caches: Vec::new(),
            index: HashTable::new(),
            keys: Vec::new(),
            free: Vec::new(),
            shift: 0,
            capacity: 0,
            halved_at: 0,
            leads: vec![0.0; rules.len() * rules.len()],
            requests: 0,
            chosen: 0,
        }
    }

    /// The set of rules that would serve best.
    pub(super) fn chosen(&self) -> usize {
        self.chosen
    }

    /// What tells a key of the sample: see [`sampled`].
    pub(super) fn limit(&self) -> u32 {
        u32::MAX >> self.shift
    }

    /// The capacity of the real cache is this now.
    pub(super) fn resize(&mut self, capacity: u64) {
        if capacity == self.capacity && !self.caches.is_empty() {
            return;
        }
        if self.caches.is_empty() || capacity < self.halved_at / 4 {
            // The sample is for a larger cache.
            self.shift = 0;
            self.halved_at = 0;
            self.index.clear();
            self.keys.clear();
            self.free.clear();
            self.caches = self.rules.iter().map(|_| Segments::new(capacity)).collect();
        }
        self.capacity = capacity;
        self.caches.iter_mut().for_each(|cache| cache.resize(capacity >> self.shift));
    }

    /// A key of the sample was asked for.
    pub(super) fn request(&mut self, hash: u32, weight: u64) {
        if !sampled(hash, self.limit()) {
            return;
        }
        let key = self.key(hash);
        let hits = self.keys[key as usize].caches;
        for at in 0..self.caches.len() {
            if hits >> at & 1 == 1 {
                self.caches[at].touch(key);
            } else {
                self.admit(at, key, hash, weight);
            }
        }
        self.release(key);
        self.judge(hits);
        while self.is_large() {
            self.thin_out();
        }
    }

    /// Whether the sample should be halved.
    fn is_large(&self) -> bool {
        let most = if self.shift < MAX_SHIFT { ENTRIES } else { MOST };
        self.shift < u32::BITS - 1 && self.caches.iter().any(|cache| cache.len() >= 2 * most)
    }

    /// The number of a key.
    fn key(&mut self, hash: u32) -> Slot {
        let keys = &self.keys;
        let known = |&key: &Slot| keys[key as usize].hash == hash;
        let entry = self.index.entry(spread(hash), known, |&key| spread(keys[key as usize].hash));
        match entry {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                let key =
                    self.free.pop().unwrap_or_else(|| Slot::try_from(self.keys.len()).unwrap_or(Slot::MAX));
                vacant.insert(key);
                if key as usize == self.keys.len() {
                    self.keys.push(Key { hash, caches: 0 });
                }
                self.keys[key as usize] = Key { hash, caches: 0 };
                key
            }
        }
    }

    /// Forgets a key that is in no cache.
    fn release(&mut self, key: Slot) {
        let Key { hash, caches } = self.keys[key as usize];
        if caches != 0 {
            return;
        }
        if let Ok(entry) = self.index.find_entry(spread(hash), |&other| other == key) {
            entry.remove();
            self.free.push(key);
        }
    }

    /// Inserts a key into one of the caches.
    fn admit(&mut self, at: usize, key: Slot, hash: u32, weight: u64) {
        let capacity = self.capacity >> self.shift;
        if weight > capacity {
            return;
        }
        while self.caches[at].weight() > capacity - weight {
            let Victim::Slot(victim) = self.caches[at].evict(&self.rules[at]) else { return };
            self.keys[victim as usize].caches &= !(1 << at);
            if victim != key {
                self.release(victim);
            }
        }
        self.caches[at].insert(key, hash, weight, &self.rules[at]);
        self.keys[key as usize].caches |= 1 << at;
    }

    /// Counts who hit where others did not, and chooses.
    fn judge(&mut self, hits: u8) {
        let n = self.rules.len();
        let hit = |at: usize| hits >> at & 1 == 1;
        for winner in (0..n).filter(|&at| hit(at)) {
            for loser in (0..n).filter(|&at| !hit(at)) {
                self.leads[winner * n + loser] += 1.0;
            }
        }
        let mut best = (0.0, self.chosen);
        for other in (0..n).filter(|&at| hit(at) && !hit(self.chosen)) {
            let wins = self.leads[other * n + self.chosen];
            let losses = self.leads[self.chosen * n + other];
            let lead = wins - losses;
            if lead > DEVIATIONS * (wins + losses).sqrt() + START && lead > best.0 {
                best = (lead, other);
            }
        }
        self.chosen = best.1;
        self.requests += 1;
        let entries = self.caches.iter().map(Segments::len).max().unwrap_or(0) as u64;
        if self.requests >= (HORIZON * entries).max(16) {
            self.requests = 0;
            self.leads.iter_mut().for_each(|lead| *lead *= FORGET);
        }
    }

    /// Halves the sample, and the caches with it.
    fn thin_out(&mut self) {
        self.shift += 1;
        self.halved_at = self.capacity;
        for key in 0..self.keys.len() {
            let Key { hash, caches } = self.keys[key];
            if caches == 0 || sampled(hash, self.limit()) {
                continue;
            }
            let slot = Slot::try_from(key).unwrap_or(Slot::MAX);
            for at in (0..self.caches.len()).filter(|&at| caches >> at & 1 == 1) {
                self.caches[at].remove(slot);
            }
            self.keys[key].caches = 0;
            self.release(slot);
        }
        self.caches.iter_mut().for_each(|cache| cache.resize(self.capacity >> self.shift));
    }
}

/// Whether a hash belongs to a sample, by its limit. Each sample is a part of all larger ones.
#[inline]
pub(super) fn sampled(hash: u32, limit: u32) -> bool {
    // Not the bits that tell the place in a memory, or its fingerprint.
    hash.wrapping_mul(0x85eb_ca6b) <= limit
}

/// The table wants bits at both ends of 64.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::{super::ADAPTIVE, *};
    use crate::rng::Rng;

    /// A cache whose entries expire long before it is full sees new keys for ever.
    #[test]
    fn a_trial_is_bounded_where_the_cache_is_never_full() {
        let mut inverse = 0x85eb_ca6b_u32;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2_u32.wrapping_sub(inverse.wrapping_mul(0x85eb_ca6b)));
        }
        let mut rng = Rng::seeded(1);
        let mut trial = Trial::new(ADAPTIVE);
        trial.resize(u64::MAX);
        for _ in 0..5 * MOST {
            // All of the sample of one key in 128.
            let hash = ((rng.next_u64() >> 32) as u32 >> MAX_SHIFT).wrapping_mul(inverse);
            assert!(sampled(hash, u32::MAX >> MAX_SHIFT));
            trial.request(hash, 1);
        }
        assert!(trial.caches.iter().all(|cache| (1..2 * MOST).contains(&cache.len())), "{}", trial.shift);
        assert!(trial.keys.len() <= 2 * MOST + 1 && trial.index.len() < 2 * MOST);
        // Nor where the sample cannot be halved any more.
        (0..3 * MOST).for_each(|_| trial.request(0, 1));
    }
}
