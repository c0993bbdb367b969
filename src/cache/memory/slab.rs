//! The entries of a shard, in slots that are used again.

use std::mem;

use super::super::evict::Slot;

const NONE: Slot = Slot::MAX;

#[derive(Debug)]
pub(super) struct Slab<K, V> {
    cells: Vec<Cell<K, V>>,
    /// The free slot to use next, if any.
    free: Slot,
    len: usize,
}

/// Not an `Option` of a struct: the hash has its place beside the discriminant, which saves eight bytes an entry.
#[derive(Debug)]
enum Cell<K, V> {
    Taken { hash: u32, key: K, value: V },
    Free { next: Slot },
}

impl<K, V> Slab<K, V> {
    pub(super) const fn new() -> Self {
        Self { cells: Vec::new(), free: NONE, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many slots there are, taken or free.
    pub(super) fn slots(&self) -> usize {
        self.cells.len()
    }

    /// Whether the next entry needs a new slot, and there is no memory for one.
    pub(super) fn is_full(&self) -> bool {
        self.free == NONE && self.cells.len() == self.cells.capacity()
    }

    /// Makes room for `slots` in all.
    pub(super) fn reserve(&mut self, slots: usize) {
        self.cells.reserve_exact(slots.saturating_sub(self.cells.len()));
    }

    #[inline(always)]
    pub(super) fn get(&self, slot: Slot) -> Option<(&K, &V)> {
        match self.cells.get(slot as usize) {
            Some(Cell::Taken { key, value, .. }) => Some((key, value)),
            _ => None,
        }
    }

    pub(super) fn hash(&self, slot: Slot) -> Option<u32> {
        match self.cells.get(slot as usize) {
            Some(Cell::Taken { hash, .. }) => Some(*hash),
            _ => None,
        }
    }

    pub(super) fn value_mut(&mut self, slot: Slot) -> Option<&mut V> {
        match self.cells.get_mut(slot as usize) {
            Some(Cell::Taken { value, .. }) => Some(value),
            _ => None,
        }
    }

    /// The slot that the next [`insert`](Self::insert) takes.
    pub(super) fn vacant(&self) -> usize {
        if self.free == NONE { self.cells.len() } else { self.free as usize }
    }

    pub(super) fn insert(&mut self, hash: u32, key: K, value: V) {
        self.len += 1;
        let entry = Cell::Taken { hash, key, value };
        match self.cells.get_mut(self.free as usize) {
            Some(cell) => {
                if let Cell::Free { next } = *cell {
                    self.free = next;
                }
                *cell = entry;
            }
            None => self.cells.push(entry),
        }
    }

    /// Takes an entry out, with its hash.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<(u32, K, V)> {
        let cell = self.cells.get_mut(slot as usize)?;
        if let Cell::Free { .. } = cell {
            return None;
        }
        let Cell::Taken { hash, key, value } = mem::replace(cell, Cell::Free { next: self.free }) else {
            return None;
        };
        self.free = slot;
        self.len -= 1;
        Some((hash, key, value))
    }

    /// The slot and the hash of every entry.
    pub(super) fn hashes(&self) -> impl Iterator<Item = (Slot, u32)> {
        self.cells.iter().enumerate().filter_map(|(slot, cell)| match cell {
            Cell::Taken { hash, .. } => Some((slot as Slot, *hash)),
            Cell::Free { .. } => None,
        })
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = (K, V)> {
        self.cells.into_iter().filter_map(|cell| match cell {
            Cell::Taken { key, value, .. } => Some((key, value)),
            Cell::Free { .. } => None,
        })
    }
}
