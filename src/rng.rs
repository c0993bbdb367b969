//! Random numbers for decisions: small, fast, seedable, and not for secrets.

/// A `SplitMix64` generator: one word of state, about a nanosecond a number.
///
/// Decisions take one of these rather than reach for a global generator, so that a test or a simulation that seeds
/// it sees the same choices each time. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
/// 2014.
///
/// ```
/// use buttress::rng::Rng;
///
/// let (mut a, mut b) = (Rng::seeded(7), Rng::seeded(7));
/// assert_eq!(a.next_u64(), b.next_u64());
/// assert!(a.below(10) < 10);
/// ```
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose numbers follow from `seed`.
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator seeded from this thread's entropy.
    pub fn from_thread() -> Self {
        Self(fastrand::u64(..))
    }

    /// The next number, uniform over all 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or 0 when `bound` is 0. The bias is at most `bound` / 2⁶⁴.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the high half of a product with `bound` is below `bound`"
    )]
    pub const fn below(&mut self, bound: usize) -> usize {
        ((self.next_u64() as u128 * bound as u128) >> 64) as usize
    }

    /// A number in `[0, 1)`.
    pub const fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Puts `items` in a random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
