//! How evenly a placement shares keys out.

use std::{collections::BTreeMap, sync::Arc};

use super::{KeyHash, Placement, Ranges, Zones, movement::named};

/// Which share of all keys each node has. To be looked at before a placement is put to use.
///
/// ```
/// use buttress::placement::{BalanceReport, Ring};
///
/// let ring = Ring::new((0..100).map(|i| (format!("node-{i}"), 1)))?;
/// let report = BalanceReport::of(&ring);
/// assert!(report.max_over_mean() < 1.25);
/// assert!(report.deviation() < 0.1);
/// # Ok::<(), buttress::placement::PlacementError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BalanceReport {
    /// The nodes, as listed.
    pub nodes: Vec<NodeShare>,
}

/// What one node has.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeShare {
    /// The node, or its position where the placement knows no ids.
    pub id: Arc<str>,
    /// Its weight, or 1 where the placement knows none.
    pub weight: u32,
    /// The share of all keys that it owns.
    pub share: f64,
}

impl BalanceReport {
    /// Measures a placement exactly. O(ranges).
    pub fn of(placement: &impl Ranges) -> Self {
        let mut owned = vec![0_u128; placement.len()];
        let mut first = Some(0_u64);
        for (last, owner) in placement.ranges() {
            let Some(from) = first.filter(|&from| from <= last) else { continue };
            if let Some(owned) = owner.and_then(|owner| owned.get_mut(owner)) {
                *owned += u128::from(last - from) + 1;
            }
            first = last.checked_add(1);
        }
        Self::new(placement, &owned, 1 << 64)
    }

    /// Counts where some keys live. For placements without [`Ranges`], or for keys as they really are.
    ///
    /// Even if a placement is perfect, the busiest of `n` nodes has more keys than others by chance: of a
    /// thousand keys each, about 10 % more for 1000 nodes.
    pub fn of_keys(placement: &(impl Placement + ?Sized), keys: impl IntoIterator<Item = KeyHash>) -> Self {
        let mut owned = vec![0_u128; placement.len()];
        let mut all = 0;
        for key in keys {
            all += 1;
            if let Some(owned) = placement.locate(key).and_then(|owner| owned.get_mut(owner)) {
                *owned += 1;
            }
        }
        Self::new(placement, &owned, all)
    }

    fn new(placement: &(impl Placement + ?Sized), owned: &[u128], all: u128) -> Self {
        let nodes = named(placement).zip(owned).map(|((id, weight), &owned)| {
            let share = if all == 0 { 0.0 } else { owned as f64 / all as f64 };
            NodeShare { id, weight, share }
        });
        Self { nodes: nodes.collect() }
    }

    /// What the node has that has the most for its weight, in parts of what it should have: 1.2 is a fifth too
    /// much. 0 if no node has weight.
    pub fn max_over_mean(&self) -> f64 {
        self.loads().fold(0.0, f64::max)
    }

    /// What the node has that has the least for its weight, in parts of what it should have. 0 if no node has
    /// weight.
    pub fn min_over_mean(&self) -> f64 {
        self.loads().reduce(f64::min).unwrap_or(0.0)
    }

    /// How far nodes are from what they should have, as a standard deviation: 0.08 is 8 %.
    pub fn deviation(&self) -> f64 {
        let count = self.loads().count().max(1) as f64;
        (self.loads().map(|load| (load - 1.0).powi(2)).sum::<f64>() / count).sqrt()
    }

    /// The share of all keys that each zone has, by name. Nodes in no zone are left out.
    pub fn zones(&self, zones: &Zones) -> BTreeMap<String, f64> {
        let mut shares = BTreeMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            if let Some(zone) = zones.name(i) {
                *shares.entry(zone.to_owned()).or_default() += node.share;
            }
        }
        shares
    }

    /// What each node with weight has, in parts of what it should have.
    fn loads(&self) -> impl Iterator<Item = f64> {
        let total: u64 = self.nodes.iter().map(|node| u64::from(node.weight)).sum();
        self.nodes
            .iter()
            .filter(|node| node.weight > 0)
            .map(move |node| node.share * total as f64 / f64::from(node.weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::{JumpShards, Maglev, Ring, SlotMap};

    #[test]
    fn shares_are_those_of_the_keys() {
        let nodes = || (0..20).map(|i| (i.to_string(), i % 4));
        let ring = Ring::new(nodes()).unwrap();
        let keys = (0..200_000_u32).map(|key| KeyHash::of(&key));
        let (exact, counted) = (BalanceReport::of(&ring), BalanceReport::of_keys(&ring, keys));
        for (exact, counted) in exact.nodes.iter().zip(&counted.nodes) {
            assert_eq!((&exact.id, exact.weight), (&counted.id, counted.weight));
            assert!((exact.share - counted.share).abs() < 0.003, "{exact:?} {counted:?}");
            assert_eq!(exact.weight == 0, exact.share == 0.0);
        }
        assert!((exact.nodes.iter().map(|node| node.share).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!((0.7..1.0).contains(&exact.min_over_mean()) && (1.0..1.3).contains(&exact.max_over_mean()));
    }

    #[test]
    fn tables_and_slots_are_even() {
        let nodes = || (0..100).map(|i| (i.to_string(), 1));
        let slots = BalanceReport::of(&SlotMap::new(nodes()).unwrap());
        assert!(slots.max_over_mean() <= 1.005 && slots.deviation() < 0.004);
        let table = BalanceReport::of(&Maglev::new(nodes()).unwrap());
        assert!(table.max_over_mean() < 1.002, "{}", table.max_over_mean());
        let keys = (0..10_000_u32).map(|key| KeyHash::of(&key));
        let jump = BalanceReport::of_keys(&JumpShards::new(4), keys);
        assert_eq!(&*jump.nodes[3].id, "3");
        assert!(jump.max_over_mean() < 1.05);
    }

    #[test]
    fn zones_have_the_shares_of_their_nodes() {
        let map = SlotMap::new([("a", 1), ("b", 1), ("c", 2), ("d", 4)]).unwrap();
        let zones = BalanceReport::of(&map).zones(&Zones::new(["x", "y", "x"]));
        assert_eq!(zones, BTreeMap::from([("x".into(), 0.375), ("y".into(), 0.125)]));
    }

    #[test]
    fn of_nobody_there_is_nothing_to_say() {
        for report in [
            BalanceReport::of(&Ring::new::<&str>([]).unwrap()),
            BalanceReport::of(&Ring::new([("a", 0)]).unwrap()),
            BalanceReport::of_keys(&JumpShards::new(0), [KeyHash::of("key")]),
        ] {
            assert_eq!((report.max_over_mean(), report.min_over_mean(), report.deviation()), (0.0, 0.0, 0.0));
        }
    }
}
