//! The tier on a real server, which is killed, revived and stopped.

use std::{sync::Arc, time::Duration};

use buttress::cache::{
    MemoryCache,
    tier::{Lookup, Notice, RedisTier, RedisTierBuilder, Ticket, Tier, TierError, Tiered},
};
use tokio::time::{Instant, sleep};

use crate::{
    server::Server,
    support::{PATIENCE, soon, until},
};

type Redis = RedisTier<String, String>;

/// With a deadline that is never met on a server that works.
fn builder(server: &Server) -> RedisTierBuilder {
    RedisTier::builder(&server.url(), "test", "text/1").unwrap().deadline(PATIENCE)
}

fn tier(server: &Server) -> Redis {
    builder(server).build()
}

fn key(name: &str) -> String {
    name.to_owned()
}

async fn value(tier: &Redis, name: &str) -> Option<String> {
    match tier.get(&key(name)).await.unwrap() {
        Lookup::Hit { value, .. } => Some(value),
        Lookup::Miss(_) => None,
    }
}

async fn miss(tier: &Redis, name: &str) -> Ticket {
    match tier.get(&key(name)).await.unwrap() {
        Lookup::Hit { value, .. } => panic!("there is {value}"),
        Lookup::Miss(ticket) => ticket,
    }
}

#[tokio::test]
async fn what_one_puts_another_gets_until_it_is_removed() {
    let server = Server::start();
    let (a, b) = (tier(&server), tier(&server));
    a.put(&key("x"), &key("1"), Some(PATIENCE)).await.unwrap();
    let Lookup::Hit { value: found, ttl: Some(ttl) } = b.get(&key("x")).await.unwrap() else {
        panic!("a miss")
    };
    assert!(found == "1" && ttl <= PATIENCE && !ttl.is_zero());
    b.put(&key("x"), &key("2"), None).await.unwrap();
    assert_eq!(value(&a, "x").await.as_deref(), Some("2"));
    a.remove(&key("x")).await.unwrap();
    assert_eq!(value(&b, "x").await, None);
    a.put(&key("y"), &key("3"), None).await.unwrap();
    b.clear().await.unwrap();
    assert_eq!((value(&a, "y").await, value(&b, "y").await), (None, None));
    a.put(&key("y"), &key("4"), Some(Duration::ZERO)).await.unwrap();
    assert_eq!(value(&a, "y").await, None, "it has no time at all");
}

#[tokio::test]
async fn entries_expire_and_never_stay_for_ever() {
    let server = Server::start();
    let tier: Redis = builder(&server).longest_ttl(Duration::from_secs(5000)).build();
    tier.put(&key("short"), &key("1"), Some(Duration::from_millis(30))).await.unwrap();
    until("it expires", async || value(&tier, "short").await.is_none()).await;
    tier.put(&key("long"), &key("1"), None).await.unwrap();
    tier.put(&key("longer"), &key("1"), Some(Duration::MAX)).await.unwrap();
    for name in ["long", "longer"] {
        let Lookup::Hit { ttl: Some(ttl), .. } = tier.get(&key(name)).await.unwrap() else {
            panic!("a miss")
        };
        assert!(ttl <= Duration::from_secs(5000) && ttl > Duration::from_secs(4000));
    }
    let reply = server.tell(&[b"EVAL", b"local n=0 for _,k in ipairs(redis.call('KEYS','test:v*')) do if redis.call('TTL',k) < 0 then n=n+1 end end return n", b"0"]);
    assert_eq!(reply, b":0\r\n", "each has an expiry");
}

#[tokio::test]
async fn many_keys_take_one_command() {
    let server = Server::start();
    let tier = tier(&server);
    let keys: Vec<_> = (0..1300).map(|at| format!("key {at}")).collect();
    let puts: Vec<_> = keys
        .iter()
        .step_by(2)
        .cloned()
        .map(|key| {
            let tier = tier.clone();
            tokio::spawn(async move { tier.put(&key, &key, None).await })
        })
        .collect();
    for put in puts {
        put.await.unwrap().unwrap();
    }
    let found = tier.get_many(&keys).await.unwrap();
    assert_eq!(found.len(), keys.len());
    for (at, (key, found)) in keys.iter().zip(found).enumerate() {
        match found {
            Lookup::Hit { value, .. } => assert!(at % 2 == 0 && value == *key),
            Lookup::Miss(ticket) => assert!(at % 2 == 1 && ticket != Ticket::default()),
        }
    }
    let calls = String::from_utf8(server.tell(&[b"INFO", b"commandstats"])).unwrap();
    let mget = calls.lines().find(|line| line.starts_with("cmdstat_mget")).unwrap().to_owned();
    assert!(mget.contains("calls=1,"), "{mget}");
    assert!(tier.get_many(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn any_bytes_make_a_key_and_long_ones_are_refused() {
    let server = Server::start();
    let tier: RedisTier<Vec<u8>, u32> = builder(&server).build();
    let mut keys: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        b"\r\n".to_vec(),
        b"*1\r\n$8\r\nFLUSHALL\r\n".to_vec(),
        b"'] .. redis.call('FLUSHALL') .. ['".to_vec(),
        vec![255; 127],
        vec![255; 128],
        vec![255; 10_000],
    ];
    keys.push(keys.concat());
    for (at, key) in keys.iter().enumerate() {
        tier.put(key, &u32::try_from(at).unwrap(), None).await.unwrap();
    }
    for (at, key) in keys.iter().enumerate() {
        let found = tier.get(key).await.unwrap();
        assert!(matches!(found, Lookup::Hit { value, .. } if value as usize == at), "{found:?}");
    }
    let longest = server.tell(&[
        b"EVAL",
        b"local n=0 for _,k in ipairs(redis.call('KEYS','*')) do n=math.max(n,#k) end return n",
        b"0",
    ]);
    let longest: usize = std::str::from_utf8(&longest[1..longest.len() - 2]).unwrap().parse().unwrap();
    assert!(longest < 200, "the names in the server are short: {longest}");
    let too_long = vec![0; 100_000];
    assert!(matches!(tier.put(&too_long, &1, None).await, Err(TierError::TooLarge { .. })));
    assert!(matches!(tier.get(&too_long).await, Err(TierError::TooLarge { .. })));
}

#[tokio::test]
async fn a_value_that_is_too_long_is_refused() {
    let server = Server::start();
    let tier: Redis = builder(&server).longest(1000).build();
    let long = "x".repeat(1000);
    assert!(matches!(tier.put(&key("x"), &long, None).await, Err(TierError::TooLarge { limit: 1000, .. })));
    let generous: Redis = builder(&server).build();
    generous.put(&key("x"), &long, None).await.unwrap();
    miss(&tier, "x").await;
    assert_eq!(tier.stats().damaged, 1);
}

#[tokio::test]
async fn whatever_is_in_the_server_a_wrong_value_never_comes_out() {
    let server = Server::start();
    let tier = tier(&server);
    tier.put(&key("x"), &key("1"), None).await.unwrap();
    let other: RedisTier<String, u64> =
        RedisTier::builder(&server.url(), "test", "number/1").unwrap().deadline(PATIENCE).build();
    assert!(matches!(other.get(&key("x")).await.unwrap(), Lookup::Miss(_)), "another schema");
    let name = b"test:v=\x01x";
    let stored = server.tell(&[b"GET", name]);
    let start = stored.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let stored = &stored[start..stored.len() - 2];
    let moved = b"test:v=\x01y";
    server.tell(&[b"SET", moved, stored]);
    miss(&tier, "y").await;
    let mut rng = buttress::rng::Rng::seeded(7);
    for round in 0..200 {
        let mut bytes = stored.to_vec();
        if round % 4 == 0 {
            bytes.truncate(rng.below(bytes.len()));
        } else {
            let at = rng.below(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
        }
        server.tell(&[b"SET", name, &bytes]);
        let found = value(&tier, "x").await;
        // The server's own digits of the expiry are not summed: a longer life is bounded by what the server itself does.
        assert!(found.is_none() || found.as_deref() == Some("1"), "{found:?}");
    }
    server.tell(&[b"DEL", name]);
    server.tell(&[b"LPUSH", name, b"a list"]);
    miss(&tier, "x").await;
    assert!(tier.stats().damaged > 0);
}

/// A server that is full refuses what is new. What is old must go all the same, and the others must hear of it.
#[tokio::test]
async fn a_full_server_refuses_values_and_not_removals() {
    let server = Server::start();
    let (a, b) = (tier(&server), tier(&server));
    a.put(&key("x"), &key("1"), None).await.unwrap();
    let mut notices = b.notices().unwrap();
    assert_eq!(soon(notices.recv()).await.unwrap(), Notice::Resumed);
    server.tell(&[b"CONFIG", b"SET", b"maxmemory", b"1"]);
    assert!(matches!(a.put(&key("y"), &key("2"), None).await, Err(TierError::Failed(_))));
    assert!(!a.stats().is_paused && a.stats().failures == 0, "it answers");
    assert_eq!(value(&b, "x").await.as_deref(), Some("1"));
    a.remove(&key("x")).await.unwrap();
    assert_eq!(soon(notices.recv()).await.unwrap(), Notice::Changed(key("x")));
    assert_eq!(value(&b, "x").await, None);
}

/// Somebody else's lists lie where the markers and the epoch should be.
#[tokio::test]
async fn keys_of_another_type_do_not_stand_in_the_way_of_changes() {
    let server = Server::start();
    let tier = tier(&server);
    server.tell(&[b"LPUSH", b"test:m=\x01x", b"a list"]);
    tier.remove(&key("x")).await.unwrap();
    server.tell(&[b"LPUSH", b"test:epoch", b"a list"]);
    miss(&tier, "x").await;
    tier.put(&key("x"), &key("1"), None).await.unwrap();
    assert_eq!(value(&tier, "x").await.as_deref(), Some("1"));
}

/// Between a miss and its fill the key is changed, by any node: the fill is refused.
#[tokio::test]
async fn a_fill_that_a_change_overtakes_is_refused() {
    let server = Server::start();
    let (a, b) = (tier(&server), tier(&server));
    let fill = async |name: &str, ticket| a.fill(&key(name), &key("old"), None, ticket).await.unwrap();
    let ticket = miss(&a, "x").await;
    assert!(fill("x", ticket).await);
    b.remove(&key("x")).await.unwrap();
    let ticket = miss(&a, "x").await;
    assert!(fill("x", ticket).await, "a miss after the removal is as good as new");

    for change in 0..4 {
        let name = format!("y{change}");
        let ticket = miss(&a, &name).await;
        match change {
            0 => b.remove(&name).await.unwrap(),
            1 => a.remove(&name).await.unwrap(),
            2 => b.put(&name, &key("new"), None).await.unwrap(),
            _ => b.clear().await.unwrap(),
        }
        assert!(!fill(&name, ticket.clone()).await, "change {change}");
        assert!(!fill(&name, ticket).await, "nor later");
        assert_eq!(value(&a, &name).await.as_deref(), (change == 2).then_some("new"));
    }
    assert!(!fill("z", Ticket::default()).await && !fill("z", Ticket(b"garbage".as_slice().into())).await);
    assert!(a.stats().refused >= 8);
}

#[tokio::test]
async fn a_server_that_has_lost_its_memory_refuses_tickets_from_before() {
    let mut server = Server::start();
    let tier = tier(&server);
    let ticket = miss(&tier, "x").await;
    tier.remove(&key("x")).await.unwrap();
    server.kill();
    server.revive();
    // The removal is forgotten. So must be the ticket from before it.
    until("it is back", async || tier.get(&key("other")).await.is_ok()).await;
    assert!(!tier.fill(&key("x"), &key("old"), None, ticket).await.unwrap());
}

#[tokio::test]
async fn without_a_server_everything_fails_within_the_deadline_and_then_at_once() {
    let mut server = Server::start();
    let deadline = Duration::from_millis(200);
    server.kill();
    let tier: Redis = builder(&server).deadline(deadline).pause(Duration::from_millis(300)).build();
    let mut paused = 0;
    for _ in 0..50 {
        match soon(tier.get(&key("x"))).await.unwrap_err() {
            TierError::Paused => paused += 1,
            TierError::Failed(_) | TierError::Timeout(_) => {}
            other => panic!("{other}"),
        }
    }
    assert!(paused > 30 && tier.stats().is_paused, "{paused} of 50 cost nothing");
    server.revive();
    until("it is used again", async || tier.put(&key("x"), &key("1"), None).await.is_ok()).await;
    assert_eq!(value(&tier, "x").await.as_deref(), Some("1"));
    assert!(!tier.stats().is_paused);
}

/// The worst outage: the connection stands, and no answer comes.
#[tokio::test]
async fn a_server_that_stands_still_costs_the_deadline_a_few_times_and_then_nothing() {
    let server = Server::start();
    let tier: Redis =
        builder(&server).deadline(Duration::from_millis(150)).pause(Duration::from_secs(60)).build();
    until("it is connected", async || tier.put(&key("x"), &key("1"), None).await.is_ok()).await;
    server.pause();
    let before = Instant::now();
    let (mut timeouts, mut paused) = (0, 0);
    for _ in 0..1000 {
        match soon(tier.get(&key("x"))).await.unwrap_err() {
            TierError::Timeout(_) => timeouts += 1,
            TierError::Paused => paused += 1,
            other => panic!("{other}"),
        }
    }
    println!(
        "a stopped server: {timeouts} calls met the deadline, {paused} cost nothing; {:?} in all",
        before.elapsed()
    );
    assert_eq!((timeouts, paused), (3, 997));
    // Also for who comes new.
    let new: Redis = builder(&server).deadline(Duration::from_millis(150)).build();
    assert!(matches!(soon(new.get(&key("x"))).await, Err(TierError::Timeout(_))));
    server.resume();
}

#[tokio::test]
async fn a_stopped_server_is_used_again_when_it_goes_on() {
    let server = Server::start();
    let tier: Redis =
        builder(&server).deadline(Duration::from_millis(300)).pause(Duration::from_millis(50)).build();
    until("it is connected", async || tier.put(&key("x"), &key("1"), None).await.is_ok()).await;
    server.pause();
    while !tier.stats().is_paused {
        soon(tier.get(&key("x"))).await.unwrap_err();
    }
    server.resume();
    until("it is used again", async || tier.get(&key("x")).await.is_ok()).await;
}

/// Keys come from clients. One that is too long for the server must not be owed to it for ever: enough of them would
/// have it cleared.
#[tokio::test]
async fn nothing_is_owed_for_keys_that_the_server_cannot_have() {
    let server = Server::start();
    let tier: RedisTier<Vec<u8>, u32> = builder(&server).build();
    let stack = Tiered::builder(MemoryCache::new(10)).tier(tier).build();
    let long = vec![0; 100_000];
    let refused = stack.remove(&long).await.unwrap_err();
    assert!(matches!(refused.failures[0].1, TierError::TooLarge { .. }));
    assert_eq!(stack.stats()[1].owed, 0, "it cannot be there");
    stack.insert(long.clone(), 1).await.unwrap_err();
    assert_eq!(stack.get(&long).await, Some(1), "from memory");
    stack.memory().clear();
    assert_eq!(stack.get(&long).await, None);
    assert_eq!(stack.stats()[1].owed, 0);
}

/// Through an outage the callers of a stack get values; the loader is asked where the server was.
#[tokio::test]
async fn a_stack_serves_through_a_kill_and_a_stop() {
    let mut server = Server::start();
    let tier: RedisTier<u32, u32> = RedisTier::builder(&server.url(), "stack", "number/1")
        .unwrap()
        .deadline(Duration::from_millis(200))
        .pause(Duration::from_millis(100))
        .build();
    let stack = Tiered::builder(MemoryCache::new(10)).tier(tier.clone()).build();
    let ask = async |keys: std::ops::Range<u32>| {
        for key in keys {
            assert_eq!(soon(stack.get_with(&key, || async move { key * 2 })).await, key * 2);
        }
    };
    ask(0..100).await;
    server.kill();
    ask(0..200).await;
    server.revive();
    until("the server is filled again", async || {
        ask(0..100).await;
        tier.stats().failures > 0 && stack.stats()[1].fills > 150
    })
    .await;
    server.pause();
    ask(0..200).await;
    server.resume();
    until("its values are used again", async || {
        let before = stack.stats()[1].hits;
        ask(0..100).await;
        stack.stats()[1].hits > before
    })
    .await;
    for stats in stack.stats() {
        println!("{stats:?}");
    }
}

#[tokio::test]
async fn callers_at_once_share_the_connection() {
    let server = Server::start();
    let tier = Arc::new(tier(&server));
    let tasks: Vec<_> = (0..200)
        .map(|at| {
            let tier = Arc::clone(&tier);
            tokio::spawn(async move {
                let name = format!("{}", at % 50);
                tier.put(&name, &name, None).await.unwrap();
                assert_eq!(value(&tier, &name).await, Some(name));
            })
        })
        .collect();
    for task in tasks {
        soon(task).await.unwrap();
    }
    let clients = String::from_utf8(server.tell(&[b"INFO", b"clients"])).unwrap();
    assert!(clients.contains("connected_clients:2"), "it and we: {clients}");
}

#[test]
fn a_url_or_namespace_that_makes_no_sense_is_refused() {
    for (url, namespace) in [("no url", "x"), ("http://127.0.0.1/", "x"), ("redis://127.0.0.1/", "")] {
        assert!(RedisTier::builder(url, namespace, "").is_err(), "{url}");
    }
    let long = "x".repeat(257);
    let error = RedisTier::builder("redis://127.0.0.1/", long, "").unwrap_err();
    assert_eq!(error.to_string(), "a namespace has 1 to 256 bytes, and this one 257");
}

/// A caller may leave at any time: what comes later is not for the next one.
#[tokio::test]
async fn calls_that_are_given_up_leave_the_connection_in_order() {
    let server = Server::start();
    let tier = tier(&server);
    for at in 0..100 {
        let name = format!("{at}");
        tier.put(&name, &name, None).await.unwrap();
    }
    let mut rng = buttress::rng::Rng::seeded(3);
    for round in 0..500 {
        let name = format!("{}", round % 100);
        let name = key(&name);
        let get = tier.get(&name);
        tokio::select! {
            biased;
            found = get => assert!(matches!(found.unwrap(), Lookup::Hit { value, .. } if value == name)),
            () = sleep(Duration::from_micros(rng.below(300) as u64)) => {}
        }
    }
    assert_eq!(value(&tier, "7").await.as_deref(), Some("7"));
}
