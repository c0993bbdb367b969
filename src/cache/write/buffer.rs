//! What is written later: pure.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::Arc,
};

/// What a key is to become: a value, or nothing.
pub(super) type Change<V> = Option<Arc<V>>;

/// Writes by key, in the order in which their keys were first written.
///
/// One batch is under way at a time, so the writes of a key reach the store in order: a write of a key that is under way
/// waits for the next batch. All steps take O(1), but for those of a batch.
#[derive(Debug)]
pub(super) struct Buffer<K, V> {
    keys: HashMap<K, Entry<V>>,
    /// Keys that wait, each with the number of its first write that does; and some that have moved to the front since.
    queue: VecDeque<(K, u64)>,
    /// How many keys wait.
    waiting: usize,
    flying: Vec<(K, u64)>,
    accepted: u64,
}

#[derive(Debug)]
struct Entry<V> {
    waiting: Option<Change<V>>,
    /// The number of the first write that waits.
    first: u64,
    flying: Option<Change<V>>,
}

impl<K: Hash + Eq + Clone, V> Buffer<K, V> {
    pub(super) fn new() -> Self {
        Self { keys: HashMap::new(), queue: VecDeque::new(), waiting: 0, flying: Vec::new(), accepted: 0 }
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.keys.contains_key(key)
    }

    /// How many keys are not in the store.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many keys wait for a batch.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The last write of a key, if it is not in the store yet.
    pub(super) fn get(&self, key: &K) -> Option<Change<V>> {
        let entry = self.keys.get(key)?;
        entry.waiting.as_ref().or(entry.flying.as_ref()).cloned()
    }

    /// Accepts a write. Returns the one that it replaces.
    pub(super) fn put(&mut self, key: K, change: Change<V>) -> Option<Change<V>> {
        self.accepted += 1;
        let entry = self.keys.entry(key.clone()).or_insert(Entry { waiting: None, first: 0, flying: None });
        let replaced = entry.waiting.replace(change);
        if replaced.is_none() {
            entry.first = self.accepted;
            self.waiting += 1;
            self.queue.push_back((key, self.accepted));
        }
        replaced
    }

    /// The number of the last write.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Whether all writes up to this number are in the store.
    pub(super) fn is_stored(&self, number: u64) -> bool {
        let oldest = self.queue.iter().find(|place| Self::waits(&self.keys, place));
        self.flying.iter().chain(oldest).all(|(_, first)| *first > number)
    }

    fn waits(keys: &HashMap<K, Entry<V>>, (key, first): &(K, u64)) -> bool {
        keys.get(key).is_some_and(|entry| entry.waiting.is_some() && entry.first == *first)
    }

    /// The next batch, unless one is under way.
    pub(super) fn take(&mut self, most: usize) -> Vec<(K, Change<V>)> {
        let mut batch = Vec::new();
        while self.flying.len() < most && batch.len() == self.flying.len() {
            let Some(place) = self.queue.pop_front() else { break };
            if !Self::waits(&self.keys, &place) {
                continue;
            }
            if let Some(entry) = self.keys.get_mut(&place.0)
                && let Some(change) = entry.waiting.take()
            {
                entry.flying = Some(change.clone());
                batch.push((place.0.clone(), change));
                self.waiting -= 1;
                self.flying.push(place);
            }
        }
        batch
    }

    /// The batch is in the store. How many keys have left.
    pub(super) fn stored(&mut self) -> usize {
        let before = self.keys.len();
        for (key, _) in self.flying.drain(..) {
            if let Some(entry) = self.keys.get_mut(&key) {
                entry.flying = None;
                if entry.waiting.is_none() {
                    self.keys.remove(&key);
                }
            }
        }
        before - self.keys.len()
    }

    /// The batch is not in the store: it is the next one again, with newer writes in place of older ones.
    pub(super) fn failed(&mut self) {
        while let Some((key, first)) = self.flying.pop() {
            let Some(entry) = self.keys.get_mut(&key) else { continue };
            let flying = entry.flying.take();
            if entry.waiting.is_none() {
                entry.waiting = flying;
                self.waiting += 1;
            }
            entry.first = first;
            self.queue.push_front((key, first));
        }
        // Those that moved to the front have left a place behind.
        if self.queue.len() > 2 * self.waiting {
            self.queue.retain(|place| Self::waits(&self.keys, place));
        }
    }
}

#[cfg(test)]
mod tests;
