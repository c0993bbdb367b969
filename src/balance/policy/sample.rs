//! Choosing the cheapest of some nodes, or of all.

use crate::rng::Rng;

/// The most nodes that one sample can hold.
pub(super) const MAX_CHOICES: usize = 16;

/// How many samples are drawn before all nodes are looked at: ineligible ones take up places in a sample.
const ROUNDS: usize = 4;

/// The cheapest candidate so far. Equal costs are settled at random: first-come would send every client of a fleet to
/// the same node.
pub(super) struct Cheapest {
    /// The cost's bits above (those of positive floats are in their order), random ones below.
    rank: u64,
    index: usize,
    salt: u64,
}

impl Cheapest {
    #[inline]
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self { rank: u64::MAX, index: usize::MAX, salt: rng.next_u64() }
    }

    /// `cost` must not be negative.
    #[inline]
    pub(super) fn offer(&mut self, index: usize, cost: f32) {
        let rank = u64::from(cost.to_bits()) << 32 | mix(index as u64 ^ self.salt) >> 32;
        // Without a branch: which one is cheaper cannot be predicted.
        self.index = if rank < self.rank { index } else { self.index };
        self.rank = self.rank.min(rank);
    }

    #[inline]
    pub(super) fn index(&self) -> Option<usize> {
        (self.rank >> 32 < u64::from(f32::INFINITY.to_bits())).then_some(self.index)
    }
}

/// Spreads the bits of a number (the finaliser of Moremur).
#[inline]
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 27)).wrapping_mul(0x3c79_ac49_2ba7_b653);
    (z ^ (z >> 33)).wrapping_mul(0x1c69_b3f7_4ac4_ae35)
}

/// The cheapest of all nodes. `cost` is infinite where a node cannot take the request. O(n).
#[inline]
pub(super) fn cheapest_of_all(n: usize, rng: &mut Rng, cost: impl Fn(usize) -> f32) -> Option<usize> {
    let mut best = Cheapest::new(rng);
    for index in 0..n {
        best.offer(index, cost(index));
    }
    best.index()
}

/// The cheapest of `choices` different random nodes, of which so many can take the request; of all, if too few of those
/// drawn can.
#[inline]
pub(super) fn cheapest_of_some(
    n: usize,
    rng: &mut Rng,
    choices: usize,
    cost: impl Fn(usize) -> f32,
) -> Option<usize> {
    if choices >= n {
        return cheapest_of_all(n, rng, cost);
    }
    if choices == 2 {
        // In random order, so that of equals the first may win.
        let (first, second) = draw_two(n, rng);
        let (one, other) = (cost(first), cost(second));
        if one.is_finite() && other.is_finite() {
            return Some(if other < one { second } else { first });
        }
    }
    let mut best = Cheapest::new(rng);
    for _ in 0..ROUNDS {
        let mut eligible = 0;
        let offer = |index: usize| {
            let cost = cost(index);
            eligible += usize::from(cost.is_finite());
            best.offer(index, cost);
        };
        let mut drawn = [0; MAX_CHOICES];
        draw(&mut drawn, choices, n, rng).iter().copied().for_each(offer);
        if eligible >= choices {
            return best.index();
        }
    }
    cheapest_of_all(n, rng, cost)
}

/// Two different numbers below `n`, each pair equally likely to within n / 2³².
#[inline]
pub(super) fn draw_two(n: usize, rng: &mut Rng) -> (usize, usize) {
    let random = rng.next_u64();
    #[allow(clippy::cast_possible_truncation, reason = "below the bound")]
    let below = |bound: usize, random: u64| (((random & 0xffff_ffff) * bound as u64) >> 32) as usize;
    let first = below(n, random);
    let second = below(n - 1, random >> 32);
    (first, if second < first { second } else { second + 1 })
}

/// `choices` different numbers below `n`, each set equally likely (Floyd's algorithm). `choices` is less than `n`.
#[inline]
fn draw<'a>(room: &'a mut [usize; MAX_CHOICES], choices: usize, n: usize, rng: &mut Rng) -> &'a [usize] {
    let choices = choices.min(MAX_CHOICES);
    for place in 0..choices {
        let last = n - choices + place;
        let candidate = rng.below(last + 1);
        room[place] = if room[..place].contains(&candidate) { last } else { candidate };
    }
    &room[..choices]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_holds_no_node_twice_and_each_as_often_as_the_others() {
        let mut rng = Rng::seeded(7);
        for (n, choices) in [(2, 2), (3, 2), (10, 2), (6, 5), (17, 16), (40, 3)] {
            let mut counts = vec![0_u32; n];
            for _ in 0..20_000 {
                let mut sample = if choices == 2 {
                    <[usize; 2]>::from(draw_two(n, &mut rng)).to_vec()
                } else {
                    draw(&mut [0; MAX_CHOICES], choices, n, &mut rng).to_vec()
                };
                for &index in &sample {
                    counts[index] += 1;
                }
                sample.sort_unstable();
                sample.dedup();
                assert_eq!(sample.len(), choices, "{choices} of {n}");
            }
            let even = 20_000.0 * choices as f64 / n as f64;
            for count in counts {
                let ratio = f64::from(count) / even;
                assert!((0.9..1.1).contains(&ratio), "{choices} of {n}: {ratio}");
            }
        }
    }
}
