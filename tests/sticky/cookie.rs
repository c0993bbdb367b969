//! Pins in signed cookies.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress::{
    balance::{Balance, Hedge, Retry, RoundRobin, http::RepeatHttp},
    cluster::{Admin, Cluster, Health, LoadGuard, Node},
    forward::ReplayBody,
    rng::Rng,
    sticky::{Personal, Pins, Rejected, Sticky, StickyCookie},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    header::{CACHE_CONTROL, COOKIE, SET_COOKIE},
};
use tower::{ServiceExt, service_fn};

use crate::support::{Client, Fake, Mood, World, keys, send, shop};

#[tokio::test]
async fn every_client_keeps_its_node_whatever_happens_to_others() {
    let world = World::new(["a", "b", "c", "d", "e"]);
    let stack = world.stack(&world.pins());
    let mut rng = Rng::seeded(3);
    let mut clients: Vec<(Client, String)> = Vec::new();
    for _ in 0..50 {
        let mut client = Client::default();
        let node = client.node(&stack).await;
        clients.push((client, node));
    }
    // Only d and e change; clients of a, b and c must not notice.
    for round in 0..100 {
        let name = ["d", "e"][rng.below(2)];
        match rng.below(6) {
            0 => drop(world.cluster.remove(name)),
            1 => world.cluster.insert(Node::new(name), world.node(name).clone()).unwrap(),
            2 => world.cluster.insert(Node::new(format!("new-{round}")), Fake::new("new")).unwrap(),
            3 => drop(world.cluster.set_admin(name, Admin::Down)),
            4 => drop(world.cluster.set_health(name, Health::Down)),
            _ => world.cluster.set_weight("a", u16::try_from(rng.below(5)).unwrap()).unwrap(),
        }
        for (client, node) in clients.iter_mut().filter(|(_, node)| ["a", "b", "c"].contains(&node.as_str()))
        {
            let visit = client.visit(&stack).await;
            assert_eq!(visit.node, *node);
            assert!(visit.sets().is_empty(), "set only when it changes");
        }
        world.advance(1);
    }
}

#[tokio::test]
async fn the_cookie_is_set_only_when_it_changes() {
    let world = World::new(["a", "b"]);
    let pins = world.pins();
    let stack = world.stack(&pins);
    let mut client = Client::default();
    let first = client.visit(&stack).await;
    assert_eq!(first.sets().len(), 1);
    for minute in 1..=30 {
        world.advance(60);
        assert!(client.visit(&stack).await.sets().is_empty(), "after {minute} min");
    }
    world.advance(1);
    let renewed = client.visit(&stack).await;
    assert_eq!((renewed.node, renewed.headers.get_all(SET_COOKIE).iter().count()), (first.node, 1));
    assert!(client.visit(&stack).await.sets().is_empty());
    let stats = pins.stats();
    assert_eq!((stats.assigned, stats.kept, stats.renewed, stats.moved), (1, 32, 1, 0));
}

#[tokio::test]
async fn a_client_whose_node_fails_moves_once() {
    let world = World::new(["a", "b", "c"]);
    let pins = world.pins();
    let stack = world.stack(&pins);
    let mut client = Client::default();
    let first = client.node(&stack).await;
    world.cluster.set_health(&*first, Health::Down).unwrap();
    let moved = client.visit(&stack).await;
    assert_ne!(moved.node, first);
    assert_eq!(moved.sets().len(), 1, "issued anew");
    world.cluster.set_health(&*first, Health::Up).unwrap();
    for _ in 0..10 {
        let visit = client.visit(&stack).await;
        assert_eq!((&visit.node, visit.sets().len()), (&moved.node, 0), "it stays where it went");
    }
    assert_eq!(pins.stats().moved, 1);
}

#[tokio::test]
async fn a_retry_on_another_node_moves_the_client_there() {
    let world = World::new(["a", "b", "c"]);
    let stack = world.stack(&world.pins());
    for mood in [Mood::Breaks, Mood::Answers(StatusCode::INTERNAL_SERVER_ERROR)] {
        let mut client = Client::default();
        let first = client.node(&stack).await;
        world.node(&first).turn(mood);
        let moved = client.visit(&stack).await;
        assert_eq!(moved.status, StatusCode::OK);
        assert_ne!(moved.node, first);
        assert_eq!(moved.sets().len(), 1);
        world.node(&first).turn(Mood::Fine);
        assert_eq!(client.node(&stack).await, moved.node);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_of_its_own_node_moves_nobody() {
    let slow = Arc::new(Mutex::new("a"));
    let node = |name: &'static str| {
        let slow = Arc::clone(&slow);
        let reply = move |_: Request<ReplayBody<Full<Bytes>>>| {
            let takes = if *slow.lock().unwrap() == name { 1000 } else { 1 };
            async move {
                tokio::time::sleep(Duration::from_millis(takes)).await;
                Ok::<_, std::io::Error>(Response::new(Full::<Bytes>::from(name)))
            }
        };
        (Node::new(name), service_fn(reply))
    };
    let cluster = Cluster::new(["a", "b", "c"].map(node)).unwrap();
    let pins = Pins::cookie(shop(&[1]).build().unwrap(), &cluster);
    let balance = Balance::http(cluster, RoundRobin).sticky();
    let hedged = Retry::new(balance, RepeatHttp::new()).hedge(Hedge::after(Duration::from_millis(50)));
    let stack = Sticky::new(hedged, pins.clone());
    let visit = async |cookie: &str| {
        let request = Request::get("/").header(COOKIE, cookie).body(Full::<Bytes>::default()).unwrap();
        let start = tokio::time::Instant::now();
        let response = stack.clone().oneshot(request).await.unwrap();
        let cookie = response.headers().get(SET_COOKIE).map(|line| line.to_str().unwrap().to_owned());
        let name = response.into_body().collect().await.unwrap().to_bytes();
        (name, cookie, start.elapsed().as_millis())
    };
    let mut cookies = Vec::new();
    for _ in 0..3 {
        let (name, cookie, took) = visit("").await;
        assert!(name != "a" && took < 100, "who is new may belong to whoever answers first");
        cookies.push((name, cookie.unwrap().split(';').next().unwrap().to_owned()));
    }
    for (name, cookie) in cookies {
        *slow.lock().unwrap() = if name == "b" { "b" } else { "c" };
        assert_eq!(visit(&cookie).await, (name, None, 1000), "the others do not know it");
    }
    assert_eq!((pins.stats().assigned, pins.stats().kept, pins.stats().moved), (3, 3, 0));
}

#[tokio::test]
async fn a_node_that_left_and_returned_has_its_clients_again() {
    let world = World::new(["a", "b", "c"]);
    let pins = world.pins();
    let stack = world.stack(&pins);
    let mut clients: Vec<_> = (0..9).map(|_| Client::default()).collect();
    let mut nodes = Vec::new();
    for client in &mut clients {
        nodes.push(client.node(&stack).await);
    }
    assert!(world.cluster.remove("a"));
    world.cluster.insert(Node::new("a"), world.node("a").clone()).unwrap();
    for (client, node) in clients.iter_mut().zip(&nodes) {
        assert_eq!(client.node(&stack).await, *node, "nobody asked meanwhile");
    }
    world.cluster.remove("a");
    for (client, node) in clients.iter_mut().zip(&nodes) {
        let visit = client.visit(&stack).await;
        assert_eq!(
            (visit.node != *node, visit.sets().len()),
            if node == "a" { (true, 1) } else { (false, 0) }
        );
    }
    assert_eq!(pins.stats().lost, 3);
}

#[tokio::test]
async fn a_draining_node_keeps_its_clients_until_their_lives_end_and_gets_no_others() {
    let world = World::new(["a", "b"]);
    let stack = world.stack(&world.pins());
    let (mut client, mut other) = (Client::default(), Client::default());
    let node = client.node(&stack).await;
    world.cluster.set_admin(&*node, Admin::Draining).unwrap();
    let other_node = other.node(&stack).await;
    assert_ne!(other_node, node);
    // Busy every 50 min, for a day.
    for _ in 0..28 {
        assert_eq!(client.node(&stack).await, node);
        world.advance(50 * 60);
    }
    world.advance(50 * 60);
    assert_eq!(client.node(&stack).await, other_node);

    let mut late = Client::default();
    world.cluster.set_admin(&*node, Admin::Active).unwrap();
    while late.node(&stack).await != node {
        late = Client::default();
    }
    world.cluster.set_admin(&*node, Admin::Down).unwrap();
    assert_eq!(late.node(&stack).await, other_node, "down is down");
}

#[tokio::test]
async fn a_strict_client_has_its_own_node_or_none() {
    let world = World::new(["a", "b", "c"]);
    let pins = world.pins().strict();
    let stack = world.stack(&pins);
    let mut client = Client::default();
    let node = client.node(&stack).await;

    world.cluster.set_health(&*node, Health::Down).unwrap();
    let before = world.others(&node).map(Fake::served).sum::<usize>();
    let refused = client.visit(&stack).await;
    assert_eq!((refused.status, refused.sets().len()), (StatusCode::SERVICE_UNAVAILABLE, 0));
    world.cluster.set_health(&*node, Health::Up).unwrap();
    assert_eq!(client.node(&stack).await, node);

    // Gone for good: the same, until the pin has expired.
    let service = world.node(&node).clone();
    world.cluster.remove(&*node);
    assert_eq!(client.visit(&stack).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.others(&node).map(Fake::served).sum::<usize>(), before, "nobody else is asked");
    world.cluster.insert(Node::new(&*node), service).unwrap();
    assert_eq!(client.node(&stack).await, node);
    world.cluster.remove(&*node);
    world.advance(60 * 60 + 1);
    let moved = client.visit(&stack).await;
    assert_eq!((moved.status, moved.sets().len()), (StatusCode::OK, 1));

    // Its node alone may fail it.
    world.node(&moved.node).turn(Mood::Breaks);
    assert_eq!(client.visit(&stack).await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn a_node_takes_no_more_than_its_limit_however_many_are_pinned_to_it() {
    let world = World::new(["a", "b"]);
    let (stack, strict) = (world.stack(&world.pins()), world.stack(&world.pins().strict()));
    let mut client = Client::default();
    let node = client.node(&stack).await;
    world.cluster.set_max_in_flight(&*node, 1).unwrap();
    let busy = LoadGuard::start(&world.cluster.get(&*node).unwrap().member).unwrap();
    assert_eq!(client.clone().visit(&strict).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_ne!(client.node(&stack).await, node);
    drop(busy);
}

#[tokio::test]
async fn keys_rotate_without_moving_anybody() {
    let world = World::new(["a", "b", "c"]);
    let proxy = |secrets: &[u8]| {
        let pins = Pins::cookie(shop(secrets).build().unwrap(), &world.cluster);
        (world.stack(&pins), pins)
    };
    // Two proxies, of which one is always a step ahead; clients use both in turns, and some are new at each step.
    let steps: [&[u8]; 7] = [&[1], &[1, 2], &[2, 1], &[2], &[2, 3], &[3, 2], &[3]];
    let mut clients: Vec<(Client, String)> = Vec::new();
    for pair in steps.windows(2) {
        let proxies = [proxy(pair[0]), proxy(pair[1])];
        for _ in 0..6 {
            let mut client = Client::default();
            let node = client.node(&proxies[0].0).await;
            clients.push((client, node));
        }
        // Long enough for every cookie to be renewed by the newer key, in visits that keep it alive.
        for turn in 0..8 {
            for (client, node) in &mut clients {
                assert_eq!(client.node(&proxies[turn % 2].0).await, *node, "keys {pair:?}");
            }
            world.advance(20 * 60);
        }
        for (_, pins) in &proxies {
            let stats = pins.stats();
            assert_eq!((stats.moved, stats.lost, stats.rejected(Rejected::UnknownKey)), (0, 0, 0));
        }
    }
}

#[tokio::test]
async fn two_pools_with_the_same_keys_and_nodes_do_not_believe_each_other() {
    let world = World::new(["a", "b", "c", "d"]);
    let shop = world.stack(&world.pins());
    // Even under one name.
    let blog = StickyCookie::builder("blog", keys(&[1])).name("__Host-shop").build().unwrap();
    let pins = Pins::cookie(blog, &world.cluster).strict();
    let blog = world.stack(&pins);
    for n in 0..8 {
        let mut client = Client::default();
        client.visit(&shop).await;
        assert_eq!(client.visit(&blog).await.sets().len(), 1);
        assert_eq!(pins.stats().rejected(Rejected::ForeignPool), n + 1);
    }
    assert_eq!(pins.stats().kept, 0);
}

#[tokio::test]
async fn an_expired_cookie_steers_nothing() {
    let world = World::new(["a", "b", "c"]);
    let limits = shop(&[1]).max_idle(Duration::from_secs(100)).max_life(Duration::from_secs(250));
    let pins = Pins::cookie(limits.build().unwrap(), &world.cluster).strict();
    let stack = world.stack(&pins);
    let mut idle = Client::default();
    let node = idle.node(&stack).await;
    let mut busy = idle.clone();
    // Had it been believed, the answer would be a 503.
    world.cluster.set_admin(&*node, Admin::Draining).unwrap();
    for _ in 0..3 {
        world.advance(80);
        assert_eq!(busy.node(&stack).await, node);
    }
    let visit = idle.visit(&stack).await;
    assert_ne!(visit.node, node);
    assert_eq!((visit.sets().len(), pins.stats().rejected(Rejected::Idle)), (1, 1));
    world.advance(11);
    let visit = busy.visit(&stack).await;
    assert_ne!(visit.node, node);
    assert_eq!((visit.sets().len(), pins.stats().rejected(Rejected::Aged)), (1, 1));
}

#[tokio::test]
async fn a_response_that_sets_a_cookie_is_for_one_client_alone() {
    let world = World::new(["a"]);
    world.node("a").says(CACHE_CONTROL, "public, s-maxage=3600, max-age=60");
    world.node("a").says("cdn-cache-control".parse().unwrap(), "max-age=3600");
    let stack = world.stack(&world.pins());
    let mut client = Client::default();
    let first = client.visit(&stack).await;
    assert_eq!(first.cache_control(), Some("private, max-age=60"));
    assert!(!first.headers.contains_key("cdn-cache-control"));
    assert!(first.response.unwrap().extensions().get::<Personal>().is_some());
    let second = client.visit(&stack).await;
    assert_eq!(second.cache_control(), Some("public, s-maxage=3600, max-age=60"), "as the origin said it");
    assert!(second.headers.contains_key("cdn-cache-control"));
    assert!(second.response.unwrap().extensions().get::<Personal>().is_none());
}

#[tokio::test]
async fn nothing_is_set_where_it_would_do_harm() {
    let world = World::new(["a"]);
    let pins = world.pins();
    let stack = world.stack(&pins);
    // A cache in front would store the fields of a 304; a node that fails is none to begin with.
    for status in [304, 500, 503] {
        world.node("a").turn(Mood::Answers(StatusCode::from_u16(status).unwrap()));
        let visit = Client::default().visit(&stack).await;
        assert_eq!((visit.status.as_u16(), visit.sets().len(), visit.cache_control()), (status, 0, None));
    }
    world.node("a").turn(Mood::Breaks);
    assert_eq!(Client::default().visit(&stack).await.status, StatusCode::BAD_GATEWAY);
    // So it would with the fields of an answer to HEAD.
    world.node("a").turn(Mood::Fine);
    let head = Request::head("/").body(Full::<Bytes>::default()).unwrap();
    let answer = stack.clone().oneshot(head).await.unwrap();
    assert!(!answer.headers().contains_key(SET_COOKIE) && !answer.headers().contains_key(CACHE_CONTROL));
    assert_eq!(pins.stats().assigned, 0);
    // The node's own refusals are answers like others.
    world.node("a").turn(Mood::Answers(StatusCode::UNAUTHORIZED));
    assert_eq!(Client::default().visit(&stack).await.sets().len(), 1);
}

#[tokio::test]
async fn what_the_application_sets_is_kept() {
    let world = World::new(["a"]);
    world.node("a").says(SET_COOKIE, "theme=dark");
    let visit = Client::default().visit(&world.stack(&world.pins())).await;
    assert_eq!(visit.sets().len(), 2);
    assert_eq!(visit.sets()[0], "theme=dark");
}

#[tokio::test]
async fn nodes_do_not_see_the_cookie_unless_asked_to() {
    let world = World::new(["a"]);
    let mut client = Client::default();
    client.visit(&world.stack(&world.pins())).await;
    let ours = format!("__Host-shop={}", client.jar["__Host-shop"]);
    let lines = [format!("theme=dark; {ours}; lang=en"), "x=1".into()];
    send(&world.stack(&world.pins()), &lines).await;
    assert_eq!(world.node("a").cookies(), ["theme=dark; lang=en", "x=1"]);
    send(&world.stack(&world.pins()), [&ours]).await;
    assert!(world.node("a").cookies().is_empty());
    // Not even when it is not believed.
    send(&world.stack(&world.pins()), [format!("{ours}; {ours}")]).await;
    assert!(world.node("a").cookies().is_empty());

    let passed_on = Pins::cookie(shop(&[1]).pass_on().build().unwrap(), &world.cluster);
    send(&world.stack(&passed_on), &lines).await;
    assert_eq!(world.node("a").cookies(), lines);
}

#[tokio::test]
async fn a_balancer_that_was_not_made_sticky_shows_in_the_stats() {
    let world = World::new(["a"]);
    let pins = world.pins();
    let forgotten = Sticky::new(Balance::http(world.cluster.clone(), RoundRobin), pins.clone());
    let response = forgotten.oneshot(Request::new(())).await.unwrap();
    assert!(!response.headers().contains_key(SET_COOKIE));
    assert_eq!(pins.stats().unmarked, 1);
}

#[tokio::test]
async fn pins_spread_as_the_policy_spreads() {
    let world = World::new(["a", "b", "c", "d"]);
    let stack = world.stack(&world.pins());
    let mut shares = BTreeMap::<String, u32>::new();
    for _ in 0..400 {
        *shares.entry(Client::default().node(&stack).await).or_default() += 1;
    }
    assert!(shares.values().all(|share| *share == 100), "{shares:?}");
}
