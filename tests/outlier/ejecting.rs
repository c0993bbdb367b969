//! Who is ejected, and what balancers make of it.

use std::time::Duration;

use buttress::{
    balance::{Balance, ConsistentHash, LeastRequest, LeastResponseTime, Levels, Policy, Random, RoundRobin},
    cluster::{Admin, FailureKind, Health, Node, Verdict},
    health::{Cause, OutlierDetection},
    placement::KeyHash,
};

use crate::support::{FAILED, World, name, named, pick, send};

#[test]
fn a_node_that_fails_fast_costs_five_requests_and_then_one_for_each_ejection() {
    let policies: [Box<dyn Policy>; 4] = [
        Box::new(RoundRobin),
        Box::new(Random),
        Box::new(LeastRequest::new()),
        Box::new(LeastResponseTime::new()),
    ];
    for policy in policies {
        let world = World::new(OutlierDetection::new(), named(20));
        let described = format!("{policy:?}");
        let balance = world.balance(policy);
        let (mut requests, mut failed, mut ejections) = (0, 0, 0);
        for _ in 0..60_000 {
            world.pass(1);
            requests += 1;
            let was_out = world.is_out("h");
            let mut guard = pick(&balance);
            let is_bad = name(&guard) == "h";
            guard.judge(if is_bad { FAILED } else { Verdict::Success });
            failed += usize::from(is_bad);
            if is_bad && was_out {
                ejections += 1;
                assert_eq!(failed, 5 + ejections, "{described}: one probe for each ejection");
            } else if is_bad {
                assert!(failed <= 5, "{described}");
            }
        }
        assert!(world.is_out("h"), "{described}");
        // After 5, 10, 20 and 40 s.
        assert!(ejections <= 3, "{described}: {ejections} probes");
        assert!(failed * 1000 <= requests, "{described}: {failed} of {requests} failed");
    }
}

#[test]
fn every_balancer_of_the_cluster_follows_at_once() {
    let world = World::new(OutlierDetection::new(), named(3));
    let (one, other) = (world.balance(RoundRobin), world.balance(Random));
    send(&one, 15, |node| if node == "b" { FAILED } else { Verdict::Success });
    assert!(world.is_out("b"));
    assert_eq!(send(&other, 300, |_| Verdict::Success).get("b"), None);
}

#[test]
fn throttling_and_clients_mistakes_eject_nobody() {
    let world = World::new(OutlierDetection::new(), named(3));
    let balance = world.balance(RoundRobin);
    send(&balance, 300, |node| match node {
        "a" => Verdict::Failure(FailureKind::Throttled),
        "b" => Verdict::Neutral,
        _ => Verdict::Success,
    });
    assert_eq!(world.ejections.list(), []);
}

#[test]
fn half_of_the_nodes_stay_however_many_fail() {
    let world = World::new(OutlierDetection::new(), named(10));
    let balance = world.balance(RoundRobin);
    send(&balance, 1000, |_| FAILED);
    assert_eq!(world.ejections.list().len(), 5);
}

#[test]
fn requests_sent_in_panic_eject_nobody() {
    let world = World::new(OutlierDetection::new(), named(10));
    let balance = world.balance(RoundRobin);
    for node in ["a", "b", "c", "d", "e", "f"] {
        world.cluster.set_health(node, Health::Down).unwrap();
    }
    let counts = send(&balance, 1000, |_| FAILED);
    assert_eq!(counts.len(), 10, "health is ignored");
    assert_eq!(world.ejections.list(), []);
    // Without panic, they do, but for what would bring panic about again.
    world.cluster.set_health("f", Health::Up).unwrap();
    send(&balance, 1000, |_| FAILED);
    assert_eq!(world.ejections.list(), [], "five of ten are down");
    world.cluster.set_health("e", Health::Up).unwrap();
    send(&balance, 1000, |_| FAILED);
    assert_eq!(world.ejections.list().len(), 1, "with the four that are down, half of them");
}

#[test]
fn panic_ignores_ejections_but_not_the_operator() {
    let world = World::new(OutlierDetection::new().max_share(75), named(4));
    let balance = world.balance(RoundRobin);
    world.eject("a");
    world.eject("b");
    world.cluster.set_health("c", Health::Down).unwrap();
    let counts = send(&balance, 400, |_| Verdict::Success);
    assert_eq!(counts.len(), 4);
    world.cluster.set_admin("b", Admin::Down).unwrap();
    assert_eq!(send(&balance, 400, |_| Verdict::Success).get("b"), None);
    // What succeeds in panic brings nobody back before its time.
    assert!(world.is_out("b"));
}

#[test]
fn the_next_priority_takes_over_and_gives_back() {
    let nodes = named(4).zip([0, 0, 1, 1]).map(|(node, priority)| node.priority(priority));
    let world = World::new(OutlierDetection::new(), nodes);
    let balance = world.balance(RoundRobin);
    let counts = send(&balance, 40, |node| if node < "c" { FAILED } else { Verdict::Success });
    assert!(world.is_out("a") && world.is_out("b"), "{counts:?}");
    assert_eq!(send(&balance, 100, |_| Verdict::Success).into_keys().collect::<Vec<_>>(), ["c", "d"]);
    world.pass(5000);
    // One request each is enough, though the tier has no share.
    send(&balance, 3, |_| Verdict::Success);
    assert_eq!(world.ejections.list(), []);
    assert_eq!(send(&balance, 100, |_| Verdict::Success).into_keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn keys_go_to_the_next_owner_and_come_home() {
    let world = World::new(OutlierDetection::new(), named(5));
    let balance = Balance::new(world.cluster.clone(), ConsistentHash::new());
    let keys: Vec<_> = (0..500_u32).map(|key| KeyHash::of(&key)).collect();
    let owners = || -> Vec<String> {
        let owner = |key: &KeyHash| {
            let mut guard = balance.pick(Some(*key)).unwrap().1;
            guard.judge(Verdict::Success);
            name(&guard)
        };
        keys.iter().map(owner).collect()
    };
    let home = owners();
    world.eject("c");
    let away = owners();
    for (home, away) in home.iter().zip(&away) {
        assert!(if home == "c" { away != "c" } else { away == home });
    }
    world.pass(5000);
    // One key, which lives elsewhere, tries it.
    let back = owners();
    assert_eq!(home.iter().zip(&back).filter(|(home, back)| home != back).count(), 1);
    assert_eq!(owners(), home);
}

#[test]
fn an_ejection_outlives_a_change_of_weight_and_a_short_absence() {
    let world = World::new(OutlierDetection::new(), named(4));
    let balance = world.balance(RoundRobin);
    world.eject("b");
    world.cluster.set_weight("b", 7).unwrap();
    world.cluster.replace(named(3).map(|node| (node.weight(2), ()))).unwrap();
    assert!(world.is_out("b"));
    world.cluster.remove("b");
    world.pass(1000);
    world.cluster.insert(Node::new("b"), ()).unwrap();
    assert!(world.is_out("b"));
    assert_eq!(send(&balance, 100, |_| Verdict::Success).get("b"), None);
    world.pass(4000);
    send(&balance, 1, |_| FAILED);
    assert_eq!(world.ejections.list()[0].left, Duration::from_secs(10), "the second time in a row");
    // After the drain window it is another one.
    world.cluster.remove("b");
    world.pass(301_000);
    world.cluster.insert(Node::new("x"), ()).unwrap();
    world.cluster.insert(Node::new("b"), ()).unwrap();
    assert!(!world.is_out("b"));
}

#[test]
fn when_nodes_leave_no_more_than_the_share_stays_out() {
    let world = World::new(OutlierDetection::new(), named(8));
    for node in ["a", "b", "c", "d"] {
        world.eject(node);
        world.pass(10);
    }
    world.cluster.replace(named(5).map(|node| (node, ()))).unwrap();
    let out: Vec<_> = world.ejections.list().into_iter().map(|ejection| ejection.node.to_string()).collect();
    assert_eq!(out, ["c", "d"], "the others were due first");
}

#[test]
fn checks_that_find_a_node_recovered_bring_it_back() {
    let world = World::new(OutlierDetection::new(), named(4));
    world.cluster.set_health("b", Health::Up).unwrap();
    world.eject("b");
    world.cluster.set_health("b", Health::Up).unwrap();
    assert!(world.is_out("b"), "nothing new");
    world.cluster.set_health("b", Health::Down).unwrap();
    assert!(world.is_out("b"));
    world.cluster.set_health("b", Health::Up).unwrap();
    assert!(!world.is_out("b"));
}

#[test]
fn the_operator_may_let_a_node_back_in() {
    let world = World::new(OutlierDetection::new(), named(4));
    world.eject("b");
    assert!(!world.ejections.release("a"));
    assert!(world.ejections.release("b"));
    assert!(!world.is_out("b"));
    assert_eq!(world.ejections.total(Cause::ConsecutiveFailures), 1);
}

#[test]
fn the_detection_stays_when_its_handle_goes() {
    let World { cluster, ejections, .. } = World::new(OutlierDetection::new(), named(3));
    drop(ejections);
    let balance = Balance::new(cluster.clone(), RoundRobin);
    send(&balance, 30, |node| if node == "a" { FAILED } else { Verdict::Success });
    assert!(cluster.get("a").unwrap().member.state.is_ejected());
}

#[test]
fn a_slow_node_is_ejected_under_a_policy_that_does_not_look_at_latency() {
    let world = World::new(OutlierDetection::none().latency(3.0), named(6));
    let balance = world.balance(RoundRobin);
    let mut rounds = 0;
    while !world.is_out("e") {
        let mut guards: Vec<_> = (0..6).map(|_| pick(&balance)).collect();
        guards.sort_by_key(|guard| name(guard) == "e");
        for mut guard in guards {
            world.pass(if name(&guard) == "e" { 200 } else { 4 });
            guard.judge(Verdict::Success);
        }
        rounds += 1;
        assert!(rounds < 1000, "{:?}", world.cluster.get("e"));
    }
    let ejection = &world.ejections.list()[0];
    assert_eq!((ejection.cause, world.ejections.list().len()), (Cause::Latency, 1));
    assert!(ejection.to_string().starts_with("e: slower than others, out for "));
}

#[test]
fn pinned_requests_are_refused_while_the_node_is_out() {
    let world = World::new(OutlierDetection::new(), named(3));
    world.eject("a");
    let balance = world.balance(RoundRobin).levels(Levels::default().panic(0));
    for node in ["b", "c"] {
        world.cluster.set_admin(node, Admin::Down).unwrap();
    }
    // The last member that can serve is let in again.
    assert!(!world.is_out("a"));
    assert_eq!(send(&balance, 10, |_| Verdict::Success)["a"], 10);
}

#[test]
fn successes_break_a_row_whatever_else_succeeds_in_between() {
    let world = World::new(OutlierDetection::new(), named(4));
    let balance = world.balance(RoundRobin);
    let mut old = world.start("b");
    world.eject("b");
    world.pass(5000);
    pick(&balance).judge(Verdict::Success);
    assert!(!world.is_out("b"));
    (0..4).for_each(|_| world.start("b").judge(FAILED));
    // One that was sent before the ejection, and many that were not.
    old.judge(Verdict::Success);
    (0..100).for_each(|_| world.start("b").judge(Verdict::Success));
    world.start("b").judge(FAILED);
    assert!(!world.is_out("b"));
}

#[test]
fn nodes_that_drain_leave_no_more_of_the_others_to_be_ejected() {
    let world = World::new(OutlierDetection::new(), named(10));
    for node in ["a", "b", "c", "d", "e", "f"] {
        world.cluster.set_health(node, Health::Draining).unwrap();
    }
    for node in ["g", "h", "i", "j"] {
        (0..5).for_each(|_| world.start(node).judge(FAILED));
    }
    assert_eq!(world.ejections.list().len(), 2, "half of those that take part");
    world.cluster.set_health("i", Health::Draining).unwrap();
    assert_eq!(world.ejections.list().len(), 1, "half of three");
    for node in ["a", "b", "c", "d", "e", "f", "i"] {
        world.cluster.set_health(node, Health::Up).unwrap();
    }
    for node in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        (0..5).for_each(|_| world.start(node).judge(FAILED));
    }
    assert_eq!(world.ejections.list().len(), 5);
}
