//! Nodes that come, go and change while they are checked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::balance::{Balance, Nodes, Picker, Policy, RoundRobin};
use buttress::cluster::{Admin, Cluster, Health, Node};
use buttress::health::{Answer, Monitor, MonitorError};
use buttress::rng::Rng;
use tokio::time::sleep;

use crate::stage::{Play, Stage, cluster, health, seconds};

#[tokio::test(start_paused = true)]
async fn weight_zone_and_admin_change_neither_health_nor_schedule() {
    let mut times = Vec::new();
    for changes in [false, true] {
        let (stage, cluster) = (Stage::new(), cluster(&["a", "b"]));
        let _monitor = Monitor::builder().rng(Rng::seeded(3)).start(&cluster, stage.clone()).unwrap();
        stage.play("a", Play::Fails);
        seconds(20).await;
        for weight in 1..100 {
            if changes {
                cluster.set_weight("a", weight).unwrap();
                cluster.set_admin("b", if weight % 2 == 0 { Admin::Down } else { Admin::Active }).unwrap();
                cluster.insert(Node::new("b").zone("x").weight(weight), ()).unwrap();
                assert_eq!((health(&cluster, "a"), health(&cluster, "b")), (Health::Down, Health::Up));
            }
            seconds(1).await;
        }
        times.push(stage.checks());
    }
    assert_eq!(times[0], times[1]);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_join_are_checked_and_those_that_leave_are_not() {
    let (stage, cluster) = (Stage::new(), cluster(&["a"]));
    let monitor = Monitor::start(&cluster, stage.clone()).unwrap();
    seconds(7).await;
    cluster.insert(Node::new("b"), ()).unwrap();
    seconds(5).await;
    assert_eq!(health(&cluster, "b"), Health::Up);
    cluster.remove("a");
    seconds(1).await;
    let before = stage.checks_of("a").len();
    seconds(60).await;
    assert_eq!(stage.checks_of("a").len(), before);
    assert_eq!(monitor.report().iter().map(|node| node.id.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_returns_is_what_it_was() {
    let (stage, cluster) = (Stage::new(), cluster(&["a", "b"]));
    let monitor = Monitor::start(&cluster, stage.clone()).unwrap();
    stage.play("a", Play::Fails);
    seconds(6).await;
    assert_eq!(health(&cluster, "a"), Health::Down);
    stage.play("a", Play::Up);
    let checks = monitor.report()[0].checks;
    cluster.remove("a");
    seconds(60).await;
    cluster.insert(Node::new("a"), ()).unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!((health(&cluster, "a"), monitor.report()[0].checks), (Health::Down, checks));
    // One good answer is not enough.
    while monitor.report()[0].checks == checks {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(health(&cluster, "a"), Health::Down);
    seconds(2).await;
    assert_eq!(health(&cluster, "a"), Health::Up);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_the_cluster_forgot_starts_anew() {
    let cluster = Cluster::builder().drain_window(Duration::from_secs(10));
    let cluster = cluster.build(["a", "b"].map(|name| (Node::new(name), ()))).unwrap();
    let stage = Stage::new();
    let monitor = Monitor::start(&cluster, stage.clone()).unwrap();
    stage.play("a", Play::Fails);
    seconds(6).await;
    cluster.remove("a");
    seconds(20).await;
    cluster.insert(Node::new("a"), ()).unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!((health(&cluster, "a"), monitor.report()[0].checks), (Health::Unknown, 0));
    stage.play("a", Play::Up);
    seconds(5).await;
    assert_eq!(health(&cluster, "a"), Health::Up);
}

#[tokio::test(start_paused = true)]
async fn churn_neither_doubles_nor_loses_checks() {
    let mut rng = Rng::seeded(11);
    let name = |node: usize| format!("n{node:02}");
    let cluster = Cluster::builder().allow_empty(true).drain_window(Duration::from_secs(4));
    let cluster = cluster.build::<()>([]).unwrap();
    let stage = Stage::new();
    for node in 0..30 {
        let plays = [Play::Up, Play::Fails, Play::Hangs, Play::Slow(700), Play::Draining];
        stage.play(&name(node), plays[rng.below(plays.len())]);
    }
    // The stage notices when a node is checked twice at once. No check outlasts the window, so it must not happen.
    let interval = Duration::from_secs(1);
    let builder = Monitor::builder().interval(interval).timeout(interval * 9 / 10);
    let monitor = builder.rng(rng.clone()).start(&cluster, stage.clone()).unwrap();
    for _ in 0..3000 {
        let id = name(rng.below(30));
        if rng.below(2) == 0 {
            cluster.remove(id);
        } else {
            cluster.insert(Node::new(id), ()).unwrap();
        }
        sleep(Duration::from_millis(rng.below(60) as u64)).await;
    }
    (0..30).for_each(|node| cluster.insert(Node::new(name(node)), ()).unwrap());
    let before = stage.checks().len();
    seconds(100).await;
    let report = monitor.report();
    assert_eq!(report.len(), 30);
    for node in &report {
        let checks = stage.checks().iter().skip(before).filter(|(_, id)| *id == node.id.as_str()).count();
        assert!((95..=135).contains(&checks), "{node}: {checks} checks in 100 s");
    }
}

/// Notes how the nodes are when a balancer first sees them.
#[derive(Clone, Debug, Default)]
struct Spy(Arc<Mutex<Vec<Health>>>);

impl Policy for Spy {
    fn picker(&self, nodes: &Nodes, previous: Option<&dyn Picker>) -> Box<dyn Picker> {
        self.0.lock().unwrap().extend(nodes.iter().map(|member| member.state.health()));
        RoundRobin.picker(nodes, previous)
    }
}

#[tokio::test(start_paused = true)]
async fn no_balancer_sees_a_newcomer_before_it_is_down_until_checked() {
    let (stage, cluster, spy) = (Stage::new(), cluster(&[]), Spy::default());
    let _before = Balance::new(cluster.clone(), spy.clone());
    let monitor = Monitor::builder().down_until_checked(true).start(&cluster, stage).unwrap();
    let _after = Balance::new(cluster.clone(), spy.clone());
    cluster.insert(Node::new("a"), ()).unwrap();
    assert_eq!(*spy.0.lock().unwrap(), [Health::Down; 2]);
    drop(monitor);
    cluster.insert(Node::new("b"), ()).unwrap();
    assert_eq!(health(&cluster, "b"), Health::Unknown, "nobody will check it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitors_start_and_stop_while_the_cluster_changes() {
    let cluster = cluster(&["stays"]);
    let stage = Stage::new();
    let changing = std::thread::spawn({
        let cluster = cluster.clone();
        move || {
            for round in 0..3000 {
                let id = format!("n{}", round % 7);
                cluster.insert(Node::new(id.clone()), ()).unwrap();
                cluster.remove(id);
            }
        }
    });
    let builder = Monitor::builder().interval(Duration::from_millis(2)).timeout(Duration::from_millis(1));
    for _ in 0..100 {
        let monitor = builder.clone().start(&cluster, stage.clone()).unwrap();
        assert_eq!(Monitor::start(&cluster, stage.clone()).err(), Some(MonitorError::AlreadyMonitored));
        sleep(Duration::from_millis(1)).await;
        assert!(monitor.report().len() <= 8);
    }
    changing.join().unwrap();
    let _monitor =
        builder.start(&cluster, async |_: Arc<buttress::cluster::Endpoint<()>>| Ok(Answer::Healthy));
    while health(&cluster, "stays") != Health::Up {
        sleep(Duration::from_millis(1)).await;
    }
}
