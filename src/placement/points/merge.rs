//! Points of a changed list of nodes out of those of the list before.

use std::cmp::Ordering;

use super::{Point, Points, WINDOW, bucket, index, index_size};
use crate::placement::nodes::NOBODY;

/// What changes from one list of nodes to the next.
pub(in crate::placement) struct Change {
    /// For each old node its new number; [`NOBODY`] if it owns nothing any more.
    pub(in crate::placement) renumber: Vec<u16>,
    /// Points with new numbers, sorted, ties too.
    pub(in crate::placement) added: Vec<Point>,
    /// Points with old numbers, among them all those of nodes that are gone. Sorted, ties by number.
    pub(in crate::placement) dropped: Vec<Point>,
    /// Number of nodes in the new list.
    pub(in crate::placement) nodes: usize,
    /// Number of them that own points.
    pub(in crate::placement) owning: usize,
}

/// Where a change touches the old points.
struct Cut {
    /// The first old point that is not before the cut.
    at: usize,
    hash: u64,
    /// The owner of a point to put here; without one, the point here goes.
    add: Option<u16>,
}

impl Points {
    /// Applies a change; `tie` orders new nodes whose points coincide.
    ///
    /// What lies between the cuts is copied whole: O(points) at the speed of memory, plus a lookup per
    /// changed point.
    pub(in crate::placement) fn merge(&self, change: &Change, tie: impl Fn(u16, u16) -> Ordering) -> Self {
        let cuts = self.cuts(change, tie);
        let size = self.len() + change.added.len() - change.dropped.len();
        let mut hashes = Vec::with_capacity(size + WINDOW);
        let mut owners = Vec::with_capacity(size + 1);
        let mut from = 0;
        for (to, cut) in cuts.iter().map(|cut| (cut.at, Some(cut))).chain([(self.len(), None)]) {
            hashes.extend_from_slice(&self.hashes[from..to]);
            owners.extend(self.owners[from..to].iter().map(|&old| change.renumber[usize::from(old)]));
            from = to;
            match cut {
                Some(&Cut { hash, add: Some(node), .. }) => {
                    hashes.push(hash);
                    owners.push(node);
                }
                Some(_) => from += 1,
                None => {}
            }
        }

        let (shift, buckets) = index_size(size);
        let starts =
            if shift == self.shift { self.shift_starts(&cuts) } else { index(&hashes, shift, buckets) };
        Self::close(hashes, owners, starts, shift, change.nodes, change.owning)
    }

    /// The cuts of a change from first to last.
    fn cuts(&self, change: &Change, tie: impl Fn(u16, u16) -> Ordering) -> Vec<Cut> {
        let mut cuts = Vec::with_capacity(change.added.len() + change.dropped.len());
        for &Point { hash, node } in &change.added {
            let mut at = self.position(hash);
            // Among points in the same place, past those of nodes that come first.
            while at < self.len() && self.hashes[at] == hash {
                let other = change.renumber[usize::from(self.owners[at])];
                if other != NOBODY && tie(other, node) != Ordering::Less {
                    break;
                }
                at += 1;
            }
            cuts.push(Cut { at, hash, add: Some(node) });
        }
        let mut last = None;
        for &Point { hash, node } in &change.dropped {
            // A node may have several points in one place: each goes once.
            let mut at = match last {
                Some((point, at)) if point == (hash, node) => at + 1,
                _ => self.position(hash),
            };
            while self.owners[at] != node {
                at += 1;
            }
            last = Some(((hash, node), at));
            cuts.push(Cut { at, hash, add: None });
        }
        // Stable: points added in one place stay in their order.
        cuts.sort_by_key(|cut| cut.at);
        cuts
    }

    /// The index after the cuts: each start moves by the points that came and went before it.
    fn shift_starts(&self, cuts: &[Cut]) -> Vec<u32> {
        let mut starts = self.starts.clone();
        let mut more = 0_u32;
        let mut from = 0;
        for cut in cuts {
            let to = bucket(cut.hash, self.shift) + 1;
            starts[from..to].iter_mut().for_each(|start| *start = start.wrapping_add(more));
            // A count that falls below zero for a while is right again by the time it is added.
            more = if cut.add.is_some() { more.wrapping_add(1) } else { more.wrapping_sub(1) };
            from = to;
        }
        starts[from..].iter_mut().for_each(|start| *start = start.wrapping_add(more));
        starts
    }
}
