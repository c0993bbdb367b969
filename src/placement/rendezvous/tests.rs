use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn owner(placement: &Rendezvous, key: u64) -> Option<&str> {
    placement.locate(KeyHash::of(&key)).and_then(|node| placement.id(node))
}

fn numbered(count: u32) -> impl Iterator<Item = (String, u32)> {
    (0..count).map(|i| (format!("node-{i}"), 1))
}

/// A list of nodes with distinct ids; all of weight 1, or weights up to a limit, some of them 0.
fn any_nodes() -> impl Strategy<Value = Vec<(String, u32)>> {
    let weight = prop_oneof![Just(2..3_u32), Just(0..4), Just(0..u32::MAX)]
        .prop_flat_map(|weight| prop::collection::btree_map(0_u32..40, weight, 0..30));
    weight
        .prop_map(|nodes| {
            nodes.into_iter().map(|(i, weight)| (format!("node-{i}"), weight)).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

proptest! {
    #[test]
    fn the_order_of_the_list_does_not_matter(nodes in any_nodes(), turn: usize, keys: [u64; 16]) {
        let mut turned = nodes.clone();
        turned.rotate_left(turn % nodes.len().max(1));
        let (a, b) = (Rendezvous::new(nodes).unwrap(), Rendezvous::new(turned).unwrap());
        for key in keys {
            prop_assert_eq!(owner(&a, key), owner(&b, key));
        }
    }

    #[test]
    fn a_change_of_one_node_moves_no_key_between_others(
        nodes in any_nodes(), id in 0_u32..40, weight in prop_oneof![0_u32..6, any::<u32>()], keys: [u64; 32],
    ) {
        let id = format!("node-{id}");
        let before = Rendezvous::new(nodes).unwrap();
        for after in [before.with(&id, weight).unwrap(), before.without(&id)] {
            let old = before.nodes().find(|node| node.0 == id).map_or(0, |node| node.1);
            let new = after.nodes().find(|node| node.0 == id).map_or(0, |node| node.1);
            for key in keys {
                let (from, to) = (owner(&before, key), owner(&after, key));
                let allowed = if new > old { to } else { from };
                prop_assert!(from == to || allowed == Some(&*id), "{from:?} -> {to:?} by {id}: {old} -> {new}");
            }
        }
    }

    #[test]
    fn replicas_are_distinct_and_each_set_begins_with_the_smaller_one(nodes in any_nodes(), key: u64) {
        let placement = Rendezvous::new(nodes.clone()).unwrap();
        let key = KeyHash::from_u64(key);
        let able = nodes.iter().filter(|node| node.1 > 0).count();
        let all = placement.replicas(key, usize::MAX);
        prop_assert_eq!(all.len(), able);
        prop_assert_eq!(all.iter().collect::<HashSet<_>>().len(), able);
        prop_assert!(all.iter().all(|&node| nodes[node].1 > 0));
        prop_assert_eq!(placement.locate(key), all.first().copied());
        for count in 0..=able {
            prop_assert_eq!(&*placement.replicas(key, count), &all[..count]);
        }
    }

    #[test]
    fn whoever_is_next_inherits_the_keys_of_an_owner_that_goes(nodes in any_nodes(), key: u64) {
        let placement = Rendezvous::new(nodes).unwrap();
        let key = KeyHash::from_u64(key);
        if let [first, second] = *placement.replicas(key, 2) {
            let smaller = placement.without(placement.id(first).unwrap());
            prop_assert_eq!(smaller.id(smaller.locate(key).unwrap()), placement.id(second));
        }
    }
}

/// Largest part by which a count is off what its weight should get.
fn worst(counts: &[u32], weights: &[u32]) -> f64 {
    let (keys, total): (u32, u32) = (counts.iter().sum(), weights.iter().sum());
    counts
        .iter()
        .zip(weights)
        .map(|(&count, &weight)| {
            f64::from(count) * f64::from(total) / f64::from(keys) / f64::from(weight) - 1.0
        })
        .fold(0.0, |worst: f64, off| worst.max(off.abs()))
}

#[test]
fn shares_are_even() {
    let placement = Rendezvous::new(numbered(50)).unwrap();
    let (mut first, mut second) = ([0_u32; 50], [0_u32; 50]);
    for key in 0..500_000_u64 {
        let replicas = placement.replicas(KeyHash::of(&key), 2);
        first[replicas[0]] += 1;
        // Who follows the first node says how its keys are spread when it goes.
        if replicas[0] == 0 {
            second[replicas[1]] += 1;
        }
    }
    // Chance alone puts a node of 10 000 keys off by 1 %, one of 200 by 7 %.
    assert!(worst(&first, &[1; 50]) < 0.04, "{first:?}");
    assert!(worst(&second[1..], &[1; 49]) < 0.28, "{second:?}");
}

#[test]
fn a_share_follows_the_weight() {
    let weights = [1, 2, 3, 10, 100];
    let placement =
        Rendezvous::new(weights.iter().enumerate().map(|(i, &weight)| (i.to_string(), weight))).unwrap();
    let mut counts = [0_u32; 5];
    for key in 0..1_000_000_u64 {
        counts[placement.locate(KeyHash::of(&key)).unwrap()] += 1;
    }
    // The smallest has 8600 keys, of which chance takes or gives 1 %.
    assert!(worst(&counts, &weights) < 0.04, "{counts:?}");
}

#[test]
fn equal_weights_place_alike_whatever_they_are() {
    let ones = Rendezvous::new((0..20).map(|i| (i.to_string(), 1))).unwrap();
    let many = Rendezvous::new((0..20).map(|i| (i.to_string(), u32::MAX))).unwrap();
    for key in 0..1000 {
        assert_eq!(ones.locate(KeyHash::of(&key)), many.locate(KeyHash::of(&key)));
        assert_eq!(ones.locate(KeyHash::of(&key)), ones.ranks.best::<false>(KeyHash::of(&key).get()));
    }
}

#[test]
fn nobody_places_nothing() {
    for placement in [
        Rendezvous::new::<&str>([]).unwrap(),
        Rendezvous::new([("a", 0), ("b", 0)]).unwrap(),
        Rendezvous::new([("a", 1)]).unwrap().without("a"),
        Rendezvous::new([("a", 1)]).unwrap().with("a", 0).unwrap(),
    ] {
        assert_eq!(placement.locate(KeyHash::of("key")), None);
        assert!(placement.replicas(KeyHash::of("key"), 3).is_empty());
        assert!(placement.replicas(KeyHash::of("key"), 30).is_empty());
    }
}

#[test]
fn a_list_that_cannot_be_is_an_error() {
    let twice = Rendezvous::new([("a", 1), ("a", 1)]).unwrap_err();
    assert_eq!(twice, PlacementError::DuplicateId { id: "a".into() });
    let endless = Rendezvous::new((0_u64..).map(|i| (i.to_string(), 1))).unwrap_err();
    assert_eq!(endless, PlacementError::TooManyNodes { max: 65_535 });
}
