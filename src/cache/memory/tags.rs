//! Entries that belong together.

use std::collections::HashMap;

use super::{super::evict::Slot, RandomState};

/// Which entries of a shard have which tags. Only takes memory for entries that have any.
#[derive(Debug, Default)]
pub(super) struct Tags {
    /// The tags of a slot, and where the slot stands in the group of each.
    of: HashMap<Slot, Vec<(u64, usize)>, RandomState>,
    groups: HashMap<u64, Vec<Slot>, RandomState>,
}

impl Tags {
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Sets the tags of an entry, each of them different, in place of those it had.
    pub(super) fn set(&mut self, slot: Slot, tags: &[u64]) {
        self.clear(slot);
        if tags.is_empty() {
            return;
        }
        let places = tags.iter().map(|tag| {
            let group = self.groups.entry(*tag).or_default();
            group.push(slot);
            (*tag, group.len() - 1)
        });
        let places = places.collect();
        self.of.insert(slot, places);
    }

    /// An entry has gone.
    pub(super) fn clear(&mut self, slot: Slot) {
        for (tag, place) in self.of.remove(&slot).unwrap_or_default() {
            let Some(group) = self.groups.get_mut(&tag) else { continue };
            group.swap_remove(place);
            let moved = group.get(place).copied();
            if group.is_empty() {
                self.groups.remove(&tag);
            }
            let places = moved.and_then(|moved| self.of.get_mut(&moved));
            if let Some(at) = places.and_then(|places| places.iter_mut().find(|at| at.0 == tag)) {
                at.1 = place;
            }
        }
    }

    /// An entry that has this tag.
    pub(super) fn any(&self, tag: u64) -> Option<Slot> {
        self.groups.get(&tag)?.last().copied()
    }

    /// The tags of an entry.
    pub(super) fn tags(&self, slot: Slot) -> impl Iterator<Item = u64> {
        self.of.get(&slot).into_iter().flatten().map(|at| at.0)
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let pairs: usize = self.of.values().map(Vec::len).sum();
        assert_eq!(pairs, self.groups.values().map(Vec::len).sum::<usize>());
        for (slot, places) in &self.of {
            assert!(!places.is_empty());
            for (tag, place) in places {
                assert_eq!(self.groups[tag][*place], *slot);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.of.keys().copied()
    }
}
