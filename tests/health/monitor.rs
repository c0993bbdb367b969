//! What the monitor makes of answers.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::balance::{Balance, RoundRobin};
use buttress::cluster::{Cluster, Endpoint, Health, Node};
use buttress::health::{Answer, CheckResult, HealthChange, HealthCheck, Monitor, MonitorError};
use buttress::rng::Rng;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

use crate::stage::{Play, Stage, cluster, health, seconds};

const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(2);
/// Timers have a granularity of a millisecond.
const TICK: Duration = Duration::from_millis(2);

#[tokio::test(start_paused = true)]
async fn a_node_that_fails_goes_down_and_comes_back() {
    let (stage, cluster) = (Stage::new(), cluster(&["a", "b"]));
    let monitor = Monitor::start(&cluster, stage.clone()).unwrap();
    assert_eq!(health(&cluster, "a"), Health::Unknown);
    sleep(INTERVAL).await;
    assert_eq!(health(&cluster, "a"), Health::Up);

    stage.play("a", Play::Fails);
    seconds(8).await;
    assert_eq!((health(&cluster, "a"), health(&cluster, "b")), (Health::Down, Health::Up));
    let report = &monitor.report()[0];
    assert_eq!((report.id.as_str(), report.health), ("a", Health::Down));
    assert_eq!(report.last.clone().unwrap().unwrap_err().reason(), "connection refused");
    assert!(report.streak >= 3 && report.lasting < Duration::from_secs(8), "{report:?}");

    stage.play("a", Play::Up);
    seconds(7).await;
    assert_eq!(health(&cluster, "a"), Health::Up);
}

#[tokio::test(start_paused = true)]
async fn before_the_first_answer_a_node_takes_traffic_or_none() {
    for down_until_checked in [false, true] {
        let (stage, cluster) = (Stage::new(), cluster(&["a"]));
        stage.play("a", Play::Slow(1000));
        let balance =
            Balance::new(cluster.clone(), RoundRobin).levels(buttress::balance::Levels::default().panic(0));
        let monitor = Monitor::builder().down_until_checked(down_until_checked);
        let monitor = monitor.start(&cluster, stage.clone()).unwrap();
        assert_eq!(balance.pick(None).is_err(), down_until_checked);
        sleep(INTERVAL + TIMEOUT).await;
        assert!(balance.pick(None).is_ok());

        // A newcomer is down before any balancer can see it.
        cluster.insert(Node::new("b"), ()).unwrap();
        assert_eq!(health(&cluster, "b") == Health::Down, down_until_checked);
        sleep(INTERVAL).await;
        assert_eq!(health(&cluster, "b"), Health::Up, "the first answer decides");
        drop(monitor);
    }
}

#[tokio::test(start_paused = true)]
async fn what_breaks_is_down_within_fall_intervals_and_a_timeout() {
    for seed in 0..200 {
        let mut rng = Rng::seeded(seed);
        let (stage, cluster) = (Stage::new(), cluster(&["a"]));
        let fall = 1 + u32::try_from(rng.below(4)).unwrap();
        let fast = INTERVAL.mul_f64(0.1 + 0.9 * rng.unit());
        let builder = Monitor::builder().fall(fall).fast_interval(fast).rng(rng.clone());
        let _monitor = builder.interval(INTERVAL).timeout(TIMEOUT).start(&cluster, stage.clone()).unwrap();
        sleep(2 * INTERVAL + INTERVAL.mul_f64(rng.unit())).await;
        assert_eq!(health(&cluster, "a"), Health::Up);

        stage.play("a", if seed % 2 == 0 { Play::Hangs } else { Play::Fails });
        let broke = Instant::now();
        let bound = fall * INTERVAL + TIMEOUT + fall * TICK;
        sleep(bound).await;
        assert_eq!(health(&cluster, "a"), Health::Down, "seed {seed}: not within {:?}", broke.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn intervals_are_never_longer_than_they_say_and_shorter_by_the_jitter_at_most() {
    let (stage, cluster) = (Stage::new(), cluster(&["a"]));
    stage.play("a", Play::Slow(300));
    let _monitor = Monitor::builder().jitter(0.2).start(&cluster, stage.clone()).unwrap();
    seconds(1000).await;
    let gaps = stage.gaps_of("a");
    assert!(stage.checks_of("a")[0] <= INTERVAL);
    let (shortest, longest) = (Duration::from_millis(3998), INTERVAL + TICK);
    assert!(gaps.iter().all(|gap| (shortest..=longest).contains(gap)), "{gaps:?}");
    let mean = gaps.iter().sum::<Duration>().as_secs_f64() / gaps.len() as f64;
    assert!((4.4..4.6).contains(&mean), "{mean}");
}

#[tokio::test(start_paused = true)]
async fn a_doubt_is_settled_at_the_fast_interval() {
    let (stage, cluster) = (Stage::new(), cluster(&["a"]));
    let builder = Monitor::builder().jitter(0.0).down_interval(Duration::from_secs(3));
    let _monitor = builder.start(&cluster, stage.clone()).unwrap();
    seconds(10).await;
    let good = stage.checks_of("a").len();
    stage.play("a", Play::Fails);
    seconds(30).await;
    let bad = stage.checks_of("a").len();
    stage.play("a", Play::Up);
    seconds(20).await;
    let gaps: Vec<_> = stage.gaps_of("a").into_iter().map(|gap| (gap + TICK).as_secs()).collect();
    assert_eq!(gaps[good - 1..good + 4], [5, 1, 1, 3, 3]);
    assert_eq!(gaps[bad - 1..bad + 3], [3, 1, 5, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_is_timed_out_and_delays_nobody() {
    let names: Vec<_> = (0..20).map(|node| format!("n{node:02}")).collect();
    let (stage, cluster) = (Stage::new(), cluster(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    stage.play("n07", Play::Hangs);
    let monitor = Monitor::start(&cluster, stage.clone()).unwrap();
    seconds(600).await;
    for name in &names {
        let hangs = name == "n07";
        assert_eq!(health(&cluster, name) == Health::Down, hangs);
        let gaps = stage.gaps_of(name);
        assert!(gaps.iter().all(|gap| *gap <= INTERVAL + TICK), "{name}: {gaps:?}");
    }
    let report = &monitor.report()[7];
    assert_eq!(report.last.clone().unwrap().unwrap_err().reason(), "no answer within 2s");
}

#[tokio::test(start_paused = true)]
async fn slow_nodes_are_checked_beside_each_other() {
    let names: Vec<_> = (0..50).map(|node| format!("n{node:02}")).collect();
    let (stage, cluster) = (Stage::new(), cluster(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    for name in &names {
        stage.play(name, Play::Slow(100));
    }
    let interval = Duration::from_secs(1);
    let _monitor = Monitor::builder().interval(interval).start(&cluster, stage.clone()).unwrap();
    sleep(interval + Duration::from_millis(110)).await;
    assert!(
        names.iter().all(|name| health(&cluster, name) == Health::Up),
        "in sequence it takes five seconds"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_drains_gets_no_new_picks_and_is_not_down() {
    let (stage, cluster) = (Stage::new(), cluster(&["a", "b", "c"]));
    let changes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&changes);
    let builder = Monitor::builder().on_change(move |change| noted.lock().unwrap().push(change.to_string()));
    let _monitor = builder.start(&cluster, stage.clone()).unwrap();
    let balance = Balance::new(cluster.clone(), RoundRobin);
    seconds(6).await;
    stage.play("b", Play::Draining);
    seconds(6).await;
    assert_eq!(health(&cluster, "b"), Health::Draining);
    let picked =
        |node: &str| (0..30).any(|_| balance.pick(None).unwrap().1.member().node.id.as_str() == node);
    assert!(picked("a") && !picked("b") && picked("c"));
    stage.play("b", Play::Up);
    seconds(6).await;
    assert!(picked("b"));
    let changes = changes.lock().unwrap();
    let of_b: Vec<_> = changes.iter().filter(|change| change.starts_with("b: ")).collect();
    assert_eq!(of_b, ["b: unknown -> up", "b: up -> draining", "b: draining -> up"]);
}

#[tokio::test(start_paused = true)]
async fn panics_in_checks_and_observers_break_nothing() {
    let (stage, cluster) = (Stage::new(), cluster(&["a", "b"]));
    stage.play("a", Play::Panics);
    let told = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&told);
    let builder = Monitor::builder().on_change(move |_: &HealthChange| {
        count.fetch_add(1, Relaxed);
        panic!("as planned");
    });
    let monitor = builder.start(&cluster, stage.clone()).unwrap();
    seconds(6).await;
    assert_eq!((health(&cluster, "a"), health(&cluster, "b")), (Health::Down, Health::Up));
    assert_eq!(monitor.report()[0].last.clone().unwrap().unwrap_err().reason(), "the check panicked");
    assert_eq!(told.load(Relaxed), 2);
    stage.play("a", Play::Up);
    seconds(12).await;
    assert_eq!(health(&cluster, "a"), Health::Up);
}

#[tokio::test(start_paused = true)]
async fn one_monitor_checks_however_many_balance() {
    let (stage, cluster) = (Stage::new(), cluster(&["a", "b"]));
    let balancers = [(); 5].map(|()| Balance::new(cluster.clone(), RoundRobin));
    let monitor = Monitor::start(&cluster, stage.clone()).unwrap();
    let second = Monitor::start(&cluster, stage.clone());
    assert_eq!(second.err(), Some(MonitorError::AlreadyMonitored));
    let clone = monitor.clone();
    drop(monitor);
    seconds(96).await;
    let checks = stage.checks_of("a").len();
    assert!((19..=22).contains(&checks), "{checks} checks in 96 s");
    stage.play("a", Play::Fails);
    seconds(8).await;
    for balance in &balancers {
        assert!((0..10).all(|_| balance.pick(None).unwrap().1.member().node.id.as_str() == "b"));
    }
    drop(clone);
    assert!(Monitor::start(&cluster, stage).is_ok(), "the first is gone");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_monitor_or_the_cluster_stops_all_tasks() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for drop_cluster in [false, true] {
        for names in [&["a", "b"][..], &[]] {
            let (stage, cluster) = (Stage::new(), cluster(names));
            stage.play("a", Play::Hangs);
            let monitor = Monitor::start(&cluster, stage.clone()).unwrap();
            while !names.is_empty() && stage.running() == 0 {
                sleep(TICK).await;
            }
            assert_eq!(tasks(), 1 + names.len() / 2);
            if drop_cluster {
                drop(cluster);
                sleep(TICK).await;
                assert_eq!(tasks(), 0);
                assert_eq!(monitor.report().len(), names.len(), "what was known last");
            } else {
                drop(monitor);
                sleep(TICK).await;
                assert_eq!(tasks(), 0);
            }
            assert_eq!(stage.running(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_times() {
    let mut times = Vec::new();
    for seed in [7, 7, 8] {
        let (stage, cluster) = (Stage::new(), cluster(&["a", "b", "c"]));
        let _monitor = Monitor::builder().rng(Rng::seeded(seed)).start(&cluster, stage.clone()).unwrap();
        seconds(60).await;
        times.push(stage.checks());
    }
    assert_eq!(times[0], times[1]);
    assert_ne!(times[0], times[2]);
}

#[tokio::test(start_paused = true)]
async fn checks_may_be_functions_closures_and_objects() {
    async fn function<S>(_: Arc<Endpoint<S>>) -> CheckResult {
        Ok(Answer::Healthy)
    }
    // A service that has no name.
    let service = tower::service_fn(|request: u32| async move { Ok::<_, std::io::Error>(request) });
    let unnamed = Cluster::new([(Node::new("a"), service)]).unwrap();
    let _monitor = Monitor::start(&unnamed, function).unwrap();

    let cluster = cluster(&["a"]);
    let limit = 3;
    let closure = move |endpoint: Arc<Endpoint<()>>| async move {
        let load = endpoint.member.state.in_flight();
        if load < limit { Ok(Answer::Healthy) } else { Ok(Answer::Draining) }
    };
    let object: Arc<dyn HealthCheck<()>> = Arc::new(closure);
    let _monitor = Monitor::start(&cluster, object).unwrap();
    sleep(INTERVAL).await;
    assert_eq!((health(&unnamed, "a"), health(&cluster, "a")), (Health::Up, Health::Up));
}

#[tokio::test(start_paused = true)]
async fn a_check_may_send_a_request_through_the_nodes_service() {
    #[derive(Clone)]
    struct Works(bool);
    impl tower::Service<()> for Works {
        type Response = ();
        type Error = std::io::Error;
        type Future = std::future::Ready<Result<(), std::io::Error>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            std::future::ready(if self.0 { Ok(()) } else { Err(std::io::Error::other("broken")) })
        }
    }
    let cluster =
        Cluster::new([("a", true), ("b", false)].map(|(name, works)| (Node::new(name), Works(works))));
    let cluster = cluster.unwrap();
    let check = async |endpoint: Arc<Endpoint<Works>>| {
        Works::clone(&endpoint.service).oneshot(()).await?;
        Ok(Answer::Healthy)
    };
    let _monitor = Monitor::start(&cluster, check).unwrap();
    sleep(INTERVAL).await;
    assert_eq!((health(&cluster, "a"), health(&cluster, "b")), (Health::Up, Health::Down));
}

#[test]
fn without_a_runtime_it_does_not_start() {
    let cluster = cluster(&["a"]);
    let check = async |_: Arc<Endpoint<()>>| Ok(Answer::Healthy);
    assert_eq!(Monitor::start(&cluster, check).err(), Some(MonitorError::NoRuntime));
    assert_eq!(Monitor::builder().fall(0).start(&cluster, check).err(), Some(MonitorError::NoThreshold));
}
