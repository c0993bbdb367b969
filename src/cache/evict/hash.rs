//! Hashes cut down to 32 bits, and the tables that they index.

/// What a policy keeps of a hash: 32 bits, all of which depend on all of its lower bits. The high ones may have chosen the
/// shard, and are then alike.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the high half of 64 bits")]
pub const fn short(hash: u64) -> u32 {
    ((hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// The index of a hash in a table.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "below the length")]
pub(super) fn index(hash: u32, len: usize) -> usize {
    ((u64::from(hash) * len as u64) >> 32) as usize
}

/// 16 bits of a hash which tell little of its index. Not 0.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "16 bits are wanted")]
pub(super) fn fingerprint(hash: u32) -> u16 {
    ((hash.wrapping_mul(0x9e37_79b1) >> 15) as u16).max(1)
}

/// The length with which a table starts that will be doubled until it has at least `len`: so that in the end it has not
/// many more.
pub(super) fn first_len(len: u64) -> usize {
    let mut len = len.max(1);
    while len >= 32 {
        len = len.div_ceil(2);
    }
    usize::try_from(len).unwrap_or(32)
}

/// Doubles a table. What a hash finds at its new index is a copy of what was at the old one.
#[cold]
pub(super) fn double<T: Copy>(table: &mut Vec<T>) {
    *table = table.iter().flat_map(|&item| [item, item]).collect();
}
