//! Slow start: a node that returns takes up its share little by little.

use std::{collections::HashSet, time::Duration};

use buttress::{
    balance::{Balance, ConsistentHash, LeastRequest, LeastResponseTime, Policy, Random, RoundRobin},
    cluster::{Cluster, ClusterError, Health, Node, SlowStart, Verdict},
    health::OutlierDetection,
    placement::KeyHash,
    time::ManualClock,
};

use crate::support::{World, name, named, send};

const WINDOW: SlowStart = SlowStart::new(Duration::from_secs(10));

fn fine(_: &str) -> Verdict {
    Verdict::Success
}

/// A world of five that has been at work for longer than the window.
fn warm() -> World {
    let world = World::gentle(OutlierDetection::new(), WINDOW, named(5));
    send(&world.balance(RoundRobin), 5, fine);
    world.pass(20_000);
    world
}

/// What `node` gets of so many requests, over its even share.
fn share(balance: &Balance<()>, node: &str) -> f64 {
    let counts = send(balance, 20_000, fine);
    counts.get(node).copied().unwrap_or_default() as f64 / 4000.0
}

/// Whatever brings the node back, its share grows in ten seconds.
fn grows(world: &World, policy: impl Policy, node: &str) {
    let balance = world.balance(policy);
    for part in [0.1, 0.25, 0.5, 0.75] {
        world.pass(if part < 0.2 { 0 } else { 2500 });
        let share = share(&balance, node);
        // What it does not get goes to the others; where it takes turns with them, it gets a part of that.
        let most = part * 5.0 / (4.0 + part);
        assert!((part - 0.06..most + 0.06).contains(&share), "{share} instead of {part}");
    }
    world.pass(2500);
    let share = share(&balance, node);
    assert!((share - 1.0).abs() < 0.2, "{share} instead of all");
}

#[test]
fn a_node_whose_ejection_is_over_warms_up() {
    for policy in [Box::new(RoundRobin) as Box<dyn Policy>, Box::new(Random), Box::new(LeastRequest::new())] {
        let world = warm();
        world.eject("b");
        world.pass(5000);
        send(&world.balance(Random), 1, fine);
        assert!(!world.is_out("b"));
        grows(&world, policy, "b");
    }
}

#[test]
fn a_node_that_checks_find_up_again_warms_up() {
    let world = warm();
    world.cluster.set_health("c", Health::Down).unwrap();
    world.pass(1000);
    world.cluster.set_health("c", Health::Up).unwrap();
    grows(&world, RoundRobin, "c");
}

#[test]
fn a_node_that_was_down_and_says_first_that_it_drains_warms_up_too() {
    let world = warm();
    for health in [Health::Down, Health::Draining] {
        world.cluster.set_health("c", health).unwrap();
        world.pass(20_000);
    }
    world.cluster.set_health("c", Health::Up).unwrap();
    grows(&world, RoundRobin, "c");
}

#[test]
fn a_node_that_joins_warms_up() {
    let world = warm();
    world.cluster.remove("e");
    world.cluster.insert(Node::new("x"), ()).unwrap();
    grows(&world, RoundRobin, "x");
}

#[test]
fn at_the_beginning_nobody_is_held_back() {
    let world = World::gentle(OutlierDetection::new(), WINDOW, named(4));
    let balance = world.balance(RoundRobin);
    send(&balance, 4, fine);
    world.cluster.set_health("a", Health::Down).unwrap();
    world.cluster.set_health("a", Health::Up).unwrap();
    world.cluster.insert(Node::new("e"), ()).unwrap();
    for node in ["a", "e"] {
        let share = share(&balance, node);
        assert!((share - 1.0).abs() < 0.01, "{node} gets {share}");
    }
    // Nor in a cluster that was empty until now.
    let clock = ManualClock::new();
    let cluster = Cluster::builder().clock(clock.clone()).slow_start(WINDOW).build([]).unwrap();
    clock.advance(Duration::from_secs(60));
    cluster.replace(named(5).map(|node| (node, ()))).unwrap();
    cluster.insert(Node::new("f"), ()).unwrap();
    let counts = send(&Balance::new(cluster, RoundRobin), 600, fine);
    assert!(counts.values().all(|&count| count == 100), "{counts:?}");
}

#[test]
fn keys_come_home_one_after_another_and_stay() {
    let world = warm();
    let balance = world.balance(ConsistentHash::new());
    let keys: Vec<_> = (0..2000_u32).map(|key| KeyHash::of(&key)).collect();
    let at_b = || -> HashSet<KeyHash> {
        let owner = |key: KeyHash| name(&balance.pick(Some(key)).unwrap().1);
        keys.iter().copied().filter(|&key| owner(key) == "b").collect()
    };
    let all = at_b();
    world.cluster.set_health("b", Health::Down).unwrap();
    assert!(at_b().is_empty());
    world.cluster.set_health("b", Health::Up).unwrap();
    let mut before = HashSet::new();
    for tenth in 0..10 {
        let home = at_b();
        assert!(home.is_superset(&before));
        let expected = all.len() as f64 * f64::from(tenth.max(1)) / 10.0;
        assert!((home.len() as f64 - expected).abs() < 60.0, "{} instead of {expected}", home.len());
        before = home;
        world.pass(1000);
    }
    assert_eq!(at_b(), all);
}

#[test]
fn nodes_that_all_warm_up_share_as_ever() {
    let world = warm();
    for node in ["a", "b", "c", "d", "e"] {
        world.cluster.set_health(node, Health::Down).unwrap();
    }
    for node in ["a", "b", "c", "d", "e"] {
        world.cluster.set_health(node, Health::Up).unwrap();
    }
    let balance = world.balance(RoundRobin);
    for node in ["a", "c"] {
        let share = share(&balance, node);
        assert!((share - 1.0).abs() < 0.15, "{share}");
    }
}

#[test]
fn the_only_node_that_has_room_gets_all() {
    let world = warm();
    world.cluster.set_health("b", Health::Down).unwrap();
    world.cluster.set_health("b", Health::Up).unwrap();
    for node in ["a", "c", "d", "e"] {
        world.cluster.set_weight(node, 0).unwrap();
    }
    for policy in [Box::new(RoundRobin) as Box<dyn Policy>, Box::new(LeastResponseTime::new())] {
        assert_eq!(send(&world.balance(policy), 100, fine)["b"], 100);
    }
}

#[test]
fn a_slow_start_that_makes_no_sense_is_refused() {
    let build = |slow_start| Cluster::builder().slow_start(slow_start).build([(Node::new("a"), ())]);
    assert!(matches!(build(SlowStart::new(Duration::ZERO)), Err(ClusterError::SlowStart(_))));
    assert!(matches!(build(WINDOW.aggression(-1.0)), Err(ClusterError::SlowStart(_))));
}

#[test]
fn a_node_that_was_forgotten_while_it_was_out_is_released_by_its_new_place() {
    let world = World::new(OutlierDetection::new(), named(6));
    world.eject("b");
    world.cluster.remove("b");
    world.cluster.remove("c");
    world.pass(301_000);
    world.cluster.insert(Node::new("b"), ()).unwrap();
    assert!(!world.is_out("b"));
    world.eject("b");
    assert!(world.ejections.release("b"));
    assert!(!world.is_out("b"));
    assert!(!world.ejections.release("b"));
}
