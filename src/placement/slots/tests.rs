use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::*;

fn numbered(count: u32) -> impl Iterator<Item = (String, u32)> {
    (0..count).map(|i| (format!("node-{i}"), 1))
}

fn any_nodes() -> impl Strategy<Value = Vec<(String, u32)>> {
    let weights = prop_oneof![Just(1..2_u32), Just(0..4), Just(0..1000), Just(0..u32::MAX)];
    weights
        .prop_flat_map(|weight| prop::collection::btree_map(0_u32..20, weight, 0..16))
        .prop_map(|nodes| {
            nodes.into_iter().map(|(i, weight)| (format!("node-{i}"), weight)).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

/// The ids of the owners of all slots.
fn table(map: &SlotMap) -> Vec<Option<&str>> {
    map.owners().map(|owner| owner.and_then(|owner| map.id(owner))).collect()
}

/// How far the worst node is from its share, in slots.
fn worst(map: &SlotMap) -> f64 {
    let mut held = vec![0_u32; map.len()];
    map.owners().flatten().for_each(|owner| held[owner] += 1);
    let total: f64 = map.nodes().map(|(_, weight)| f64::from(weight)).sum();
    map.nodes()
        .zip(held)
        .map(|((_, weight), held)| (f64::from(held) - map.slots() as f64 * f64::from(weight) / total).abs())
        .fold(0.0, f64::max)
}

fn weights(map: &SlotMap) -> HashMap<&str, u32> {
    map.nodes().collect()
}

proptest! {
    #[test]
    fn a_new_map_is_even_to_a_slot_whatever_the_order(nodes in any_nodes(), turn: usize) {
        let map = SlotMap::with_slots(1024, nodes.clone()).unwrap();
        let mut turned = nodes.clone();
        turned.rotate_left(turn % nodes.len().max(1));
        let turned = SlotMap::with_slots(1024, turned).unwrap();
        prop_assert_eq!(table(&map), table(&turned));
        if nodes.iter().any(|node| node.1 > 0) {
            prop_assert!(worst(&map) < 1.0 + 1e-6, "{} slots off", worst(&map));
            prop_assert!(map.owners().all(|owner| owner.is_some_and(|owner| nodes[owner].1 > 0)));
        } else {
            prop_assert!(map.owners().all(|owner| owner.is_none()));
        }
    }

    #[test]
    fn through_any_history_slots_move_only_from_and_to_nodes_that_change(
        history in prop::collection::vec(any_nodes(), 1..6),
    ) {
        let mut map = SlotMap::with_slots(1024, history[0].clone()).unwrap();
        for nodes in &history[1..] {
            let next = map.rebalanced(nodes.clone()).unwrap();
            let (old, new) = (weights(&map), weights(&next));
            for (from, to) in table(&map).into_iter().zip(table(&next)).filter(|(from, to)| from != to) {
                let falls = from.is_none_or(|id| new.get(id) < old.get(id));
                let rises = to.is_some_and(|id| new.get(id) > old.get(id));
                prop_assert!(falls || rises, "{from:?} -> {to:?}");
            }
            if nodes.iter().any(|node| node.1 > 0) {
                prop_assert!(next.owners().all(|owner| owner.is_some_and(|owner| nodes[owner].1 > 0)));
            }
            map = next;
        }
    }

    #[test]
    fn one_change_after_the_other_shares_stay_even(
        changes in prop::collection::vec((0_u32..20, 0_u32..5), 1..40),
    ) {
        let mut nodes: BTreeMap<String, u32> = numbered(5).collect();
        let mut map = SlotMap::with_slots(1024, nodes.clone()).unwrap();
        for (id, weight) in changes {
            nodes.insert(format!("node-{id}"), weight);
            map = map.rebalanced(nodes.clone()).unwrap();
            if nodes.values().any(|&weight| weight > 0) {
                prop_assert!(worst(&map) < 2.0, "{} slots off", worst(&map));
            }
        }
    }

    #[test]
    fn a_plan_leads_to_its_target_in_steps_of_any_size(
        before in any_nodes(), after in any_nodes(), pin in (0_u16..256, 0_usize..16), size in 1_usize..300,
    ) {
        let mut map = SlotMap::with_slots(256, before.clone()).unwrap();
        if let Some((id, _)) = before.get(pin.1) {
            map = map.pinned(pin.0, id).unwrap();
        }
        let target = map.rebalanced(after).unwrap();
        let plan = map.plan(&target).unwrap();
        prop_assert_eq!(&map.apply(&plan).unwrap(), &target);
        prop_assert_eq!(&target.apply(&plan).unwrap(), &target, "twice is as good as once");
        let moved = table(&map).iter().zip(table(&target)).filter(|(from, to)| **from != *to).count();
        prop_assert_eq!(plan.moves.len(), moved);

        let mut current = map.clone();
        for step in plan.steps(size) {
            prop_assert!(step.moves.len() <= size);
            current = current.apply(&step).unwrap();
            prop_assert_eq!(&current.apply(&step).unwrap(), &current);
        }
        prop_assert_eq!(&current, &target);
        let back = target.plan(&map).unwrap();
        prop_assert_eq!(&target.apply(&back).unwrap(), &map);
    }

    #[test]
    fn replicas_are_distinct_and_each_set_begins_with_the_smaller_one(nodes in any_nodes(), key: u64) {
        let map = SlotMap::with_slots(1024, nodes.clone()).unwrap();
        let key = KeyHash::from_u64(key);
        let able = nodes.iter().filter(|node| node.1 > 0).count();
        let all = map.replicas(key, usize::MAX);
        prop_assert_eq!(all.len(), able);
        prop_assert_eq!(all.iter().collect::<HashSet<_>>().len(), able);
        prop_assert_eq!(map.locate(key), all.first().copied());
        let mut walked = Vec::new();
        map.walk(key, &mut |node| { walked.push(node); true });
        prop_assert_eq!(&walked, &*all);
        for count in 0..=able {
            prop_assert_eq!(&*map.replicas(key, count), &all[..count]);
        }
    }
}

#[test]
fn one_more_node_moves_its_share_and_no_more() {
    for count in [10, 100, 1000] {
        let before = SlotMap::new(numbered(count)).unwrap();
        let after = before.rebalanced(numbered(count + 1)).unwrap();
        let plan = before.plan(&after).unwrap();
        assert_eq!(plan.moves.len(), 16_384 / (count as usize + 1), "{count}");
        assert!(plan.moves.iter().all(|step| step.to.as_deref() == Some(&*format!("node-{count}"))));

        let back = after.rebalanced(numbered(count)).unwrap();
        assert_eq!(after.plan(&back).unwrap().moves.len(), plan.moves.len());
    }
}

#[test]
fn shares_of_100_nodes_are_within_half_a_percent() {
    let map = SlotMap::new(numbered(100)).unwrap();
    let mut held = [0_u32; 100];
    map.owners().flatten().for_each(|owner| held[owner] += 1);
    assert_eq!((held.iter().min(), held.iter().max()), (Some(&163), Some(&164)));
}

#[test]
fn a_pinned_slot_stays_until_its_node_goes() {
    let map = SlotMap::with_slots(64, numbered(4)).unwrap();
    let slot = (0..64).find(|&slot| map.owner(slot) != Some(1)).unwrap();
    let map = map.pinned(slot, "node-1").unwrap();
    assert_eq!(map.pins().collect::<Vec<_>>(), [slot]);
    // However little room there is for it.
    let full =
        map.rebalanced((0..4).map(|i| (format!("node-{i}"), if i == 1 { 1 } else { 1_000_000 }))).unwrap();
    assert_eq!((full.owner(slot), full.pins().len()), (Some(1), 1));
    let drained = map.rebalanced((0..4).map(|i| (format!("node-{i}"), u32::from(i != 1)))).unwrap();
    assert!(drained.owner(slot) != Some(1) && drained.pins().len() == 0);
    let free = map.unpinned(slot).rebalanced([("node-1", 1), ("node-2", 1_000_000)]).unwrap();
    assert_eq!(free.owner(slot), Some(1), "64 slots for a million: none is left");
    assert!(map.pinned(64, "node-1").is_err() && map.pinned(0, "node-9").is_err());
}

#[test]
fn a_plan_that_does_not_fit_is_refused() {
    let map = SlotMap::with_slots(64, numbered(3)).unwrap();
    let target = map.rebalanced(numbered(4)).unwrap();
    let plan = map.plan(&target).unwrap();
    let slot = plan.moves[0].slot;

    let other = if plan.moves[0].from.as_deref() == Some("node-0") { "node-1" } else { "node-0" };
    let moved_on = map.pinned(slot, other).unwrap();
    assert_eq!(moved_on.apply(&plan).unwrap_err(), PlacementError::StalePlan { slot });

    let mut wrong = plan.clone();
    wrong.moves[0].slot = 64;
    assert_eq!(map.apply(&wrong).unwrap_err(), PlacementError::UnknownSlot { slot: 64 });
    let mut wrong = plan.clone();
    wrong.nodes.pop();
    assert_eq!(map.apply(&wrong).unwrap_err(), PlacementError::UnknownNode { id: "node-3".into() });
    let mut wrong = plan.clone();
    wrong.nodes.remove(0);
    assert!(matches!(map.apply(&wrong).unwrap_err(), PlacementError::StalePlan { .. }));
    let mut wrong = plan.clone();
    wrong.nodes.push(wrong.nodes[0].clone());
    assert!(matches!(map.apply(&wrong).unwrap_err(), PlacementError::DuplicateId { .. }));
    let mut wrong = plan;
    wrong.pins.insert(64);
    assert!(map.apply(&wrong).is_err());

    let other = SlotMap::with_slots(128, numbered(3)).unwrap();
    assert_eq!(map.plan(&other).unwrap_err(), PlacementError::SlotCount { slots: 128 });
}

#[test]
fn a_map_that_cannot_be_is_an_error() {
    for slots in [0, 1, 3, 1000, 1 << 17, u32::MAX] {
        let error = SlotMap::with_slots(slots, numbered(1)).unwrap_err();
        assert_eq!(error, PlacementError::SlotCount { slots: slots as usize });
    }
    assert_eq!(SlotMap::with_slots(1 << 16, numbered(1)).unwrap().owner(u16::MAX), Some(0));
    assert!(SlotMap::new([("a", 1), ("a", 1)]).is_err());
    assert!(SlotMap::from_owners(numbered(2), [Some(0), Some(2)]).is_err());
    assert!(SlotMap::from_owners(numbered(2), std::iter::repeat(Some(0))).is_err());
    let owned = SlotMap::from_owners(numbered(2), [Some(1), None]).unwrap();
    assert_eq!((owned.owner(0), owned.owner(1), owned.owner(2)), (Some(1), None, None));
    // Whoever is to take over a slot without an owner comes first.
    assert_eq!(owned.replicas(KeyHash::from_u64(u64::MAX), 9).len(), 2);
}

#[test]
fn nobody_places_nothing() {
    for map in [SlotMap::new::<&str>([]).unwrap(), SlotMap::new([("a", 0)]).unwrap()] {
        assert_eq!(map.locate(KeyHash::of("key")), None);
        assert!(map.replicas(KeyHash::of("key"), 3).is_empty());
        assert_eq!(map.rebalanced([("b", 1)]).unwrap().locate(KeyHash::of("key")), Some(0));
    }
}
