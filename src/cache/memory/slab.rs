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

#[derive(Debug)]
enum Cell<K, V> {
    Taken(Record<K, V>),
    Free { next: Slot },
}

/// What the table knows of an entry.
#[derive(Debug)]
pub(super) struct Record<K, V> {
    pub(super) hash: u32,
    pub(super) key: K,
    pub(super) value: V,
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

    /// Makes room for `slots` in all.
    pub(super) fn reserve(&mut self, slots: usize) {
        self.cells.reserve_exact(slots.saturating_sub(self.cells.len()));
    }

    #[inline]
    pub(super) fn get(&self, slot: Slot) -> Option<&Record<K, V>> {
        match self.cells.get(slot as usize) {
            Some(Cell::Taken(record)) => Some(record),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Record<K, V>> {
        match self.cells.get_mut(slot as usize) {
            Some(Cell::Taken(record)) => Some(record),
            _ => None,
        }
    }

    /// The slot that the next [`insert`](Self::insert) takes.
    pub(super) fn vacant(&self) -> usize {
        if self.free == NONE { self.cells.len() } else { self.free as usize }
    }

    pub(super) fn insert(&mut self, record: Record<K, V>) -> Slot {
        self.len += 1;
        if let Some(cell) = self.cells.get_mut(self.free as usize) {
            let slot = self.free;
            if let Cell::Free { next } = *cell {
                self.free = next;
            }
            *cell = Cell::Taken(record);
            slot
        } else {
            self.cells.push(Cell::Taken(record));
            self.cells.len() as Slot - 1
        }
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Record<K, V>> {
        let cell = self.cells.get_mut(slot as usize)?;
        if let Cell::Free { .. } = cell {
            return None;
        }
        let Cell::Taken(record) = mem::replace(cell, Cell::Free { next: self.free }) else { return None };
        self.free = slot;
        self.len -= 1;
        Some(record)
    }

    /// Every entry with its slot, from this slot on.
    pub(super) fn iter_from(&self, from: usize) -> impl Iterator<Item = (Slot, &Record<K, V>)> {
        let cells = self.cells.iter().enumerate().skip(from);
        cells.filter_map(|(slot, cell)| match cell {
            Cell::Taken(record) => Some((slot as Slot, record)),
            Cell::Free { .. } => None,
        })
    }

    pub(super) fn into_records(self) -> impl Iterator<Item = Record<K, V>> {
        self.cells.into_iter().filter_map(|cell| match cell {
            Cell::Taken(record) => Some(record),
            Cell::Free { .. } => None,
        })
    }
}
