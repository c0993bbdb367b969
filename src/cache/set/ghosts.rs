//! What a set remembers of keys that left it unused.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const LANES: usize = 4;
const LOW: u64 = 0x0001_0001_0001_0001;
const HIGH: u64 = 0x8000_8000_8000_8000;

/// No key. The key whose bits these are goes by the next ones.
const NONE: u16 = 0;

/// The last 16 keys that left a set without having been used, as 16 bits of hash each, youngest first.
///
/// Read and written on misses only, and after the set was unlocked: when two threads meet here, a ghost may be lost or
/// kept too long, which costs a hit at worst.
#[derive(Debug, Default)]
#[repr(align(32))]
pub(super) struct Ghosts([AtomicU64; LANES]);

impl Ghosts {
    /// Remembers a key, in place of the oldest.
    pub(super) fn push(&self, ghost: u16) {
        let mut carry = u64::from(ghost.max(NONE + 1));
        for lane in &self.0 {
            let old = lane.load(Relaxed);
            lane.store(old << 16 | carry, Relaxed);
            carry = old >> 48;
        }
    }

    /// Whether this key was remembered; now it no longer is.
    pub(super) fn take(&self, ghost: u16) -> bool {
        let pattern = LOW * u64::from(ghost.max(NONE + 1));
        self.0.iter().any(|lane| {
            let old = lane.load(Relaxed);
            let differing = old ^ pattern;
            // The lowest bit that is found is exact: borrows only go up.
            let found = differing.wrapping_sub(LOW) & !differing & HIGH;
            if found == 0 {
                return false;
            }
            let position = found.trailing_zeros() / 16 * 16;
            lane.store(old & !(0xffff << position), Relaxed);
            true
        })
    }

    pub(super) fn clear(&self) {
        self.0.iter().for_each(|lane| lane.store(0, Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sixteen_keys_are_remembered_until_taken() {
        let ghosts = Ghosts::default();
        assert!(!ghosts.take(0));
        let keys = [0, 0xffff, 0x8000].into_iter().chain(2..20);
        keys.clone().for_each(|key| ghosts.push(key));
        for (age, key) in (0..).zip(keys.rev()) {
            assert_eq!(ghosts.take(key), age < 16, "{key}");
            assert!(!ghosts.take(key));
        }
        ghosts.push(7);
        ghosts.clear();
        assert!(!ghosts.take(7));
    }
}
