//! All sets, and the locks around them.

use std::{
    collections::TryReserveError,
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
};

use super::{
    ghosts::Ghosts,
    group::Group,
    ways::{Evicted, MAX_WAYS, Ways},
};

/// How many entries a set holds on average, when the cache is full.
const WAYS: usize = 16;

/// How many sets share a budget. With more, a first fill loses less; with fewer, threads that fill a cache meet less
/// often, and a set looks less far for another one to take from.
const SETS_PER_GROUP: usize = 64;

/// The sets of a cache, and their memory of keys that left them.
pub(super) struct Table<K, V> {
    sets: Box<[Set<K, V>]>,
    ghosts: Box<[Ghosts]>,
    groups: Box<[Group]>,
    capacity: usize,
}

/// A set on a cache line of its own.
#[repr(align(64))]
struct Set<K, V>(Mutex<Ways<K, V>>);

/// Where a key belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    set: usize,
    pub(super) tag: u8,
    ghost: u16,
}

impl<K, V> Table<K, V> {
    pub(super) fn new(capacity: usize) -> Result<Self, TryReserveError> {
        let len = if capacity <= MAX_WAYS { capacity.min(1) } else { capacity.div_ceil(WAYS) };
        // How much of the capacity the first sets have.
        let due = |sets: usize| (capacity as u128 * sets as u128 / len.max(1) as u128) as usize;
        Ok(Self {
            sets: collect(len, |_| Set(Mutex::default()))?,
            ghosts: collect(len, |_| Ghosts::default())?,
            groups: collect(len.div_ceil(SETS_PER_GROUP), |group| {
                let first = group * SETS_PER_GROUP;
                let end = len.min(first + SETS_PER_GROUP);
                Group::new(due(end) - due(first), end - first)
            })?,
            capacity,
        })
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn len(&self) -> usize {
        self.groups.iter().map(Group::claimed).sum()
    }

    /// Where a key of this hash belongs.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "a few bits of the hash, and a number below `len`")]
    pub(super) fn place(&self, hash: u64) -> Place {
        // A hasher may leave patterns in its bits: foldhash does for some seeds, others always do. Folding a product
        // with the golden ratio (as foldhash itself does in its slower variant) breaks them up.
        let product = u128::from(hash) * 0x9e37_79b9_7f4a_7c15;
        let hash = product as u64 ^ (product >> 64) as u64;
        let set = (u128::from(hash) * self.sets.len() as u128) >> 64;
        Place { set: set as usize, tag: hash as u8, ghost: (hash >> 8) as u16 }
    }

    /// The set where a key belongs; `None` in a cache without room for any.
    #[inline]
    pub(super) fn lock(&self, place: Place) -> Option<MutexGuard<'_, Ways<K, V>>> {
        Some(self.sets.get(place.set)?.lock())
    }

    /// Each set in turn.
    pub(super) fn each(&self) -> impl Iterator<Item = MutexGuard<'_, Ways<K, V>>> {
        self.sets.iter().map(Set::lock)
    }

    /// Adds an entry to its set, which does not have its key. Returns who left instead: maybe the newcomer itself.
    pub(super) fn admit(
        &self,
        mut ways: MutexGuard<'_, Ways<K, V>>,
        place: Place,
        entry: (K, V),
    ) -> Option<Evicted<K, V>> {
        let len = ways.entries().len();
        let group = &self.groups[place.set / SETS_PER_GROUP];
        if len < MAX_WAYS {
            if group.claim() {
                ways.push(place.tag, entry);
                return None;
            }
            if len < group.share
                && let Some(evicted) = self.evict_neighbour(place.set, group.share)
            {
                ways.push(place.tag, entry);
                return Some(evicted);
            }
        }
        let remembered = self.ghosts[place.set].take(place.ghost);
        Some(ways.replace(place.tag, entry, remembered))
    }

    /// Takes an entry from a set of the same group that has more than its share. If nothing is free and one set has
    /// less, another one has more; but a set that is locked just now is passed over.
    #[cold]
    fn evict_neighbour(&self, own: usize, share: usize) -> Option<Evicted<K, V>> {
        let first = own / SETS_PER_GROUP * SETS_PER_GROUP;
        let end = self.sets.len().min(first + SETS_PER_GROUP);
        (own + 1..end).chain(first..own).find_map(|set| {
            // Our own set is locked too: two threads that wait for each other's would never end.
            match self.sets[set].0.try_lock() {
                Ok(mut ways) => ways.evict(share),
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().evict(share),
                Err(TryLockError::WouldBlock) => None,
            }
        })
    }

    /// Remembers a key that left its set without having been used.
    pub(super) fn remember(&self, place: Place) {
        self.ghosts[place.set].push(place.ghost);
    }

    /// Takes the entry of a way that was found out of its set.
    pub(super) fn remove(&self, mut ways: MutexGuard<'_, Ways<K, V>>, place: Place, way: usize) -> (K, V) {
        let entry = ways.remove(way);
        drop(ways);
        self.groups[place.set / SETS_PER_GROUP].release(1);
        entry
    }

    /// Takes all entries out, a set at a time.
    pub(super) fn drain(&self) -> impl Iterator<Item = Vec<(K, V)>> {
        self.sets.iter().zip(&self.ghosts).enumerate().map(|(set, (ways, ghosts))| {
            let entries = std::mem::take(&mut *ways.lock()).into_entries();
            ghosts.clear();
            self.groups[set / SETS_PER_GROUP].release(entries.len());
            entries
        })
    }
}

#[cfg(test)]
pub(super) const SET_SIZE: usize = size_of::<Set<u64, u64>>();

#[cfg(test)]
impl<K, V> Table<K, V> {
    /// The memory of each set's entries.
    pub(super) fn allocations(&self) -> Vec<(usize, usize)> {
        self.each().map(|ways| ways.allocation()).collect()
    }

    /// Whether each entry is where it belongs, and counted.
    pub(super) fn check(&self, hash: impl Fn(&K) -> u64)
    where
        K: Eq,
    {
        let mut lens = vec![0; self.groups.len()];
        for (set, ways) in self.each().enumerate() {
            ways.check(|key| {
                let place = self.place(hash(key));
                assert_eq!(place.set, set);
                place.tag
            });
            lens[set / SETS_PER_GROUP] += ways.entries().len();
        }
        for (group, len) in self.groups.iter().zip(lens) {
            assert_eq!(group.claimed(), len);
        }
    }
}

impl<K, V> Set<K, V> {
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Ways<K, V>> {
        // Of what runs under the lock, only `eq` and `clone` can panic, and neither does in the midst of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn collect<T>(len: usize, make: impl FnMut(usize) -> T) -> Result<Box<[T]>, TryReserveError> {
    let mut all = Vec::new();
    all.try_reserve_exact(len)?;
    all.extend((0..len).map(make));
    Ok(all.into_boxed_slice())
}
