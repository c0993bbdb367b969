//! Two nodes, each with memory and a disk of its own, over one server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::cache::{
    MemoryCache,
    tier::{DiskTier, RedisTier, Tier, Tiered},
};

use crate::{
    server::Server,
    support::{Folder, PATIENCE, soon, until},
};

struct Node {
    stack: Tiered<u32, u64>,
    disk: DiskTier<u32, u64>,
    redis: RedisTier<u32, u64>,
    _folder: Folder,
}

impl Node {
    async fn start(server: &Server) -> Self {
        let folder = Folder::new();
        let disk = DiskTier::builder(folder.file(), "number/1").open().await.unwrap();
        let redis = RedisTier::builder(&server.url(), "nodes", "number/1")
            .unwrap()
            .deadline(PATIENCE)
            .pause(Duration::from_millis(50))
            .build();
        let stack = Tiered::builder(MemoryCache::new(1000)).tier(disk.clone()).tier(redis.clone()).build();
        let node = Self { stack, disk, redis, _folder: folder };
        node.hears(1).await;
        node
    }

    /// Waits until it has subscribed so many times, and has acted on that.
    async fn hears(&self, times: u64) {
        until("it hears the others", async || {
            let stats = self.redis.stats();
            stats.is_subscribed && stats.subscriptions >= times
        })
        .await;
        // The follower's first act is to clear the memory; what we put there is gone when it has.
        until("it has acted on that", async || {
            self.stack.memory().insert(u32::MAX, 0);
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.stack.memory().remove(&u32::MAX).is_some()
        })
        .await;
    }

    async fn local(&self, key: u32) -> (Option<u64>, bool) {
        let on_disk = matches!(self.disk.get(&key).await, Ok(buttress::cache::tier::Lookup::Hit { .. }));
        (self.stack.memory().peek(&key), on_disk)
    }
}

#[tokio::test]
async fn what_one_node_loads_the_other_has_and_what_it_changes_the_other_forgets() {
    let server = Server::start();
    let (a, b) = (Node::start(&server).await, Node::start(&server).await);
    assert_eq!(a.stack.get_with(&1, || async { 11 }).await, 11);
    assert_eq!(b.stack.get(&1).await, Some(11), "no need to load it again");
    b.disk.flush().await.unwrap();
    assert_eq!(b.local(1).await, (Some(11), true));

    a.stack.insert(1, 12).await.unwrap();
    until("the other has forgotten it", async || b.local(1).await == (None, false)).await;
    assert_eq!((a.stack.get(&1).await, b.stack.get(&1).await), (Some(12), Some(12)));

    b.stack.remove(&1).await.unwrap();
    until("the other has forgotten it", async || a.local(1).await == (None, false)).await;
    assert_eq!((a.stack.get(&1).await, b.stack.get(&1).await), (None, None));

    a.stack.insert(2, 22).await.unwrap();
    b.stack.insert(3, 33).await.unwrap();
    a.stack.clear().await.unwrap();
    until("the other has forgotten all", async || b.local(3).await == (None, false)).await;
    assert_eq!(b.stack.get(&2).await, None);
    assert_eq!(a.redis.stats().malformed + b.redis.stats().malformed, 0);
}

#[tokio::test]
async fn a_node_ignores_what_it_says_itself_and_what_makes_no_sense() {
    let server = Server::start();
    let node = Node::start(&server).await;
    node.stack.insert(1, 11).await.unwrap();
    for garbage in
        [&b""[..], b"hello", &[b'b', b'c', 9], &[0; 5000], b"bc\x01________\x00\xff\xff\xff\xff\xff\xff"]
    {
        server.tell(&[b"PUBLISH", b"nodes:changes", garbage]);
    }
    until("all were counted", async || node.redis.stats().malformed == 5).await;
    assert_eq!(node.redis.stats().heard, 0);
    assert_eq!(node.stack.memory().get(&1), Some(11));
}

/// The server is killed while both hold a value; one changes it as soon as the server is back, maybe before the other hears
/// anything.
#[tokio::test]
async fn what_is_changed_while_nobody_listens_is_not_missed() {
    let mut server = Server::start();
    let (a, b) = (Node::start(&server).await, Node::start(&server).await);
    a.stack.insert(1, 11).await.unwrap();
    until("the other has heard of it", async || b.redis.stats().heard == 1).await;
    until("and has it, for good", async || {
        assert_eq!(b.stack.get(&1).await, Some(11));
        b.disk.flush().await.unwrap();
        b.local(1).await == (Some(11), true)
    })
    .await;
    server.kill();
    assert_eq!(b.stack.get(&1).await, Some(11), "it serves on");
    let failed = soon(a.stack.insert(1, 12)).await.unwrap_err();
    assert_eq!(failed.failures[0].0, "redis");
    assert_eq!(a.stack.get(&1).await, Some(12), "what it was told it knows");
    server.revive();
    // Either it hears of it, or that it may have missed something.
    until("the other has forgotten it", async || b.local(1).await == (None, false)).await;
    b.hears(2).await;
    until("the server is told what it missed", async || {
        a.stack.get(&99).await;
        a.stack.stats().iter().all(|tier| tier.owed == 0)
    })
    .await;
    assert_ne!(b.stack.get(&1).await, Some(11));
}

/// Its messages are lost though the server lives: the connection is cut.
#[tokio::test]
async fn a_connection_that_breaks_makes_a_node_start_anew() {
    let server = Server::start();
    let (a, b) = (Node::start(&server).await, Node::start(&server).await);
    a.stack.insert(1, 11).await.unwrap();
    assert_eq!(b.stack.get(&1).await, Some(11));
    let subscriptions = b.redis.stats().subscriptions;
    server.tell(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]);
    // Nobody hears this. (Or somebody does, if they are quick: it must not matter.)
    a.stack.insert(1, 12).await.unwrap();
    until("it has subscribed again", async || b.redis.stats().subscriptions > subscriptions).await;
    until("it has the new value", async || b.stack.get(&1).await == Some(12)).await;
}

/// A message that never comes, on a connection that stands: only the age of what is local bounds that.
#[tokio::test]
async fn what_is_local_is_asked_for_again_when_it_is_old() {
    let server = Server::start();
    let staleness = Duration::from_millis(300);
    let redis: RedisTier<u32, u64> =
        RedisTier::builder(&server.url(), "nodes", "number/1").unwrap().deadline(PATIENCE).build();
    let quiet: RedisTier<u32, u64> =
        RedisTier::builder(&server.url(), "nodes", "number/1").unwrap().deadline(PATIENCE).build();
    let stack = Tiered::builder(MemoryCache::new(10)).tier(redis.clone()).max_staleness(staleness).build();
    stack.insert(1, 11).await.unwrap();
    // The message gets lost on the way: it goes to another channel of another tier.
    server.tell(&[b"CLIENT", b"NO-TOUCH", b"ON"]);
    server.tell(&[b"CONFIG", b"SET", b"notify-keyspace-events", b""]);
    until("it hears", async || redis.stats().is_subscribed).await;
    server.tell(&[b"EVAL", b"redis.call('DEL', KEYS[1])", b"1", b"nodes:v=\x01"]);
    until("it asks again", async || stack.get(&1).await.is_none()).await;
    drop(quiet);
}

/// Both nodes read and change the same keys at once, each change first in the database: soon after it, nobody has an older
/// value, and who changed it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_at_once_never_bring_an_old_value_back() {
    const KEYS: u32 = 8;
    let server = Server::start();
    let nodes = Arc::new([Node::start(&server).await, Node::start(&server).await]);
    let truth: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(1)).collect());
    let tasks: Vec<_> = (0..8_usize)
        .map(|task| {
            let (nodes, truth) = (Arc::clone(&nodes), Arc::clone(&truth));
            tokio::spawn(async move {
                let mut rng = buttress::rng::Rng::seeded(task as u64);
                let mine = &nodes[task % 2].stack;
                for _ in 0..150 {
                    let key = u32::try_from(rng.below(KEYS as usize)).unwrap();
                    let now = &truth[key as usize];
                    if rng.below(4) == 0 {
                        let version = now.fetch_add(1, SeqCst) + 1;
                        mine.remove(&key).await.unwrap();
                        let seen = mine.get(&key).await;
                        assert!(seen.is_none_or(|seen| seen >= version), "{seen:?} after {version}");
                    } else {
                        let truth = Arc::clone(&truth);
                        mine.get_with(&key, || async move { truth[key as usize].load(SeqCst) }).await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for key in 0..KEYS {
        let now = truth[key as usize].load(SeqCst);
        for node in nodes.iter() {
            until("all have the newest or nothing", async || {
                node.stack.get(&key).await.is_none_or(|seen| seen == now)
            })
            .await;
        }
    }
    for stats in nodes.iter().flat_map(|node| node.stack.stats()) {
        println!("{stats:?}");
    }
}
