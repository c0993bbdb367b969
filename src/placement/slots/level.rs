//! Which slots move so that every node has its share, and no more than that.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
};

use crate::placement::nodes::{NOBODY, NodeList, number};

/// What a node was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Was {
    New,
    Weight(u32),
}

/// Gives homeless slots to nodes that lack some, then moves slots to nodes that have more weight than before, and
/// away from nodes that have less, while that makes shares more even.
///
/// What moves between two nodes that stay as they are is nothing, by construction: one of the two ends of a move
/// is always a node that changes.
pub(super) fn level(owners: &mut [u16], nodes: &NodeList, was: &[Was], pins: &BTreeSet<u16>) {
    let mut scales = Scales::new(owners, nodes);
    if scales.total == 0 {
        return;
    }
    scales.house(owners);
    let rises = |node: usize| match was[node] {
        Was::New => true,
        Was::Weight(before) => scales.weights[node] > before,
    };
    let falls = |node: usize| matches!(was[node], Was::Weight(before) if scales.weights[node] < before);
    let able: Vec<_> = (0..nodes.len()).filter(|&node| scales.weights[node] > 0).collect();
    let (rising, falling): (Vec<_>, Vec<_>) = (
        able.iter().copied().filter(|&n| rises(n)).collect(),
        able.iter().copied().filter(|&n| falls(n)).collect(),
    );
    if rising.is_empty() && falling.is_empty() {
        return;
    }
    scales.even_out(owners, pins, &rising, &able);
    scales.even_out(owners, pins, &able, &falling);
}

/// What each node has and what it should have.
struct Scales {
    weights: Vec<u32>,
    /// Sum of the weights. With S slots, S · weight / total is a node's share.
    total: i128,
    /// How far each node is below its share, in parts of a slot: `total` of them are one.
    missing: Vec<i128>,
    /// Where each node is among all when ordered by id.
    order: Vec<usize>,
}

impl Scales {
    fn new(owners: &[u16], nodes: &NodeList) -> Self {
        let weights: Vec<_> = nodes.iter().map(|(_, weight)| weight).collect();
        let total = weights.iter().copied().map(i128::from).sum();
        let mut held = vec![0_u32; nodes.len()];
        for &owner in owners {
            if let Some(held) = held.get_mut(usize::from(owner)) {
                *held += 1;
            }
        }
        let share = |weight: u32| owners.len() as i128 * i128::from(weight);
        let missing = weights
            .iter()
            .zip(held)
            .map(|(&weight, held)| share(weight) - i128::from(held) * total)
            .collect();
        let mut order = vec![0; nodes.len()];
        for (i, node) in nodes.sorted().into_iter().enumerate() {
            order[usize::from(node)] = i;
        }
        Self { weights, total, missing, order }
    }

    /// Most missing first, then ids in order.
    fn lacking(&self, node: usize) -> (i128, Reverse<usize>, usize) {
        (self.missing[node], Reverse(self.order[node]), node)
    }

    /// Most above its share first, then ids in order.
    fn wealthy(&self, node: usize) -> (i128, Reverse<usize>, usize) {
        (-self.missing[node], Reverse(self.order[node]), node)
    }

    /// Gives every slot that nobody has to the node that lacks most.
    fn house(&mut self, owners: &mut [u16]) {
        let mut takers: BinaryHeap<_> = (0..self.weights.len())
            .filter(|&node| self.weights[node] > 0)
            .map(|node| self.lacking(node))
            .collect();
        for owner in owners.iter_mut().filter(|owner| **owner == NOBODY) {
            let Some(mut top) = takers.peek_mut() else { return };
            let node = top.2;
            *owner = number(node);
            self.missing[node] -= self.total;
            *top = self.lacking(node);
        }
    }

    /// Moves slots from some nodes to some others, as long as the two ends come closer to their shares.
    fn even_out(&mut self, owners: &mut [u16], pins: &BTreeSet<u16>, to: &[usize], from: &[usize]) {
        let mut movable = vec![0_u32; self.weights.len()];
        for &owner in &*owners {
            movable[usize::from(owner)] += 1;
        }
        for &pin in pins {
            movable[usize::from(owners[usize::from(pin)])] -= 1;
        }
        let mut takers: BinaryHeap<_> = to.iter().map(|&node| self.lacking(node)).collect();
        let mut givers: BinaryHeap<_> = from.iter().map(|&node| self.wealthy(node)).collect();
        // Who gets what a node gives, in order.
        let mut given = vec![Vec::new(); self.weights.len()];
        while let (Some(&(lacks, _, taker)), Some(&(has, _, giver))) = (takers.peek(), givers.peek()) {
            // A node may be in both heaps, and what one says of it is old once the other has moved it. It then
            // has come closer to its share, so that nothing it should have been asked for is missed.
            if lacks != self.missing[taker] {
                takers.pop();
                takers.push(self.lacking(taker));
                continue;
            }
            if has != -self.missing[giver] {
                givers.pop();
                givers.push(self.wealthy(giver));
                continue;
            }
            // At a difference of one slot, a move would only swap the two.
            if lacks + has <= self.total {
                break;
            }
            if movable[giver] == 0 {
                givers.pop();
                continue;
            }
            movable[giver] -= 1;
            given[giver].push(number(taker));
            self.missing[taker] -= self.total;
            self.missing[giver] += self.total;
        }
        let mut left: usize = given.iter().map(Vec::len).sum();
        let mut given: Vec<_> = given.into_iter().map(Vec::into_iter).collect();
        let pinned = |slot: usize| u16::try_from(slot).is_ok_and(|slot| pins.contains(&slot));
        for (slot, owner) in owners.iter_mut().enumerate().rev() {
            if left == 0 {
                return;
            }
            if !pinned(slot)
                && let Some(taker) = given[usize::from(*owner)].next()
            {
                *owner = taker;
                left -= 1;
            }
        }
    }
}
