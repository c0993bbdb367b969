//! The policies as their papers tell them, with keys and no thought of speed.

use std::collections::VecDeque;

use super::super::{Ghost, gdsf, short, simulation::spread};

pub(super) trait Model {
    fn hit(&mut self, key: u64);
    fn insert(&mut self, key: u64, weight: u64);
    fn remove(&mut self, key: u64);
    fn reweigh(&mut self, _: u64, _: u64) {}
    fn resize(&mut self, _: u64) {}
    fn evict(&mut self, for_newcomer: bool) -> Option<u64>;
}

#[derive(Default)]
pub(super) struct Fifo(VecDeque<u64>);

impl Model for Fifo {
    fn hit(&mut self, _: u64) {}

    fn insert(&mut self, key: u64, _: u64) {
        self.0.push_back(key);
    }

    fn remove(&mut self, key: u64) {
        self.0.retain(|&other| other != key);
    }

    fn evict(&mut self, _: bool) -> Option<u64> {
        self.0.pop_front()
    }
}

#[derive(Default)]
pub(super) struct Lru(Fifo);

impl Model for Lru {
    fn hit(&mut self, key: u64) {
        self.0.remove(key);
        self.0.insert(key, 1);
    }

    fn insert(&mut self, key: u64, weight: u64) {
        self.0.insert(key, weight);
    }

    fn remove(&mut self, key: u64) {
        self.0.remove(key);
    }

    fn evict(&mut self, for_newcomer: bool) -> Option<u64> {
        self.0.evict(for_newcomer)
    }
}

#[derive(Default)]
pub(super) struct Refuse(Fifo);

impl Model for Refuse {
    fn hit(&mut self, _: u64) {}

    fn insert(&mut self, key: u64, weight: u64) {
        self.0.insert(key, weight);
    }

    fn remove(&mut self, key: u64) {
        self.0.remove(key);
    }

    fn evict(&mut self, for_newcomer: bool) -> Option<u64> {
        if for_newcomer { None } else { self.0.evict(false) }
    }
}

/// The oldest first; and where the hand is, as an index.
#[derive(Default)]
pub(super) struct Sieve {
    queue: Vec<(u64, bool)>,
    hand: usize,
}

impl Model for Sieve {
    fn hit(&mut self, key: u64) {
        self.queue.iter_mut().filter(|entry| entry.0 == key).for_each(|entry| entry.1 = true);
    }

    fn insert(&mut self, key: u64, _: u64) {
        // The hand that has passed the newest entry goes to the oldest, not to who comes next.
        if self.hand == self.queue.len() {
            self.hand = 0;
        }
        self.queue.push((key, false));
    }

    fn remove(&mut self, key: u64) {
        let Some(at) = self.queue.iter().position(|entry| entry.0 == key) else { return };
        self.queue.remove(at);
        if at < self.hand {
            self.hand -= 1;
        }
    }

    fn evict(&mut self, _: bool) -> Option<u64> {
        if self.queue.is_empty() {
            return None;
        }
        loop {
            self.hand %= self.queue.len();
            if !self.queue[self.hand].1 {
                return Some(self.queue.remove(self.hand).0);
            }
            self.queue[self.hand].1 = false;
            self.hand += 1;
        }
    }
}

struct Entry {
    key: u64,
    weight: u64,
    hits: u8,
}

pub(super) struct S3Fifo {
    small: VecDeque<Entry>,
    main: VecDeque<Entry>,
    ghost: Ghost,
    capacity: u64,
    most: usize,
}

impl S3Fifo {
    pub(super) fn new(capacity: u64) -> Self {
        Self { small: VecDeque::new(), main: VecDeque::new(), ghost: Ghost::new(capacity), capacity, most: 0 }
    }

    fn entry(&mut self, key: u64) -> &mut Entry {
        self.small.iter_mut().chain(&mut self.main).find(|entry| entry.key == key).unwrap()
    }
}

impl Model for S3Fifo {
    fn hit(&mut self, key: u64) {
        let entry = self.entry(key);
        entry.hits = (entry.hits + 1).min(3);
    }

    fn insert(&mut self, key: u64, weight: u64) {
        self.most = self.most.max(self.small.len() + self.main.len() + 1);
        self.ghost.grow(self.most);
        let entry = Entry { key, weight, hits: 0 };
        if self.ghost.take(short(spread(key))) {
            self.main.push_back(entry);
        } else {
            self.small.push_back(entry);
        }
    }

    fn remove(&mut self, key: u64) {
        self.small.retain(|entry| entry.key != key);
        self.main.retain(|entry| entry.key != key);
    }

    fn reweigh(&mut self, key: u64, weight: u64) {
        self.entry(key).weight = weight;
    }

    fn resize(&mut self, capacity: u64) {
        self.capacity = capacity;
    }

    fn evict(&mut self, _: bool) -> Option<u64> {
        loop {
            let small: u64 = self.small.iter().map(|entry| entry.weight).sum();
            if small >= (self.capacity / 10).max(1) || self.main.is_empty() {
                let entry = self.small.pop_front()?;
                if entry.hits < 2 {
                    self.ghost.put(short(spread(entry.key)));
                    return Some(entry.key);
                }
                self.main.push_back(Entry { hits: 0, ..entry });
            } else {
                let entry = self.main.pop_front()?;
                if entry.hits == 0 {
                    return Some(entry.key);
                }
                self.main.push_back(Entry { hits: entry.hits - 1, ..entry });
            }
        }
    }
}

/// LFU and GDSF: who is worth least leaves, and the level rises to that.
pub(super) struct Aged {
    /// In the order in which they were placed.
    entries: Vec<Placed>,
    level: u64,
    most: u64,
    /// By uses and weight: the queue, among those of the same worth, and what is gained.
    gain: fn(u64, u64) -> (usize, u64),
}

struct Placed {
    key: u64,
    weight: u64,
    uses: u64,
    hits: u64,
    queue: usize,
    worth: u64,
}

impl Aged {
    pub(super) fn lfu() -> Self {
        Self { entries: Vec::new(), level: 0, most: 63, gain: |uses, _| (0, uses) }
    }

    pub(super) fn gdsf() -> Self {
        let gain = |uses: u64, weight| {
            let queue = gdsf::queue(uses.try_into().unwrap(), weight);
            (queue, gdsf::gain(queue))
        };
        Self { entries: Vec::new(), level: 0, most: 255, gain }
    }

    fn take(&mut self, key: u64) -> Placed {
        let at = self.entries.iter().position(|entry| entry.key == key).unwrap();
        self.entries.remove(at)
    }

    fn place(&mut self, key: u64, weight: u64, uses: u64) {
        let uses = uses.min(self.most);
        let (queue, gain) = (self.gain)(uses, weight);
        self.entries.push(Placed { key, weight, uses, hits: 0, queue, worth: self.level + gain });
    }
}

impl Model for Aged {
    fn hit(&mut self, key: u64) {
        let entry = self.entries.iter_mut().find(|entry| entry.key == key).unwrap();
        entry.hits = (entry.hits + 1).min(255);
    }

    fn insert(&mut self, key: u64, weight: u64) {
        self.place(key, weight, 1);
    }

    fn remove(&mut self, key: u64) {
        self.take(key);
    }

    fn reweigh(&mut self, key: u64, weight: u64) {
        // Only GDSF cares for weights.
        if self.most == 255 {
            let old = self.take(key);
            self.place(key, weight, old.uses + old.hits);
        }
    }

    fn evict(&mut self, _: bool) -> Option<u64> {
        loop {
            let least = self.entries.iter().min_by_key(|entry| (entry.worth, entry.queue))?.key;
            let entry = self.take(least);
            self.level = entry.worth;
            if entry.hits == 0 {
                return Some(least);
            }
            self.place(least, entry.weight, entry.uses + entry.hits);
        }
    }
}
