//! Points on a circle of 2⁶⁴ places, each owned by a node, with an index over their top bits.
//!
//! The point that owns a hash is the first one at or after it, going round. Hashes are even, so a table of as
//! many buckets as points tells where to start to within a point or two: one load, then a short scan, where a
//! binary search would take a dozen loads that wait for each other.

use std::cmp::Ordering;

mod merge;

pub(super) use self::merge::Change;
use super::walk::Owners;

/// Points that a lookup compares without branching, and copies of the largest hash that end the list, so that
/// it may.
const WINDOW: usize = 4;

/// Buckets with more points than this are sorted by the standard library. Chance puts 1.5 at most into one, so
/// that this takes ids chosen to that end.
const CROWDED: usize = 24;

/// A place on the circle and the node that owns what lies before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) hash: u64,
    pub(super) node: u16,
}

/// Sorted points. 10 bytes a point, and 3 to 5 for the index.
#[derive(Clone)]
pub(super) struct Points {
    /// Sorted, then `WINDOW` times the largest number.
    hashes: Vec<u64>,
    /// Who owns `hashes[i]`. One longer than there are points, if there are any: past the last one is the first.
    owners: Vec<u16>,
    /// The first point at or after each bucket, then the number of points.
    starts: Vec<u32>,
    /// How far to shift a hash to get its bucket.
    shift: u32,
    /// Number of nodes that there are numbers for.
    nodes: usize,
    /// Number of nodes that own a point.
    owning: usize,
}

impl Points {
    /// Sorts points; `tie` orders nodes whose points coincide, else they stay in order. O(points) expected.
    pub(super) fn sort(
        points: &[Point],
        nodes: usize,
        owning: usize,
        tie: impl Fn(u16, u16) -> Ordering,
    ) -> Self {
        let (shift, buckets) = index_size(points.len());
        let bucket = |hash: u64| bucket(hash, shift);

        // Count, then deal out: while dealing, `starts[b + 1]` is where the next point of bucket `b` goes, so
        // that in the end it is where the next bucket starts.
        let mut starts = vec![0_u32; buckets + 1];
        for point in points {
            starts[bucket(point.hash) + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut starts[1..] {
            sum += std::mem::replace(start, sum);
        }
        let mut hashes = Vec::with_capacity(points.len() + WINDOW);
        hashes.resize(points.len(), 0);
        let mut owners = Vec::with_capacity(points.len() + 1);
        owners.resize(points.len(), 0);
        for point in points {
            let next = &mut starts[bucket(point.hash) + 1];
            hashes[*next as usize] = point.hash;
            owners[*next as usize] = point.node;
            *next += 1;
        }
        for ends in starts.windows(2) {
            let range = ends[0] as usize..ends[1] as usize;
            sort_bucket(&mut hashes[range.clone()], &mut owners[range], &tie);
        }

        Self::close(hashes, owners, starts, shift, nodes, owning)
    }

    fn close(
        mut hashes: Vec<u64>,
        mut owners: Vec<u16>,
        starts: Vec<u32>,
        shift: u32,
        nodes: usize,
        owning: usize,
    ) -> Self {
        hashes.extend([u64::MAX; WINDOW]);
        owners.extend(owners.first().copied());
        Self { hashes, owners, starts, shift, nodes, owning }
    }

    /// Number of points.
    pub(super) fn len(&self) -> usize {
        self.owners.len().saturating_sub(1)
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.hashes.capacity() * 8 + self.owners.capacity() * 2 + self.starts.capacity() * 4
    }

    /// The node whose point is the first at or after `hash`.
    #[inline]
    pub(super) fn locate(&self, hash: u64) -> Option<usize> {
        // What cannot be missing is asked for all the same, so that the usual path is free of panics.
        let start = *self.starts.get(bucket(hash, self.shift))? as usize;
        let below = below(self.hashes.get(start..start + WINDOW)?, hash);
        let position = if below < WINDOW { start + below } else { return self.locate_in_crowd(hash) };
        self.owners.get(position).map(|&node| usize::from(node))
    }

    /// The same in a bucket that is larger than the window. Apart from it, so that the usual path has little to
    /// save.
    #[cold]
    #[inline(never)]
    fn locate_in_crowd(&self, hash: u64) -> Option<usize> {
        self.owners.get(self.position(hash)).map(|&node| usize::from(node))
    }

    /// The owners of all points from `hash` on.
    #[inline]
    pub(super) fn from(&self, hash: u64) -> Owners<'_> {
        let (before, after) = self.owners[..self.len()].split_at(self.position(hash));
        Owners { halves: [after, before], nodes: self.nodes, owning: self.owning }
    }

    /// All places in order: the last one of each range and who owns it.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u64, Option<usize>)> {
        // Past the last point, the first one owns what is left.
        let owners = self.owners.iter().map(|&node| Some(usize::from(node)));
        self.hashes.iter().copied().zip(owners.chain([None])).take(self.owners.len().max(1))
    }

    /// The first point at or after `hash`, or the number of points if there is none.
    #[inline]
    fn position(&self, hash: u64) -> usize {
        let bucket = bucket(hash, self.shift);
        let start = self.starts[bucket] as usize;
        let below = below(&self.hashes[start..start + WINDOW], hash);
        if below < WINDOW {
            return start + below;
        }
        let from = start + WINDOW;
        // A bucket that ends inside the window leaves nothing to search: all before the next one are below
        // `hash`.
        let end = (self.starts[bucket + 1] as usize).max(from);
        from + self.hashes[from..end].partition_point(|&point| point < hash)
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u16)> {
        self.hashes.iter().copied().zip(self.owners[..self.len()].iter().copied())
    }
}

/// Shift and number of buckets for so many points: a power of two from 2/3 to 4/3 of a bucket per point.
fn index_size(points: usize) -> (u32, usize) {
    let wanted = points + points / 3;
    let bits = wanted.checked_ilog2().unwrap_or(0).max(1);
    (u64::BITS - bits, 1 << bits)
}

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "there are fewer buckets than points, and those are counted in u32"
)]
fn bucket(hash: u64, shift: u32) -> usize {
    (hash >> shift) as usize
}

/// How many points of a window are below a hash.
///
/// They are sorted, so as many come before it. Counting all of the window beats stopping early: where to stop is a
/// coin toss that the processor would guess wrong.
#[inline]
fn below(window: &[u64], hash: u64) -> usize {
    window.iter().map(|&point| usize::from(point < hash)).sum()
}

/// The index of sorted points.
#[expect(clippy::cast_possible_truncation, reason = "the caller bounds the number of points")]
fn index(hashes: &[u64], shift: u32, buckets: usize) -> Vec<u32> {
    let mut starts = vec![0_u32; buckets + 1];
    // The last point of a bucket has the last word on where the next bucket starts; empty ones then take
    // after the bucket before.
    for (i, &hash) in hashes.iter().enumerate() {
        starts[bucket(hash, shift) + 1] = i as u32 + 1;
    }
    let mut last = 0;
    for start in &mut starts {
        last = last.max(*start);
        *start = last;
    }
    starts
}

/// Sorts the points of one bucket, two parallel slices.
fn sort_bucket(hashes: &mut [u64], owners: &mut [u16], tie: &impl Fn(u16, u16) -> Ordering) {
    if hashes.len() > CROWDED {
        let mut points: Vec<_> =
            hashes.iter().zip(owners.iter()).map(|(&hash, &node)| Point { hash, node }).collect();
        sort_points(&mut points, tie);
        for (i, point) in points.into_iter().enumerate() {
            hashes[i] = point.hash;
            owners[i] = point.node;
        }
        return;
    }
    for end in 1..hashes.len() {
        let mut i = end;
        while i > 0
            && (hashes[i] < hashes[i - 1]
                || hashes[i] == hashes[i - 1] && tie(owners[i], owners[i - 1]) == Ordering::Less)
        {
            hashes.swap(i, i - 1);
            owners.swap(i, i - 1);
            i -= 1;
        }
    }
}

/// Sorts points by place, those in one place by `tie`. Stable.
pub(super) fn sort_points(points: &mut [Point], tie: impl Fn(u16, u16) -> Ordering) {
    points.sort_by(|a, b| a.hash.cmp(&b.hash).then_with(|| tie(a.node, b.node)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points(pairs: &[(u64, u16)]) -> Vec<Point> {
        pairs.iter().map(|&(hash, node)| Point { hash, node }).collect()
    }

    /// Hashes that crowd one end of the circle, coincide, and touch both edges.
    fn any_pairs() -> impl Strategy<Value = Vec<(u64, u16)>> {
        let hash =
            prop_oneof![any::<u64>(), 0_u64..50, u64::MAX - 2..=u64::MAX, (0_u64..4).prop_map(|n| n << 62)];
        prop::collection::vec((hash, 0_u16..40), 0..200)
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_linear_search_finds(pairs in any_pairs(), more: Vec<u64>) {
            let circle = Points::sort(&points(&pairs), 40, 40, |a, b| a.cmp(&b));
            let mut sorted = pairs.clone();
            sorted.sort_unstable();
            prop_assert_eq!(circle.iter().collect::<Vec<_>>(), sorted.clone());

            let near = pairs.iter().flat_map(|&(h, _)| [h, h.wrapping_add(1), h.wrapping_sub(1)]);
            for hash in near.chain(more) {
                let expected = sorted.iter().find(|&&(h, _)| h >= hash).or(sorted.first());
                prop_assert_eq!(circle.locate(hash), expected.map(|&(_, node)| usize::from(node)));
            }
        }

        #[test]
        fn a_walk_visits_each_owner_once_in_the_order_of_the_points(pairs in any_pairs(), hash: u64) {
            let mut owners: Vec<_> = pairs.iter().map(|&(_, node)| node).collect();
            owners.sort_unstable();
            owners.dedup();
            let circle = Points::sort(&points(&pairs), 40, owners.len(), |a, b| a.cmp(&b));

            let mut expected = Vec::new();
            let mut sorted = pairs;
            sorted.sort_unstable();
            let from = sorted.partition_point(|&(h, _)| h < hash);
            sorted.rotate_left(from);
            for (_, node) in sorted {
                if !expected.contains(&usize::from(node)) {
                    expected.push(usize::from(node));
                }
            }
            let mut walked = Vec::new();
            circle.from(hash).walk(|node| {
                walked.push(node);
                true
            });
            prop_assert_eq!(walked, expected);
        }
    }

    #[test]
    fn a_crowded_bucket_is_still_sorted_and_searched() {
        let pairs: Vec<_> = (0..1000).rev().map(|i| (i * 2, u16::try_from(i).unwrap())).collect();
        let circle = Points::sort(&points(&pairs), 1000, 1000, |a, b| a.cmp(&b));
        for i in 0..1000 {
            assert_eq!(circle.locate(i * 2), Some(usize::try_from(i).unwrap()));
            assert_eq!(circle.locate(i * 2 + 1), Some(usize::try_from((i + 1) % 1000).unwrap()));
        }
    }

    #[test]
    fn a_point_takes_at_most_16_bytes() {
        for count in [500_u64, 1_000, 12_287, 12_288, 16_000, 160_000] {
            let all: Vec<_> = (0..count).map(|i| Point { hash: i << 40, node: 0 }).collect();
            let circle = Points::sort(&all, 1, 1, |a, b| a.cmp(&b));
            assert!(circle.memory() <= all.len() * 16, "{count} points take {} bytes", circle.memory());
        }
    }
}
