//! A cache without values.

use std::collections::HashMap;

use super::{Evict, Slot, Victim};

/// Plays requests to a policy: tells how often a cache would hit, and whether a policy of your own keeps its promises.
///
/// It has one shard. A request for a key that is not there inserts it. A weight of 0 counts as 1.
///
/// ```
/// use buttress::cache::evict::{Lru, Simulation};
///
/// // Two popular keys, and each time a stranger.
/// let requests = (0..999).flat_map(|n| [1, 2, 1000 + n]);
/// let mut lru = Simulation::new(Lru::new(), 10);
/// let hits = requests.filter(|&key| lru.request(key, 1)).count();
/// assert_eq!((hits, lru.weight()), (2 * 998, 10));
/// ```
///
/// # Panics
/// Methods panic where the policy breaks a promise.
#[derive(Debug)]
pub struct Simulation<E> {
    policy: E,
    capacity: u64,
    /// For a moment a value that grew may take it beyond the capacity, and beyond 64 bits.
    weight: u128,
    slots: HashMap<u64, Slot>,
    /// Key and weight by slot.
    entries: Vec<Option<(u64, u64)>>,
    free: Vec<Slot>,
    evicted: Vec<u64>,
}

impl<E: Evict> Simulation<E> {
    /// An empty cache with a policy that was made for this capacity.
    pub fn new(policy: E, capacity: u64) -> Self {
        Self {
            policy,
            capacity,
            weight: 0,
            slots: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            evicted: Vec::new(),
        }
    }

    /// Asks for a key, and inserts it with this weight if it is not there. Whether it was there.
    pub fn request(&mut self, key: u64, weight: u64) -> bool {
        self.evicted.clear();
        let weight = weight.max(1);
        let hash = spread(key);
        if let Some(&slot) = self.slots.get(&key) {
            if self.policy.exclusive_hits() {
                self.policy.promote(slot, hash);
            } else {
                self.policy.touch(slot, hash);
            }
            return true;
        }
        if self.make_room(hash, weight) {
            let slot = self.free_slot();
            self.entries[slot as usize] = Some((key, weight));
            self.slots.insert(key, slot);
            self.weight += u128::from(weight);
            self.policy.insert(slot, hash, weight);
        }
        false
    }

    /// Removes a key. Whether it was there.
    pub fn remove(&mut self, key: u64) -> bool {
        self.evicted.clear();
        let Some(&slot) = self.slots.get(&key) else { return false };
        self.policy.remove(slot, spread(key));
        self.release(slot);
        true
    }

    /// Changes the weight of a key, which may evict others, and the key itself. Whether it was there.
    pub fn reweigh(&mut self, key: u64, weight: u64) -> bool {
        self.evicted.clear();
        let weight = weight.max(1);
        let Some(&slot) = self.slots.get(&key) else { return false };
        if weight > self.capacity {
            self.policy.remove(slot, spread(key));
            self.release(slot);
        } else if let Some((_, old)) = &mut self.entries[slot as usize] {
            self.weight = self.weight - u128::from(*old) + u128::from(weight);
            *old = weight;
            self.policy.reweigh(slot, spread(key), weight);
            self.make_room(0, 0);
        }
        true
    }

    /// Changes the capacity, and evicts what no longer fits.
    pub fn resize(&mut self, capacity: u64) {
        self.evicted.clear();
        self.capacity = capacity;
        self.policy.resize(capacity);
        self.make_room(0, 0);
    }

    /// Whether a key is there.
    pub fn contains(&self, key: u64) -> bool {
        self.slots.contains_key(&key)
    }

    /// How many keys are there.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What they weigh.
    pub fn weight(&self) -> u64 {
        u64::try_from(self.weight).unwrap_or(u64::MAX)
    }

    /// Who was evicted in the last call, in order.
    pub fn evicted(&self) -> &[u64] {
        &self.evicted
    }

    /// The policy.
    pub fn policy(&self) -> &E {
        &self.policy
    }

    /// Evicts until a newcomer fits. Whether it does.
    fn make_room(&mut self, newcomer: u64, weight: u64) -> bool {
        if weight > self.capacity {
            return false;
        }
        while self.weight > u128::from(self.capacity - weight) {
            match self.policy.evict(newcomer, weight) {
                Victim::Slot(slot) => {
                    let key = self.release(slot);
                    self.evicted.push(key);
                }
                Victim::Refuse => {
                    assert!(weight > 0, "the policy refuses a newcomer, and there is none");
                    return false;
                }
                Victim::Empty => panic!("the policy knows no entry, but there are {}", self.len()),
            }
        }
        true
    }

    fn free_slot(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            Slot::try_from(self.entries.len() - 1).expect("fewer than 2³¹ slots")
        })
    }

    /// Forgets what is in a slot. Its key.
    fn release(&mut self, slot: Slot) -> u64 {
        let entry = self.entries.get_mut(slot as usize).and_then(Option::take);
        let (key, weight) = entry.expect("the policy names a slot that is taken");
        self.slots.remove(&key);
        self.free.push(slot);
        self.weight -= u128::from(weight);
        key
    }
}

/// A hash as good as those that a table gives.
pub(super) fn spread(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
