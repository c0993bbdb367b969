//! Every policy, over random histories of membership, health, load and picks.

use std::{collections::HashMap, sync::Arc, thread, time::Duration};

use buttress::{
    balance::{
        Balance, ConsistentHash, IpHash, LeastRequest, LeastResponseTime, Levels, Policy, Random, RoundRobin,
        WeightedRandom, WeightedRoundRobin,
    },
    cluster::{Admin, Cluster, FailureKind, Health, LoadGuard, Member, Node, Verdict, Version},
    placement::KeyHash,
    time::ManualClock,
};
use proptest::prelude::*;

fn policies() -> Vec<Arc<dyn Policy>> {
    vec![
        Arc::new(RoundRobin),
        Arc::new(WeightedRoundRobin),
        Arc::new(Random),
        Arc::new(WeightedRandom),
        Arc::new(LeastRequest::new()),
        Arc::new(LeastRequest::of(5)),
        Arc::new(LeastRequest::of_all()),
        Arc::new(LeastResponseTime::new()),
        Arc::new(IpHash::new()),
        Arc::new(ConsistentHash::ring(20).load_bound(125)),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Pick { key: Option<u64> },
    End { which: usize, verdict: Option<Verdict> },
    Insert { node: u8, weight: u16, priority: u8, zone: u8, limit: u32 },
    Remove { node: u8 },
    Health { node: u8, health: Health },
    Admin { node: u8, admin: Admin },
    Weight { node: u8, weight: u16 },
    Sleep { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..12_u8;
    let verdict = prop_oneof![
        2 => Just(Some(Verdict::Success)),
        1 => Just(Some(Verdict::Failure(FailureKind::Response))),
        1 => Just(None),
    ];
    let health = prop_oneof![2 => Just(Health::Up), 2 => Just(Health::Down), 1 => Just(Health::Draining)];
    let admin = prop_oneof![Just(Admin::Active), Just(Admin::Draining), Just(Admin::Down)];
    prop_oneof![
        12 => proptest::option::of(0..50_u64).prop_map(|key| Step::Pick { key }),
        8 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Step::End { which, verdict }),
        3 => (node.clone(), 0..6_u16, 0..3_u8, 0..3_u8, 0..4_u32)
            .prop_map(|(node, weight, priority, zone, limit)| Step::Insert { node, weight, priority, zone, limit }),
        1 => node.clone().prop_map(|node| Step::Remove { node }),
        3 => (node.clone(), health).prop_map(|(node, health)| Step::Health { node, health }),
        1 => (node.clone(), admin).prop_map(|(node, admin)| Step::Admin { node, admin }),
        1 => (node, 0..6_u16).prop_map(|(node, weight)| Step::Weight { node, weight }),
        2 => (0..5_000_u64).prop_map(|millis| Step::Sleep { millis }),
    ]
}

/// The rule of eligibility, written a second time and as plainly as possible.
fn eligible(version: &Version<u8>) -> Vec<String> {
    let active: Vec<&Member> =
        version.iter().filter(|m| m.node.admin == Admin::Active && m.node.weight > 0).collect();
    let weight = |of: &dyn Fn(&Member) -> bool| -> u64 {
        active.iter().filter(|m| of(m)).map(|m| u64::from(m.node.weight)).sum()
    };
    let up = |m: &Member| m.state.health().is_usable();
    let counts = |priority: u8| {
        let stays = |m: &Member| m.node.priority == priority && m.state.health() != Health::Draining;
        (weight(&|m| stays(m) && up(m)), weight(&stays))
    };
    let health = |priority: u8| {
        let (usable, all) = counts(priority);
        (usable * 140).checked_div(all).unwrap_or(0).min(100)
    };
    let total = (0..3).map(health).sum::<u64>();
    let panics = |priority: u8| {
        let (usable, all) = counts(priority);
        total < 100 && (usable == 0 || usable * 100 < all * 50)
    };
    let has_room = |m: &Member| m.node.max_in_flight.is_none_or(|limit| m.state.in_flight() < limit.get());
    active
        .iter()
        .filter(|m| has_room(m) && (up(m) || panics(m.node.priority)))
        .map(|m| m.node.id.to_string())
        .collect()
}

fn run(policy: Arc<dyn Policy>, zone: Option<&str>, steps: &[Step]) -> Result<(), TestCaseError> {
    let clock = ManualClock::new();
    let cluster = Cluster::builder().clock(clock.clone()).build::<u8>([]).unwrap();
    let name = format!("{policy:?}");
    let mut balance = Balance::new(cluster.clone(), policy);
    if let Some(zone) = zone {
        balance = balance.levels(Levels::default().zone(zone));
    }
    let mut held: Vec<LoadGuard> = Vec::new();
    let mut in_flight = HashMap::<String, u32>::new();
    for step in steps {
        match step.clone() {
            Step::Pick { key } => {
                let can = eligible(&cluster.load());
                match balance.pick(key.map(|key| KeyHash::of(&key))) {
                    Ok((_, guard)) => {
                        let id = guard.member().node.id.to_string();
                        prop_assert!(can.contains(&id), "{name} chose {id}, eligible were {can:?}");
                        *in_flight.entry(id).or_default() += 1;
                        held.push(guard);
                    }
                    Err(why) => prop_assert!(can.is_empty(), "{name} chose none of {can:?}: {why}"),
                }
            }
            Step::End { which, verdict } if !held.is_empty() => {
                let mut guard = held.swap_remove(which % held.len());
                *in_flight.get_mut(guard.member().node.id.as_str()).unwrap() -= 1;
                if let Some(verdict) = verdict {
                    guard.judge(verdict);
                }
            }
            Step::End { .. } => {}
            Step::Insert { node, weight, priority, zone, limit } => {
                let node_ = Node::new(format!("n{node}"))
                    .weight(weight)
                    .priority(priority)
                    .zone(format!("z{zone}"))
                    .max_in_flight(limit);
                cluster.insert(node_, node).unwrap();
            }
            Step::Remove { node } => {
                cluster.remove(format!("n{node}"));
            }
            Step::Health { node, health } => {
                let _ = cluster.set_health(format!("n{node}"), health);
            }
            Step::Admin { node, admin } => {
                let _ = cluster.set_admin(format!("n{node}"), admin);
            }
            Step::Weight { node, weight } => {
                let _ = cluster.set_weight(format!("n{node}"), weight);
            }
            Step::Sleep { millis } => clock.advance(Duration::from_millis(millis)),
        }
        for member in cluster.load().iter() {
            let expected = in_flight.get(member.node.id.as_str()).copied().unwrap_or(0);
            prop_assert_eq!(member.state.in_flight(), expected, "in flight at {}", &member.node.id);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn picks_are_eligible_and_fail_only_when_nothing_is(
        which in 0..10_usize,
        zoned in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        run(policies().swap_remove(which), zoned.then_some("z1"), &steps)?;
    }

    #[test]
    fn weighted_round_robin_keeps_every_prefix_within_one(
        weights in proptest::collection::vec(1..60_u16, 1..25),
    ) {
        let nodes = weights.iter().enumerate().map(|(i, &w)| (Node::new(i.to_string()).weight(w), i));
        let balance = Balance::new(Cluster::new(nodes).unwrap(), WeightedRoundRobin);
        let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
        let mut picked = vec![0_u64; weights.len()];
        for k in 1..=total * 3 {
            picked[balance.pick(None).unwrap().0] += 1;
            for (i, &weight) in weights.iter().enumerate() {
                let (have, due) = (picked[i] * total, k * u64::from(weight));
                prop_assert!(have.abs_diff(due) < total, "node {} has {} of {} after {}", i, picked[i], due as f64 / total as f64, k);
            }
        }
    }
}

/// The shares of `nodes`, as max/min, when a node joins or leaves after every 7 picks.
fn spread_under_churn(policy: impl Policy) -> f64 {
    let name = |i: usize| format!("n{i:02}");
    let cluster = Cluster::new((0..10).map(|i| (Node::new(name(i)), i))).unwrap();
    let balance = Balance::new(cluster.clone(), policy);
    let mut picks = [0_u32; 11];
    for round in 0..2_000 {
        if round % 2 == 0 {
            cluster.insert(Node::new(name(10)), 10).unwrap();
        } else {
            cluster.remove(name(10));
        }
        for _ in 0..7 {
            picks[balance.pick(None).unwrap().0] += 1;
        }
    }
    let steady = &picks[..10];
    f64::from(*steady.iter().max().unwrap()) / f64::from(*steady.iter().min().unwrap())
}

#[test]
fn round_robin_is_fair_when_membership_changes_every_seven_requests() {
    let spread = spread_under_churn(RoundRobin);
    assert!(spread <= 1.25, "max/min {spread}");
    let spread = spread_under_churn(WeightedRoundRobin);
    assert!(spread <= 1.25, "max/min {spread}");
}

#[test]
fn a_node_that_is_down_gives_its_turns_to_all() {
    for policy in [Arc::new(RoundRobin) as Arc<dyn Policy>, Arc::new(WeightedRoundRobin), Arc::new(Random)] {
        let cluster = Cluster::new((0..6).map(|i| (Node::new(i.to_string()), i))).unwrap();
        cluster.set_health("2", Health::Down).unwrap();
        let balance = Balance::new(cluster, policy);
        let mut picks = [0_u32; 6];
        for _ in 0..10_000 {
            picks[balance.pick(None).unwrap().0] += 1;
        }
        assert_eq!(picks[2], 0);
        for (node, &count) in picks.iter().enumerate().filter(|(node, _)| *node != 2) {
            assert!((1_800..2_200).contains(&count), "node {node} got {count} of 10000");
        }
    }
}

#[test]
fn the_only_healthy_node_of_a_thousand_is_always_found() {
    for policy in policies() {
        let cluster = Cluster::new((0..1000).map(|i| (Node::new(i.to_string()), i))).unwrap();
        for i in (0..1000).filter(|&i| i != 617) {
            let health = if i % 2 == 0 { Health::Down } else { Health::Draining };
            cluster.set_health(i.to_string(), health).unwrap();
        }
        let balance = Balance::new(cluster, policy).levels(Levels::default().panic(0));
        for key in 0..200_u64 {
            assert_eq!(balance.pick(Some(KeyHash::of(&key))).unwrap().0, 617);
        }
    }
}

#[test]
fn weights_are_followed() {
    let weights = [1_u16, 2, 3, 4];
    for policy in [Arc::new(WeightedRandom) as Arc<dyn Policy>, Arc::new(WeightedRoundRobin)] {
        let nodes = weights.iter().map(|&w| (Node::new(w.to_string()).weight(w), w));
        let balance = Balance::new(Cluster::new(nodes).unwrap(), policy);
        let mut picks = [0_u32; 5];
        for _ in 0..100_000 {
            picks[usize::from(balance.pick(None).unwrap().0)] += 1;
        }
        for weight in weights {
            let share = f64::from(picks[usize::from(weight)]) / 100_000.0;
            let due = f64::from(weight) / 10.0;
            assert!((share - due).abs() < 0.01, "weight {weight} got {share}");
        }
    }
}

#[test]
fn backups_take_over_as_capacity_is_lost() {
    let nodes = (0..20).map(|i| (Node::new(format!("n{i:02}")).priority(u8::from(i >= 10)), i));
    let cluster = Cluster::new(nodes).unwrap();
    let balance = Balance::new(cluster.clone(), Random);
    let share_of_backups =
        || (0..20_000).filter(|_| balance.pick(None).unwrap().0 >= 10).count() as f64 / 20_000.0;
    // 140 % of the healthy share, as in the table of Envoy's documentation.
    for (down, expected) in [(0, 0.0), (2, 0.0), (3, 0.02), (5, 0.30), (8, 0.72), (10, 1.0)] {
        for i in 0..10 {
            let health = if i < down { Health::Down } else { Health::Up };
            cluster.set_health(format!("n{i:02}"), health).unwrap();
        }
        let share = share_of_backups();
        assert!((share - expected).abs() < 0.02, "{down} down: {share} went to backups, not {expected}");
    }
}

#[test]
fn nodes_that_drain_are_no_lost_capacity() {
    let nodes = (0..12).map(|i| (Node::new(format!("n{i:02}")).priority(u8::from(i >= 10)), i));
    let cluster = Cluster::new(nodes).unwrap();
    let health = |which: std::ops::Range<i32>, health| {
        which.for_each(|i| cluster.set_health(format!("n{i:02}"), health).unwrap());
    };
    let balance = Balance::new(cluster.clone(), Random);
    let chosen = || {
        let mut chosen: Vec<_> = (0..2_000).map(|_| balance.pick(None).unwrap().0).collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    };
    // Neither do backups take over, nor is health ignored.
    health(0..6, Health::Draining);
    assert_eq!(chosen(), [6, 7, 8, 9]);
    health(6..7, Health::Down);
    assert_eq!(chosen(), [7, 8, 9]);
    health(0..9, Health::Draining);
    assert_eq!(chosen(), [9]);
    // Three of four lost, and the backups have capacity for all.
    health(5..8, Health::Down);
    health(8..9, Health::Down);
    health(9..10, Health::Up);
    assert!(chosen().iter().all(|&node| node >= 9));
    health(0..10, Health::Draining);
    assert_eq!(chosen(), [10, 11]);
}

#[test]
fn when_all_nodes_drain_they_are_still_used_unless_panic_is_off() {
    let drain = |cluster: &Cluster<usize>| {
        (0..4).for_each(|i| cluster.set_health(format!("{i}"), Health::Draining).unwrap());
    };
    for zone in [None, Some("z0"), Some("elsewhere")] {
        let node = |i: usize| Node::new(i.to_string()).zone(format!("z{}", i % 2));
        let cluster = Cluster::new((0..4).map(|i| (node(i), i))).unwrap();
        drain(&cluster);
        let levels = zone.map_or_else(Levels::default, |zone| Levels::default().zone(zone));
        let balance = Balance::new(cluster.clone(), Random).levels(levels.clone());
        let mut seen = [false; 4];
        (0..1_000).for_each(|_| seen[balance.pick(None).unwrap().0] = true);
        let stays = zone == Some("z0");
        assert_eq!(seen, [true, !stays, true, !stays], "{zone:?}: zones hold in panic too");
        let strict = balance.levels(levels.panic(0));
        assert_eq!(strict.pick(None).unwrap_err().unhealthy, 4);
        // The last one that does not drain is down: that is no better.
        cluster.set_health("3", Health::Down).unwrap();
        assert!(Balance::new(cluster.clone(), Random).pick(None).is_ok());
        assert!(strict.pick(None).is_err());
    }
}

#[test]
fn the_own_zone_is_preferred_and_spills_over_by_capacity() {
    let nodes = (0..12).map(|i| (Node::new(format!("n{i:02}")).zone(format!("z{}", i % 3)), i));
    let cluster = Cluster::new(nodes).unwrap();
    let balance = Balance::new(cluster.clone(), Random).levels(Levels::default().zone("z0"));
    let share = || (0..20_000).filter(|_| balance.pick(None).unwrap().0 % 3 == 0).count() as f64 / 20_000.0;
    assert!((share() - 1.0).abs() < f64::EPSILON);
    cluster.set_health("n00", Health::Down).unwrap();
    cluster.set_health("n03", Health::Down).unwrap();
    // 2 of 10 healthy nodes, for a third of the traffic.
    let (now, expected) = (share(), 0.6);
    assert!((now - expected).abs() < 0.02, "{now} stayed in the zone, not {expected}");
    cluster.set_health("n06", Health::Down).unwrap();
    cluster.set_health("n09", Health::Down).unwrap();
    assert!(share() < f64::EPSILON);
}

#[test]
fn state_outlives_weight_changes_and_a_short_absence() {
    let clock = ManualClock::new();
    let builder = Cluster::builder().clock(clock.clone()).drain_window(Duration::from_secs(60));
    let cluster = builder.build([(Node::new("a"), 0), (Node::new("b"), 1)]).unwrap();
    let balance = Balance::new(cluster.clone(), LeastResponseTime::new());
    let mut guards: Vec<_> = (0..10).map(|_| balance.pick(None).unwrap().1).collect();
    clock.advance(Duration::from_millis(20));
    for guard in &mut guards {
        guard.judge(Verdict::Success);
    }
    cluster.set_health("a", Health::Up).unwrap();
    let before = cluster.get("a").unwrap();
    cluster.set_weight("a", 7).unwrap();
    cluster.remove("a");
    clock.advance(Duration::from_secs(59));
    cluster.insert(Node::new("a"), 2).unwrap();
    let after = cluster.get("a").unwrap();
    assert!(Arc::ptr_eq(&before.member.state, &after.member.state));
    assert_eq!(before.member.slot(), after.member.slot());
    assert_eq!(after.member.state.health(), Health::Up);
    let total: u32 = cluster.load().iter().map(|member| member.state.in_flight()).sum();
    assert_eq!(total, 10);
    drop(guards);
    cluster.remove("a");
    clock.advance(Duration::from_secs(61));
    cluster.insert(Node::new("a"), 3).unwrap();
    assert_eq!(cluster.get("a").unwrap().member.state.requests(), 0, "a newcomer after the window");
}

#[test]
fn a_key_stays_at_its_node_until_that_node_is_overloaded() {
    let cluster = Cluster::new((0..10).map(|i| (Node::new(i.to_string()), i))).unwrap();
    let balance = Balance::new(cluster.clone(), ConsistentHash::new().load_bound(125));
    let key = Some(KeyHash::of("celebrity"));
    let home = balance.pick(key).unwrap().0;
    for _ in 0..100 {
        assert_eq!(balance.pick(key).unwrap().0, home);
    }
    let held: Vec<_> = (0..1000).map(|_| balance.pick(key).unwrap()).collect();
    let most = cluster.load().iter().map(|member| member.state.in_flight()).max().unwrap();
    assert!(most <= 127, "{most} in flight on one node of ten, of 1000");
    drop(held);
    cluster.set_health(home.to_string(), Health::Down).unwrap();
    let other = balance.pick(key).unwrap().0;
    assert_ne!(other, home);
    cluster.set_health(home.to_string(), Health::Up).unwrap();
    assert_eq!(balance.pick(key).unwrap().0, home);
}

#[test]
fn a_node_of_weight_zero_gets_nothing_even_if_there_is_no_other() {
    for policy in policies() {
        let name = format!("{policy:?}");
        let nodes = ["a", "b"].map(|id| (Node::new(id), id));
        let cluster = Cluster::new(nodes).unwrap();
        let balance = Balance::new(cluster.clone(), policy);
        let pick = |key: u64| balance.pick(Some(KeyHash::of(&key)).filter(|_| key.is_multiple_of(2)));
        cluster.set_weight("b", 0).unwrap();
        // It is drained: not even panic sends anything there, nor that the other one is away.
        for health in [Health::Up, Health::Down] {
            cluster.set_health("a", health).unwrap();
            assert!((0..100).all(|key| pick(key).unwrap().0 == "a"), "{name}");
        }
        cluster.set_admin("a", Admin::Down).unwrap();
        assert!(matches!(pick(0), Err(why) if why.inactive == 2), "{name}");
        cluster.set_admin("a", Admin::Active).unwrap();
        cluster.set_weight("a", 0).unwrap();
        assert!((0..100).all(|key| pick(key).is_err()), "{name}");
        cluster.set_weight("b", 3).unwrap();
        assert!((0..100).all(|key| pick(key).unwrap().0 == "b"), "{name}");
    }
}

#[test]
fn where_nobody_can_take_a_request_every_policy_says_so() {
    type Spoil = fn(&Cluster<u32>, &str);
    let ways: [(&str, Spoil); 5] = [
        ("empty", |cluster, id| assert!(cluster.remove(id))),
        ("down", |cluster, id| cluster.set_health(id, Health::Down).unwrap()),
        ("draining", |cluster, id| cluster.set_admin(id, Admin::Draining).unwrap()),
        ("weightless", |cluster, id| cluster.set_weight(id, 0).unwrap()),
        ("full", |cluster, id| cluster.set_max_in_flight(id, 1).unwrap()),
    ];
    for (way, spoil) in ways {
        for policy in policies() {
            let name = format!("{policy:?}");
            let cluster = Cluster::new((0..100).map(|i| (Node::new(i.to_string()), i))).unwrap();
            let balance = Balance::new(cluster.clone(), policy).levels(Levels::default().panic(0));
            let members: Vec<_> = (0..100).map(|i| cluster.get(i.to_string()).unwrap()).collect();
            let _held: Vec<_> = members.iter().map(|node| LoadGuard::start(&node.member).unwrap()).collect();
            (0..100).for_each(|i| spoil(&cluster, &i.to_string()));
            for key in 0..20_u64 {
                let key = Some(KeyHash::of(&key)).filter(|_| key.is_multiple_of(2));
                let why = balance.pick(key).unwrap_err();
                assert_eq!(why.full > 0, way == "full", "{name}, {way}: {why}");
            }
        }
    }
}

/// The first picks of many clients that start together.
fn first_picks(policy: &Arc<dyn Policy>, weights: &[u16], change: impl Fn(&Cluster<usize>)) -> Vec<u32> {
    let mut picks = vec![0; weights.len()];
    for _ in 0..2_000 {
        let nodes = weights.iter().enumerate().map(|(i, &w)| (Node::new(i.to_string()).weight(w), i));
        let cluster = Cluster::new(nodes).unwrap();
        let balance = Balance::new(cluster.clone(), Arc::clone(policy));
        change(&cluster);
        picks[balance.pick(None).unwrap().0] += 1;
    }
    picks
}

#[test]
fn clients_that_start_or_hear_of_a_change_together_do_not_all_go_to_one_node() {
    for policy in policies() {
        let name = format!("{policy:?}");
        let changes: [fn(&Cluster<usize>); 2] = [
            |_| {},
            |cluster| {
                cluster.insert(Node::new("5"), 5).unwrap();
                cluster.remove("5");
            },
        ];
        for change in changes {
            let picks = first_picks(&policy, &[1; 5], change);
            assert!(picks.iter().all(|count| (300..500).contains(count)), "{name}: {picks:?}");
        }
    }
    for policy in [Arc::new(WeightedRandom) as Arc<dyn Policy>, Arc::new(WeightedRoundRobin)] {
        let picks = first_picks(&policy, &[6, 3, 1], |_| {});
        for (count, weight) in picks.iter().zip([6, 3, 1]) {
            assert!(count.abs_diff(200 * weight) < 100, "{policy:?}: {picks:?}");
        }
    }
}

#[test]
fn of_two_nodes_the_busier_one_is_never_chosen() {
    for choices in [LeastRequest::new(), LeastRequest::of(5), LeastRequest::of_all()] {
        let cluster = Cluster::new(["busy", "idle"].map(|id| (Node::new(id), id))).unwrap();
        let balance = Balance::new(cluster.clone(), choices);
        let _busy = LoadGuard::start(&cluster.get("busy").unwrap().member).unwrap();
        assert!((0..1000).all(|_| balance.pick(None).unwrap().0 == "idle"), "{choices:?}");
    }
}

#[test]
fn clones_and_threads_share_the_turns() {
    for policy in [Arc::new(RoundRobin) as Arc<dyn Policy>, Arc::new(WeightedRoundRobin)] {
        let weights = [1, 2, 3, 4];
        let even = format!("{policy:?}") == "RoundRobin";
        let nodes = weights.map(|w| (Node::new(w.to_string()).weight(w), w));
        let cluster = Cluster::new(nodes).unwrap();
        let balance = Balance::new(cluster.clone(), policy);
        thread::scope(|scope| {
            for _ in 0..4 {
                let balance = balance.clone();
                scope.spawn(move || (0..2500).for_each(|_| drop(balance.clone().pick(None).unwrap())));
            }
        });
        for weight in weights {
            let count = cluster.get(weight.to_string()).unwrap().member.state.requests();
            let due = if even { 2500 } else { 1000 * u64::from(weight) };
            assert!(count.abs_diff(due) <= 1, "weight {weight}: {count} instead of {due}");
        }
    }
}

/// The shares of ten nodes, as max/min, when something changes after every 7 picks.
fn spread_under(change: impl Fn(&Cluster<usize>, usize), policy: impl Policy) -> f64 {
    let name = |i: usize| format!("n{i}");
    let cluster = Cluster::new((0..10).map(|i| (Node::new(name(i)), i))).unwrap();
    let balance = Balance::new(cluster.clone(), policy);
    let mut picks = [0_u32; 10];
    for round in 0..2_000 {
        change(&cluster, round);
        for _ in 0..7 {
            picks[balance.pick(None).unwrap().0] += 1;
        }
    }
    f64::from(*picks.iter().max().unwrap()) / f64::from(*picks.iter().min().unwrap())
}

#[test]
fn turns_go_on_whatever_changes() {
    let changes: [fn(&Cluster<usize>, usize); 4] = [
        // Back and forth, of one node that is drained all the time: the others' turns are not its business.
        |cluster, round| {
            cluster.insert(Node::new("x").weight(0).zone(format!("z{}", round % 2)), 10).unwrap();
        },
        // A new service for each in turn.
        |cluster, round| cluster.insert(Node::new(format!("n{}", round % 10)), round % 10).unwrap(),
        // The whole list anew, in another order.
        |cluster, round| {
            let nodes = (0..10).map(|i| (i + round) % 10).map(|i| (Node::new(format!("n{i}")), i));
            cluster.replace(nodes).unwrap();
        },
        // Each gone for a moment, in which nobody asks.
        |cluster, round| {
            let id = format!("n{}", round % 10);
            cluster.remove(id.as_str());
            cluster.insert(Node::new(id), round % 10).unwrap();
        },
    ];
    for (which, change) in changes.into_iter().enumerate() {
        let spread = spread_under(change, RoundRobin);
        assert!(spread <= 1.25, "round robin, change {which}: max/min {spread}");
        let spread = spread_under(change, WeightedRoundRobin);
        assert!(spread <= 1.25, "by weight, change {which}: max/min {spread}");
    }
}

#[test]
fn when_a_zone_loses_a_node_no_more_keys_leave_it_than_must() {
    let nodes = (0..30).map(|i| (Node::new(format!("n{i:02}")).zone(format!("z{}", i % 3)), i));
    let cluster = Cluster::new(nodes).unwrap();
    let balance = Balance::new(cluster.clone(), ConsistentHash::new()).levels(Levels::default().zone("z0"));
    let homes = || -> Vec<usize> {
        (0..5_000_u64).map(|key| balance.pick(Some(KeyHash::of(&key))).unwrap().0).collect()
    };
    let before = homes();
    assert!(before.iter().all(|home| home % 3 == 0));
    cluster.set_health("n00", Health::Down).unwrap();
    let after = homes();
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after && **before != 0).count();
    let left = after.iter().filter(|home| *home % 3 != 0).count();
    // 9 of 29 nodes, for a third of the traffic: 93 % of it.
    assert!((left as f64 / 5_000.0 - 0.069).abs() < 0.02, "{left} of 5000 left the zone");
    assert!(moved <= left, "{moved} moved, {left} had to");
    cluster.set_health("n00", Health::Up).unwrap();
    assert_eq!(homes(), before);
}

#[test]
fn zones_of_unequal_size_share_by_capacity() {
    // Two nodes here, six in one zone, and one that says nothing of its zone: a third of the requests begin here.
    let zones = ["here", "here", "there", "there", "there", "there", "there", "there", ""];
    let node = |(i, zone): (usize, &str)| {
        let node = Node::new(i.to_string());
        (if zone.is_empty() { node } else { node.zone(zone) }, i)
    };
    let cluster = Cluster::new(zones.into_iter().enumerate().map(node)).unwrap();
    let balance = Balance::new(cluster.clone(), Random).levels(Levels::default().zone("here"));
    let share = || (0..20_000).filter(|_| balance.pick(None).unwrap().0 < 2).count() as f64 / 20_000.0;
    let (now, expected) = (share(), 2.0 * 3.0 / 9.0);
    assert!((now - expected).abs() < 0.02, "{now} stayed, not {expected}");
    // Nobody else is left: it takes all.
    for i in 2..9 {
        cluster.set_admin(i.to_string(), Admin::Down).unwrap();
    }
    assert!((share() - 1.0).abs() < f64::EPSILON);
    // A zone without nodes is served by the others.
    let elsewhere = Balance::new(cluster, Random).levels(Levels::default().zone("nowhere"));
    assert!(elsewhere.pick(None).is_ok());
}
