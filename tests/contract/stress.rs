//! A cluster that changes under the hands of those who choose from it.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
    time::Duration,
};

use buttress::{
    balance::{Balance, LeastRequest, LeastResponseTime, Policy, RoundRobin, WeightedRoundRobin},
    cluster::{Admin, Change, Cluster, Health, Node, Verdict},
    rng::Rng,
};

/// How long each of the policies is tried.
const SPAN: Duration = Duration::from_millis(700);

#[test]
fn changes_and_picks_do_not_disturb_each_other() {
    let policies: [Box<dyn Policy>; 4] = [
        Box::new(RoundRobin),
        Box::new(WeightedRoundRobin),
        Box::new(LeastRequest::new()),
        Box::new(LeastResponseTime::new()),
    ];
    for policy in policies {
        stress(policy);
    }
}

fn stress(policy: Box<dyn Policy>) {
    let name = format!("{policy:?}");
    // The service of a node is its number, so a mix-up shows.
    let node = |number: usize| (Node::new(format!("node-{number}")), number);
    let cluster = Cluster::new((0..20).map(node)).unwrap();
    let balance = Balance::new(cluster.clone(), policy);
    let (stop, picks, changes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let kept = cluster.get("node-0").unwrap();

    thread::scope(|scope| {
        for seed in 0..3 {
            let (cluster, stop, changes) = (&cluster, &stop, &changes);
            scope.spawn(move || {
                let mut rng = Rng::seeded(seed);
                while !stop.load(SeqCst) {
                    change(cluster, &mut rng);
                    changes.fetch_add(1, SeqCst);
                }
            });
        }
        for seed in 0..3 {
            let (cluster, balance, stop, picks) = (&cluster, balance.clone(), &stop, &picks);
            scope.spawn(move || {
                let mut rng = Rng::seeded(seed);
                let (mut generation, mut held) = (0, Vec::new());
                while !stop.load(SeqCst) {
                    let version = cluster.load();
                    assert!(version.generation() >= generation, "the cluster went back");
                    generation = version.generation();
                    let ids: Vec<_> = version.iter().map(|member| &member.node.id).collect();
                    assert!(ids.is_sorted(), "{ids:?}");

                    // Nodes 0 to 4 never leave, so there is always one to be had, unless all that are up are full.
                    let (number, guard) = match balance.pick(None) {
                        Ok(picked) => picked,
                        Err(why) if why.full > 0 => {
                            held.clear();
                            continue;
                        }
                        Err(why) => panic!("{why}"),
                    };
                    assert_eq!(guard.member().node.id.as_str(), format!("node-{number}"));
                    held.push(guard);
                    if held.len() > 20 {
                        let mut guard = held.swap_remove(rng.below(held.len()));
                        guard.judge(Verdict::Success);
                    }
                    picks.fetch_add(1, SeqCst);
                }
            });
        }
        thread::sleep(SPAN);
        stop.store(true, SeqCst);
    });

    let (picks, changes) = (picks.into_inner(), changes.into_inner());
    assert!(picks > 1_000 && changes > 100, "{name}: {picks} picks, {changes} changes");
    let version = cluster.load();
    for member in version.iter() {
        assert_eq!(member.state.in_flight(), 0, "{name}");
    }
    let same = cluster.get("node-0").unwrap();
    assert!(std::sync::Arc::ptr_eq(&kept.member.state, &same.member.state), "its state was lost");
    assert!(same.member.state.requests() > 0);
}

#[test]
fn a_pick_never_fails_because_health_changes_under_it() {
    let cluster = Cluster::new(["a", "b"].map(|name| (Node::new(name), ()))).unwrap();
    let balance = Balance::new(cluster.clone(), RoundRobin);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    // Too few are up: then health is ignored, so a node can be had at any time.
                    drop(balance.pick(None).expect("a node"));
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                for health in [Health::Down, Health::Up] {
                    cluster.set_health("a", health).unwrap();
                    cluster.set_health("b", health).unwrap();
                }
            }
        });
        thread::sleep(SPAN);
        stop.store(true, SeqCst);
    });
}

fn change(cluster: &Cluster<usize>, rng: &mut Rng) {
    let any = rng.below(20);
    let leaving = 5 + rng.below(15);
    let id = format!("node-{any}");
    let weight = 1 + u16::try_from(rng.below(9)).unwrap();
    match rng.below(7) {
        0 => {
            let changes = (0..3).map(|_| {
                let number = 5 + rng.below(15);
                Change::Insert(Node::new(format!("node-{number}")).weight(weight), number)
            });
            cluster.apply(changes.collect::<Vec<_>>()).unwrap();
        }
        1 => drop(cluster.remove(format!("node-{leaving}"))),
        2 => drop(cluster.set_weight(id, weight)),
        3 => drop(cluster.set_admin(format!("node-{leaving}"), Admin::Draining)),
        4 => drop(cluster.set_max_in_flight(format!("node-{leaving}"), u32::from(weight))),
        // Health of all nodes comes and goes: with too few of them up it is ignored.
        _ => drop(cluster.set_health(id, if rng.below(2) == 0 { Health::Down } else { Health::Up })),
    }
}
