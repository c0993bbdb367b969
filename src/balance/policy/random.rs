//! Random choice, even or by weight.

use crate::balance::{Nodes, PickCx, Picker, Policy, any_eligible};

/// How often an ineligible node is drawn before all are looked at.
const DRAWS: usize = 16;

/// Any node, each as likely as the next.
///
/// Needs no state at all, so it suits many clients with few requests each. Queues grow longer than with policies that
/// look at load: above 60 % utilisation of unequal nodes, use one of those. O(1) while most nodes are healthy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Random;

impl Policy for Random {
    fn picker(&self, _: &Nodes, _: Option<&dyn Picker>) -> Box<dyn Picker> {
        Box::new(Random)
    }
}

impl Picker for Random {
    fn pick(&self, nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
        if nodes.is_empty() {
            return None;
        }
        for _ in 0..DRAWS {
            let index = cx.rng.below(nodes.len());
            if cx.can_take(&nodes[index]) {
                return Some(index);
            }
        }
        any_eligible(nodes, cx)
    }
}

/// Any node, each as likely as its weight says.
///
/// O(1) by the alias method (Walker 1977, in Vose's form of 1991) while most nodes are healthy.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedRandom;

impl Policy for WeightedRandom {
    fn picker(&self, nodes: &Nodes, _: Option<&dyn Picker>) -> Box<dyn Picker> {
        Box::new(AliasTable::new(nodes.iter().map(|member| member.node.weight)))
    }
}

/// Columns of equal width, each shared by at most two nodes.
#[derive(Debug)]
struct AliasTable {
    columns: Vec<Column>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    /// Draws below this stay in the column; the others go to `alias`. 2³² keeps all.
    keep: u64,
    alias: u32,
}

impl AliasTable {
    fn new(weights: impl Iterator<Item = u16>) -> Self {
        // In units of total / n, scaled by n to stay whole: a column holds exactly `total`.
        let weights: Vec<u64> = weights.map(u64::from).collect();
        let total: u64 = weights.iter().sum();
        let n = weights.len() as u64;
        let mut left: Vec<u64> = weights.iter().map(|weight| weight * n).collect();
        let mut columns = vec![Column { keep: 1 << 32, alias: 0 }; left.len()];
        let (mut small, mut large): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        for (index, &share) in (0_u32..).zip(&left) {
            if share < total { small.push(index) } else { large.push(index) }
        }
        while let (Some(lesser), Some(&greater)) = (small.pop(), large.last()) {
            let share = left[lesser as usize];
            let keep = (u128::from(share) << 32) / u128::from(total);
            columns[lesser as usize] =
                Column { keep: u64::try_from(keep).unwrap_or(1 << 32), alias: greater };
            left[greater as usize] -= total - share;
            if left[greater as usize] < total {
                large.pop();
                small.push(greater);
            }
        }
        Self { columns }
    }
}

impl Picker for AliasTable {
    fn pick(&self, nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
        if self.columns.is_empty() {
            return None;
        }
        for _ in 0..DRAWS {
            let column = cx.rng.below(self.columns.len());
            let Column { keep, alias } = self.columns[column];
            let index = if cx.rng.next_u64() >> 32 < keep { column } else { alias as usize };
            if cx.can_take(&nodes[index]) {
                return Some(index);
            }
        }
        any_eligible_by_weight(nodes, cx)
    }
}

/// One of the nodes that can take the request, by weight. O(n).
fn any_eligible_by_weight(nodes: &Nodes, cx: &mut PickCx<'_>) -> Option<usize> {
    let mut total = 0;
    let mut chosen = None;
    for (index, member) in nodes.iter().enumerate() {
        if cx.can_take(member) {
            let weight = usize::from(member.node.weight);
            total += weight;
            if cx.rng.below(total) < weight {
                chosen = Some(index);
            }
        }
    }
    chosen
}
