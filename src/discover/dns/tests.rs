use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::*;
use crate::cluster::{Admin, ClusterError, LoadGuard};

/// A resolver that says what the test puts in.
#[derive(Clone, Debug, Default)]
struct Fake(Arc<Script>);

#[derive(Debug, Default)]
struct Script {
    /// Whoever is not in here cannot be asked; whoever is in here with nothing does not exist.
    addresses: Mutex<HashMap<(String, Family), Answer<IpAddr>>>,
    services: Mutex<Option<Answer<Srv>>>,
    asked: AtomicUsize,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    mood: Mutex<Mood>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Mood {
    #[default]
    Answers,
    Hangs,
    Panics,
}

impl Fake {
    fn v4(&self, host: &str, ttl: u64, addresses: &[&str]) {
        self.set(host, Family::V4, ttl, addresses);
    }

    fn set(&self, host: &str, family: Family, ttl: u64, addresses: &[&str]) {
        let records = addresses.iter().map(|text| text.parse::<IpAddr>().expect("an address"));
        let answer = Answer::new(records, Duration::from_secs(ttl));
        self.0.addresses.lock().expect("no panic").insert((host.to_owned(), family), answer);
    }

    fn fail(&self, host: &str, family: Family) {
        self.0.addresses.lock().expect("no panic").remove(&(host.to_owned(), family));
    }

    fn srv(&self, ttl: u64, records: &[(u16, u16, &str, u16)]) {
        let records = records.iter().map(|&(priority, weight, host, port)| Srv {
            priority,
            host: host.to_owned(),
            port,
            weight,
        });
        *self.0.services.lock().expect("no panic") = Some(Answer::new(records, Duration::from_secs(ttl)));
    }

    fn feel(&self, mood: Mood) {
        *self.0.mood.lock().expect("no panic") = mood;
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Relaxed)
    }
}

#[async_trait]
impl Resolve for Fake {
    async fn addresses(&self, host: &str, family: Family) -> Result<Answer<IpAddr>, BoxError> {
        self.0.asked.fetch_add(1, Relaxed);
        let mood = *self.0.mood.lock().expect("no panic");
        match mood {
            Mood::Answers => {}
            Mood::Hangs => std::future::pending().await,
            Mood::Panics => panic!("the resolver has a bug"),
        }
        self.0.most_under_way.fetch_max(self.0.under_way.fetch_add(1, Relaxed) + 1, Relaxed);
        sleep(Duration::from_millis(1)).await;
        self.0.under_way.fetch_sub(1, Relaxed);
        let answers = self.0.addresses.lock().expect("no panic");
        answers.get(&(host.to_owned(), family)).cloned().ok_or_else(|| "server failure".into())
    }

    async fn services(&self, _name: &str) -> Result<Answer<Srv>, BoxError> {
        self.0.services.lock().expect("no panic").clone().ok_or_else(|| "server failure".into())
    }
}

/// A cluster that follows a fake resolver.
struct Scene {
    fake: Fake,
    cluster: Cluster<String>,
    events: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Scene {
    fn start(dns: Dns, fake: &Fake) -> Self {
        Self::start_with(dns, fake, Cluster::new([]).expect("empty"))
    }

    fn start_with(dns: Dns, fake: &Fake, cluster: Cluster<String>) -> Self {
        let events = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&events);
        let observe = move |event: Event<BoxError>| log.lock().expect("no panic").push(format!("{event:?}"));
        let dns = dns.resolver(fake.clone()).rng(Rng::seeded(7));
        let task = tokio::spawn(dns.follow(cluster.clone(), |_, address| address.to_string(), observe));
        Self { fake: fake.clone(), cluster, events, task }
    }

    fn nodes(&self) -> Vec<String> {
        self.cluster.load().iter().map(|member| member.node.id.to_string()).collect()
    }

    fn described(&self) -> Vec<(String, u8, u16)> {
        let version = self.cluster.load();
        version.iter().map(|m| (m.node.id.to_string(), m.node.priority, m.node.weight)).collect()
    }

    fn has_seen(&self, event: &str) -> bool {
        self.events.lock().expect("no panic").iter().any(|seen| seen.contains(event))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Follows the A records of `web`.
fn web() -> Dns {
    Dns::new("web", 80).family(Family::V4)
}

async fn seconds(seconds: f64) {
    sleep(Duration::from_secs_f64(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn records_are_asked_for_again_as_they_expire_and_not_before() {
    let fake = Fake::default();
    fake.v4("web", 30, &["10.0.0.2", "10.0.0.1"]);
    let scene = Scene::start(web(), &fake);
    seconds(1.0).await;
    assert_eq!(scene.nodes(), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(*scene.cluster.get("10.0.0.1:80").expect("known").service, "10.0.0.1:80");

    fake.v4("web", 30, &["10.0.0.3"]);
    seconds(25.0).await;
    assert_eq!(scene.fake.asked(), 1);
    seconds(8.0).await;
    assert_eq!(scene.fake.asked(), 2);
    assert_eq!(scene.nodes(), ["10.0.0.3:80"]);
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_zero_is_asked_for_about_once_a_second() {
    let fake = Fake::default();
    fake.v4("web", 0, &["10.0.0.1"]);
    let scene = Scene::start(web(), &fake);
    seconds(100.0).await;
    assert!((90..=112).contains(&scene.fake.asked()), "{}", scene.fake.asked());
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_a_day_is_asked_for_every_five_minutes() {
    let fake = Fake::default();
    fake.v4("web", 86_400, &["10.0.0.1"]);
    let scene = Scene::start(web(), &fake);
    seconds(3600.0).await;
    assert!((11..=14).contains(&scene.fake.asked()), "{}", scene.fake.asked());
}

#[tokio::test(start_paused = true)]
async fn the_last_good_set_stays_while_nobody_answers() {
    let fake = Fake::default();
    fake.v4("web", 5, &["10.0.0.1"]);
    let scene = Scene::start(web(), &fake);
    seconds(1.0).await;
    fake.fail("web", Family::V4);
    seconds(3600.0).await;
    assert_eq!(scene.nodes(), ["10.0.0.1:80"]);
    assert!(scene.has_seen("Failed(\"server failure\")"));
    // 3600 s at 30 s on average, and some at the start.
    assert!((80..=180).contains(&scene.fake.asked()), "{}", scene.fake.asked());

    fake.v4("web", 5, &["10.0.0.2"]);
    seconds(61.0).await;
    assert_eq!(scene.nodes(), ["10.0.0.2:80"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_set_stays_when_the_name_is_gone() {
    let fake = Fake::default();
    fake.v4("web", 5, &["10.0.0.1"]);
    let scene = Scene::start(web(), &fake);
    seconds(1.0).await;
    fake.v4("web", 0, &[]);
    seconds(600.0).await;
    assert_eq!(scene.nodes(), ["10.0.0.1:80"]);
    assert!(scene.has_seen("Refused(EmptyUpdate)"));
    assert!(scene.fake.asked() < 50, "{}", scene.fake.asked());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_may_be_empty_is_emptied_by_an_empty_answer_but_not_by_a_failure() {
    let fake = Fake::default();
    fake.v4("web", 5, &["10.0.0.1"]);
    let cluster = Cluster::builder().allow_empty(true).build([]).expect("empty");
    let scene = Scene::start_with(web(), &fake, cluster);
    seconds(1.0).await;
    fake.fail("web", Family::V4);
    seconds(60.0).await;
    assert_eq!(scene.nodes(), ["10.0.0.1:80"]);
    fake.v4("web", 0, &[]);
    seconds(61.0).await;
    assert!(scene.nodes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_hangs_or_panics_counts_as_failed() {
    let fake = Fake::default();
    fake.v4("web", 5, &["10.0.0.1"]);
    let scene = Scene::start(web().timeout(Duration::from_secs(2)), &fake);
    seconds(1.0).await;
    fake.feel(Mood::Hangs);
    seconds(60.0).await;
    assert!(scene.has_seen("no answer within 2s"));
    assert_eq!(scene.nodes(), ["10.0.0.1:80"]);
    fake.feel(Mood::Answers);
    fake.v4("web", 5, &["10.0.0.2"]);
    seconds(65.0).await;
    assert_eq!(scene.nodes(), ["10.0.0.2:80"]);

    fake.feel(Mood::Panics);
    seconds(60.0).await;
    assert!(scene.has_seen("the resolver has a bug"));
    assert_eq!(scene.nodes(), ["10.0.0.2:80"]);
    assert!(!scene.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn both_families_are_used_and_a_family_that_fails_keeps_its_nodes() {
    let fake = Fake::default();
    fake.v4("web", 5, &["10.0.0.1"]);
    fake.set("web", Family::V6, 5, &["::1", "::ffff:10.0.0.1"]);
    let scene = Scene::start(Dns::new("web", 80), &fake);
    seconds(1.0).await;
    assert_eq!(scene.nodes(), ["10.0.0.1:80", "[::1]:80"]);

    fake.fail("web", Family::V6);
    fake.v4("web", 5, &["10.0.0.2"]);
    seconds(6.0).await;
    // The IPv4 address in IPv6 clothes is still in the last good answer.
    assert_eq!(scene.nodes(), ["10.0.0.1:80", "10.0.0.2:80", "[::1]:80"]);

    fake.set("web", Family::V6, 5, &[]);
    seconds(6.0).await;
    assert_eq!(scene.nodes(), ["10.0.0.2:80"]);
}

#[tokio::test(start_paused = true)]
async fn srv_priorities_become_levels_and_weights_become_weights() {
    let fake = Fake::default();
    fake.srv(60, &[(20, 0, "c", 8081), (10, 5, "a", 8080), (10, 3, "b", 8080), (700, 1, "d", 80)]);
    fake.v4("a", 60, &["10.0.0.1", "10.0.0.2"]);
    fake.v4("b", 60, &["10.0.0.3"]);
    fake.v4("c", 60, &["10.0.0.1"]);
    fake.v4("d", 60, &["10.0.0.3"]);
    let scene = Scene::start(Dns::srv("_http._tcp.web").family(Family::V4), &fake);
    seconds(1.0).await;
    let expected = [
        ("10.0.0.1:8080", 0, 5),
        ("10.0.0.1:8081", 1, 1),
        ("10.0.0.2:8080", 0, 5),
        ("10.0.0.3:80", 2, 1),
        ("10.0.0.3:8080", 0, 3),
    ];
    assert_eq!(scene.described(), expected.map(|(id, priority, weight)| (id.to_owned(), priority, weight)));

    fake.srv(60, &[(20, 9, "c", 8081)]);
    seconds(70.0).await;
    assert_eq!(scene.described(), [("10.0.0.1:8081".to_owned(), 0, 9)]);
}

#[tokio::test(start_paused = true)]
async fn an_srv_host_that_fails_keeps_its_nodes_until_it_leaves_the_records() {
    let fake = Fake::default();
    fake.srv(10, &[(0, 1, "a", 80), (0, 1, "b", 80)]);
    fake.v4("a", 10, &["10.0.0.1"]);
    fake.v4("b", 10, &["10.0.0.2"]);
    let scene = Scene::start(Dns::srv("_http._tcp.web").family(Family::V4), &fake);
    seconds(1.0).await;
    fake.fail("b", Family::V4);
    fake.v4("a", 10, &["10.0.0.3"]);
    seconds(30.0).await;
    assert_eq!(scene.nodes(), ["10.0.0.2:80", "10.0.0.3:80"]);
    fake.srv(10, &[(0, 1, "a", 80)]);
    seconds(30.0).await;
    assert_eq!(scene.nodes(), ["10.0.0.3:80"]);
    *fake.0.services.lock().expect("no panic") = None;
    seconds(300.0).await;
    assert_eq!(scene.nodes(), ["10.0.0.3:80"]);
}

#[tokio::test(start_paused = true)]
async fn many_hosts_are_all_asked_with_few_questions_under_way() {
    let fake = Fake::default();
    let hosts: Vec<String> = (0..100).map(|host| format!("host-{host}")).collect();
    let records: Vec<_> = hosts.iter().map(|host| (0, 1, host.as_str(), 80)).collect();
    fake.srv(60, &records);
    for (number, host) in hosts.iter().enumerate() {
        fake.v4(host, 60, &[&format!("10.0.1.{number}")]);
    }
    let scene = Scene::start(Dns::srv("_http._tcp.web").family(Family::V4), &fake);
    seconds(1.0).await;
    assert_eq!((scene.nodes().len(), fake.asked()), (100, 100));
    assert_eq!(fake.0.most_under_way.load(Relaxed), 16);
}

#[tokio::test(start_paused = true)]
async fn surplus_nodes_are_cut_in_a_fixed_order_and_reported() {
    let fake = Fake::default();
    fake.v4("web", 1, &["10.0.0.10", "10.0.0.9", "10.0.0.1", "10.0.0.2"]);
    let scene = Scene::start(web().max_nodes(3), &fake);
    seconds(0.5).await;
    // By address, not by text: 9 comes before 10.
    assert_eq!(scene.nodes(), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:80"]);
    assert!(scene.has_seen("Surplus { named: 4, kept: 3 }"));
    fake.v4("web", 1, &["10.0.0.2", "10.0.0.10", "10.0.0.1", "10.0.0.9"]);
    let before = scene.cluster.load().generation();
    seconds(5.0).await;
    assert_eq!(scene.cluster.load().generation(), before);

    // Backups go first, and surplus hosts are not even asked.
    fake.srv(60, &[(0, 1, "b", 80), (1, 1, "a", 80), (2, 1, "web", 80)]);
    fake.v4("a", 60, &["10.0.1.1"]);
    fake.v4("b", 60, &["10.0.1.3", "10.0.1.2"]);
    let asked = fake.asked();
    drop(scene);
    let scene = Scene::start(Dns::srv("_http._tcp.web").family(Family::V4).max_nodes(2), &fake);
    seconds(0.5).await;
    assert_eq!(scene.nodes(), ["10.0.1.2:80", "10.0.1.3:80"]);
    assert_eq!(fake.asked() - asked, 2);
}

#[tokio::test(start_paused = true)]
async fn nodes_keep_their_state_and_what_the_operator_set() -> Result<(), ClusterError> {
    let fake = Fake::default();
    fake.v4("web", 5, &["10.0.0.1", "10.0.0.2"]);
    let scene = Scene::start(web(), &fake);
    seconds(1.0).await;
    let guard = LoadGuard::start(&scene.cluster.get("10.0.0.1:80").expect("known").member);
    scene.cluster.set_admin("10.0.0.2:80", Admin::Draining)?;
    fake.v4("web", 5, &["10.0.0.2"]);
    seconds(6.0).await;
    assert_eq!(scene.nodes(), ["10.0.0.2:80"]);
    fake.v4("web", 5, &["10.0.0.1", "10.0.0.2"]);
    seconds(6.0).await;
    assert_eq!(scene.cluster.get("10.0.0.1:80").expect("back").member.state.in_flight(), 1);
    assert_eq!(scene.cluster.get("10.0.0.2:80").expect("there").member.node.admin, Admin::Draining);
    drop(guard);
    assert_eq!(scene.cluster.get("10.0.0.1:80").expect("back").member.state.in_flight(), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn followers_that_begin_together_do_not_march_in_step() {
    let fakes: Vec<_> = (0..50).map(|_| Fake::default()).collect();
    let began = Instant::now();
    let tasks: Vec<_> = fakes
        .iter()
        .enumerate()
        .map(|(seed, fake)| {
            fake.v4("web", 60, &["10.0.0.1"]);
            let dns = web().resolver(fake.clone()).rng(Rng::seeded(seed as u64));
            tokio::spawn(dns.follow(Cluster::new([]).expect("empty"), |_, _| (), |_| {}))
        })
        .collect();
    seconds(60.0).await;
    let early = fakes.iter().filter(|fake| fake.asked() == 2).count();
    assert!((10..=40).contains(&early), "{early} of 50 after {:?}", began.elapsed());
    seconds(6.1).await;
    assert!(fakes.iter().all(|fake| fake.asked() == 2));
    tasks.iter().for_each(JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn an_address_stands_for_itself() {
    let fake = Fake::default();
    let scene = Scene::start(Dns::new("2001:db8::1", 443), &fake);
    seconds(1.0).await;
    assert_eq!(scene.nodes(), ["[2001:db8::1]:443"]);
    assert_eq!(fake.asked(), 0);
}
