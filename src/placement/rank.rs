//! Weighted rendezvous: every node draws a number for every key, and the highest draw wins.

use super::{INLINE_REPLICAS, Replicas, key::PointEncoder, nodes::NodeList};

/// Bits after the point of a logarithm.
const FRACTION: u32 = 48;

/// Bits of a number that look its logarithm up; the others lie on a line between two entries.
const INDEX: u32 = 8;

/// log₂(1 + i / 256) with 48 bits after the point, bit by bit: squaring a number doubles its logarithm.
const LOG: [u64; (1 << INDEX) + 1] = {
    let mut table = [0; (1 << INDEX) + 1];
    let mut i = 0;
    while i < 1 << INDEX {
        // From 1 up to 2, with 63 bits after the point.
        let mut y = ((1 << INDEX) + i as u128) << (63 - INDEX);
        let mut bit = 0;
        while bit < FRACTION {
            y = (y * y) >> 63;
            table[i] <<= 1;
            if y >> 64 == 1 {
                table[i] |= 1;
                y >>= 1;
            }
            bit += 1;
        }
        i += 1;
    }
    table[1 << INDEX] = 1 << FRACTION;
    table
};

/// Nodes that compete for keys.
#[derive(Clone, Debug)]
pub(super) struct Ranks {
    /// Ordered by id, so that of two equal draws the first one wins. None without weight.
    seats: Vec<Seat>,
    /// Whether all weights are the same. Then the draws themselves decide.
    even: bool,
}

#[derive(Clone, Debug)]
struct Seat {
    mask: u64,
    factor: u64,
    weight: u32,
    node: u16,
}

/// What a seat has to show for a key.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    draw: u64,
    /// −log₂ of the draw as a part of 2⁶⁴; 0 where it does not matter.
    cost: u64,
    weight: u32,
    node: u16,
}

impl Ranks {
    pub(super) fn new(nodes: &NodeList) -> Self {
        let seats: Vec<_> = nodes
            .sorted()
            .into_iter()
            .filter_map(|node| {
                let (id, weight) = nodes.get(usize::from(node)).filter(|&(_, weight)| weight > 0)?;
                let mut points = PointEncoder::new(id);
                Some(Seat { mask: points.hash(0), factor: points.hash(1) | 1, weight, node })
            })
            .collect();
        let even = seats.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        Self { seats, even }
    }

    /// The winner.
    #[inline]
    pub(super) fn first(&self, key: u64) -> Option<usize> {
        if self.even { self.best::<true>(key) } else { self.best::<false>(key) }
    }

    #[inline]
    pub(super) fn best<const EVEN: bool>(&self, key: u64) -> Option<usize> {
        let (first, rest) = self.seats.split_first()?;
        let mut best = first.score::<EVEN>(key);
        for seat in rest {
            let score = seat.score::<EVEN>(key);
            if score.beats::<EVEN>(&best) {
                best = score;
            }
        }
        Some(usize::from(best.node))
    }

    /// The best few, at most [`INLINE_REPLICAS`] of them.
    fn top(&self, key: u64, count: usize) -> Replicas {
        if self.even { self.best_few::<true>(key, count) } else { self.best_few::<false>(key, count) }
    }

    /// One pass, no allocation.
    fn best_few<const EVEN: bool>(&self, key: u64, count: usize) -> Replicas {
        let count = count.min(INLINE_REPLICAS).min(self.seats.len());
        let mut replicas = Replicas::default();
        if count == 0 {
            return replicas;
        }
        let mut best = [Score::default(); INLINE_REPLICAS];
        let mut len = 0;
        for seat in &self.seats {
            let score = seat.score::<EVEN>(key);
            if len == count && !score.beats::<EVEN>(&best[count - 1]) {
                continue;
            }
            let mut at = len.min(count - 1);
            len = at + 1;
            while at > 0 && score.beats::<EVEN>(&best[at - 1]) {
                best[at] = best[at - 1];
                at -= 1;
            }
            best[at] = score;
        }
        best[..len].iter().for_each(|score| replicas.push(usize::from(score.node)));
        replicas
    }

    /// The best so many.
    pub(super) fn replicas(&self, key: u64, count: usize) -> Replicas {
        if count <= INLINE_REPLICAS {
            return self.top(key, count);
        }
        let mut replicas = Replicas::default();
        self.walk(key, |node| {
            replicas.push(node);
            replicas.len() < count
        });
        replicas
    }

    /// Visits all, the winner first. O(nodes) for the first few, O(nodes · log nodes) for all.
    pub(super) fn walk(&self, key: u64, mut visit: impl FnMut(usize) -> bool) {
        let Some(first) = self.first(key) else { return };
        // Mostly nobody asks for more.
        if !visit(first) {
            return;
        }
        let few = self.top(key, INLINE_REPLICAS);
        if !few.iter().skip(1).all(|&node| visit(node)) || few.len() == self.seats.len() {
            return;
        }
        // Equal weights need no shortcut here. Stable: equal scores stay ordered by id.
        let mut scores: Vec<_> = self.seats.iter().map(|seat| seat.score::<false>(key)).collect();
        scores.sort_by(|a, b| b.beats::<false>(a).cmp(&a.beats::<false>(b)));
        scores.iter().skip(few.len()).all(|score| visit(usize::from(score.node)));
    }
}

impl Seat {
    /// A number of which no bit tells anything about that of another seat.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "both halves of the product are used")]
    fn draw(&self, key: u64) -> u64 {
        let product = u128::from(key ^ self.mask) * u128::from(self.factor);
        (product >> 64) as u64 ^ product as u64
    }

    #[inline]
    fn score<const EVEN: bool>(&self, key: u64) -> Score {
        let draw = self.draw(key);
        Score { draw, cost: if EVEN { 0 } else { cost(draw) }, weight: self.weight, node: self.node }
    }
}

impl Score {
    /// Whether this one wins. Cost per weight decides: with weight `w`, −ln(draw) / w is what the best of `w`
    /// draws would have. Of equal costs the higher draw wins, of equal draws neither.
    #[inline]
    fn beats<const EVEN: bool>(&self, other: &Self) -> bool {
        if EVEN {
            return self.draw > other.draw;
        }
        let mine = u128::from(self.cost) * u128::from(other.weight);
        let theirs = u128::from(other.cost) * u128::from(self.weight);
        mine < theirs || mine == theirs && self.draw > other.draw
    }
}

/// −log₂(draw / 2⁶⁴), with 48 bits after the point. Falls as the draw rises, and is never 0.
#[inline]
fn cost(draw: u64) -> u64 {
    let draw = draw | 1;
    let zeros = draw.leading_zeros();
    // Past the leading one: the index, and how far it is to the next entry.
    let mantissa = (draw << zeros) << 1;
    let at = (mantissa >> (64 - INDEX)) as usize;
    let rest = u128::from(mantissa << INDEX);
    let step = ((u128::from(LOG[at + 1] - LOG[at]) * rest) >> 64) as u64;
    (u64::from(zeros + 1) << FRACTION) - (LOG[at] + step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_the_logarithm() {
        for shift in 0..64 {
            for i in 0..1000_u64 {
                let draw = (u64::MAX - i.wrapping_mul(0x0041_8937_4bc6_a7ef)) >> shift;
                let expected = 64.0 - ((draw | 1) as f64).log2();
                let found = cost(draw) as f64 / (1_u64 << FRACTION) as f64;
                assert!((found - expected).abs() < 4e-6, "{draw:x}: {found} for {expected}");
            }
        }
        assert_eq!(cost(0), 64 << FRACTION);
        assert!(cost(u64::MAX) > 0);
    }

    #[test]
    fn the_cost_falls_as_the_draw_rises() {
        let mut last = cost(0);
        for i in 0..1_000_000_u64 {
            let next = cost(i * (u64::MAX / 1_000_000));
            assert!(next <= last);
            last = next;
        }
        for near in 1..=64 {
            let edge = if near == 64 { u64::MAX } else { 1 << near };
            assert!(cost(edge) <= cost(edge - 1) && cost(edge - 1) <= cost(edge - 2));
        }
    }

    #[test]
    fn the_logarithms_are_close_to_the_true_ones() {
        for (i, &log) in LOG.iter().enumerate() {
            let expected = (1.0 + i as f64 / 256.0).log2();
            assert!((log as f64 / (1_u64 << FRACTION) as f64 - expected).abs() < 1e-12);
        }
    }
}
