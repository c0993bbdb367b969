//! One byte of hash for each way, compared eight at a time.

use super::ways::MAX_WAYS;

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// A byte of each entry's hash, by way. Ways without an entry hold a stale byte.
#[derive(Debug, Default)]
pub(super) struct Tags([u64; MAX_WAYS / 8]);

impl Tags {
    /// The first way with this tag of which `is_it` is true. It may be asked about ways with other tags, and about
    /// ways without an entry.
    #[inline]
    pub(super) fn find(&self, tag: u8, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let pattern = LOW * u64::from(tag);
        let mut found = 0_u64;
        // Which of the words it is cannot be predicted, so there is no branch on it.
        for (word, tags) in self.0.iter().enumerate() {
            let differing = tags ^ pattern;
            // The high bit of each byte that is now zero; and, as a borrow goes on upwards, maybe that of a byte above
            // it that is 1. The words take different bits of the bytes in `found`.
            found |= (differing.wrapping_sub(LOW) & !differing & HIGH) >> (7 - word);
        }
        while found != 0 {
            let bit = found.trailing_zeros() as usize;
            let way = bit % 8 * 8 + bit / 8;
            if is_it(way) {
                return Some(way);
            }
            found &= found - 1;
        }
        None
    }

    pub(super) fn get(&self, way: usize) -> u8 {
        self.0[way / 8].to_le_bytes()[way % 8]
    }

    pub(super) fn set(&mut self, way: usize, tag: u8) {
        let shift = way % 8 * 8;
        let word = &mut self.0[way / 8];
        *word = *word & !(0xff << shift) | u64::from(tag) << shift;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_with_the_tag_is_found() {
        for tag in [0, 1, 0x7f, 0x80, 0xff] {
            let mut tags = Tags::default();
            (0..MAX_WAYS).for_each(|way| tags.set(way, tag ^ 1));
            for way in 0..MAX_WAYS {
                assert_eq!(tags.get(way), tag ^ 1);
                tags.set(way, tag);
                assert_eq!(tags.find(tag, |candidate| candidate == way), Some(way));
                assert_eq!(tags.find(tag, |_| false), None);
            }
        }
    }
}
