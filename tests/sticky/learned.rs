//! Pins that are learned from the application's cookie.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use buttress::{
    cache::{Cache, LruCache},
    cluster::{Admin, Health},
    sticky::{Pins, Rejected, Session, SessionKey, SessionTable},
};
use hyper::{StatusCode, header::SET_COOKIE};

use crate::support::{Client, Stack, World, send};

type Sessions = LruCache<SessionKey, Session>;

fn learning(world: &World, capacity: usize) -> (Stack, Pins, Sessions) {
    let sessions = LruCache::new(NonZeroUsize::new(capacity).unwrap());
    let table = SessionTable::new("SID", Arc::new(sessions.clone())).clock(world.clock.clone());
    let pins = Pins::learned(table);
    (world.stack(&pins), pins, sessions)
}

/// Begins a session, as an application does at a login.
async fn log_in(world: &World, stack: &Stack, client: &mut Client, id: &str) -> String {
    for node in world.nodes.values() {
        node.says(SET_COOKIE, &format!("SID={id}; Path=/; HttpOnly"));
    }
    let visit = client.visit(stack).await;
    assert_eq!(visit.cache_control(), None, "what the application sets, it answers for");
    for node in world.nodes.values() {
        node.falls_silent();
    }
    visit.node
}

#[tokio::test]
async fn a_session_stays_where_it_was_begun() {
    let world = World::new(["a", "b", "c"]);
    let (stack, pins, sessions) = learning(&world, 100);
    let mut clients = Vec::new();
    for id in ["one", "two", "three", "four"] {
        let mut client = Client::default();
        let node = log_in(&world, &stack, &mut client, id).await;
        clients.push((client, node));
    }
    for _ in 0..5 {
        for (client, node) in &mut clients {
            let visit = client.visit(&stack).await;
            assert_eq!((&visit.node, visit.sets().len()), (&*node, 0));
            assert_eq!(
                world.node(node).cookies(),
                [format!("SID={}", client.jar["SID"])],
                "the node needs it"
            );
        }
    }
    assert_eq!((pins.stats().assigned, pins.stats().kept, sessions.len()), (4, 20, 4));
}

#[tokio::test]
async fn clients_cannot_make_entries() {
    let world = World::new(["a", "b"]);
    let (stack, _, sessions) = learning(&world, 100);
    for id in 0..1000 {
        send(&stack, [format!("SID={id}")]).await;
    }
    assert_eq!(sessions.len(), 0);
}

#[tokio::test]
async fn the_table_never_grows_beyond_its_cache() {
    let world = World::new(["a"]);
    let (stack, _, sessions) = learning(&world, 10);
    for id in 0..100 {
        log_in(&world, &stack, &mut Client::default(), &format!("{id}")).await;
    }
    assert_eq!(sessions.len(), 10);
}

#[tokio::test]
async fn a_session_is_forgotten_when_it_is_not_used() {
    let world = World::new(["a", "b", "c"]);
    let (stack, _, sessions) = learning(&world, 100);
    let (mut client, mut idle) = (Client::default(), Client::default());
    let node = log_in(&world, &stack, &mut client, "one").await;
    let left = log_in(&world, &stack, &mut idle, "two").await;
    for _ in 0..4 {
        world.advance(20 * 60);
        assert_eq!(client.node(&stack).await, node, "each use counts");
    }
    world.cluster.set_admin(&*left, Admin::Draining).unwrap();
    assert_ne!(idle.node(&stack).await, left);
    assert_eq!(sessions.len(), 1);
}

#[tokio::test]
async fn a_session_that_is_begun_anew_elsewhere_moves() {
    let world = World::new(["a", "b"]);
    let (stack, pins, sessions) = learning(&world, 100);
    let mut client = Client::default();
    let node = log_in(&world, &stack, &mut client, "one").await;
    world.cluster.set_health(&*node, Health::Down).unwrap();
    let other = client.node(&stack).await;
    assert_ne!(other, node);
    world.cluster.set_health(&*node, Health::Up).unwrap();
    assert_eq!(client.node(&stack).await, node, "a visit is no move: the session is where it was");

    world.cluster.set_health(&*node, Health::Down).unwrap();
    assert_eq!(log_in(&world, &stack, &mut client, "one").await, other, "under the same id");
    world.cluster.set_health(&*node, Health::Up).unwrap();
    assert_eq!(client.node(&stack).await, other);
    assert_eq!((pins.stats().moved, sessions.len()), (1, 1));
}

#[tokio::test]
async fn a_session_that_is_ended_is_forgotten() {
    let world = World::new(["a"]);
    let (stack, _, sessions) = learning(&world, 100);
    for ends in ["SID=; Path=/", "SID=gone; Max-Age=0"] {
        let mut client = Client::default();
        log_in(&world, &stack, &mut client, "one").await;
        assert_eq!(sessions.len(), 1);
        world.node("a").says(SET_COOKIE, ends);
        client.visit(&stack).await;
        world.node("a").falls_silent();
        assert_eq!(sessions.len(), 0, "{ends}");
    }
}

#[tokio::test]
async fn a_strict_session_waits_for_its_node() {
    let world = World::new(["a", "b"]);
    let sessions: Arc<Sessions> = Arc::new(LruCache::new(NonZeroUsize::new(10).unwrap()));
    let table = SessionTable::new("SID", sessions).clock(world.clock.clone());
    let stack = world.stack(&Pins::learned(table.max_idle(Duration::from_secs(60))).strict());
    let mut client = Client::default();
    let node = log_in(&world, &stack, &mut client, "one").await;
    world.cluster.remove(&*node);
    assert_eq!(client.visit(&stack).await.status, StatusCode::SERVICE_UNAVAILABLE);
    world.advance(61);
    assert_eq!(client.visit(&stack).await.status, StatusCode::OK);
}

#[tokio::test]
async fn asking_in_vain_does_not_keep_a_session_alive() {
    let world = World::new(["a", "b"]);
    let (_, pins, _) = learning(&world, 10);
    let stack = world.stack(&pins.strict());
    let mut client = Client::default();
    let node = log_in(&world, &stack, &mut client, "one").await;
    world.cluster.remove(&*node);
    // Half an hour, in which the client tries again and again.
    for _ in 0..10 {
        assert_eq!(client.visit(&stack).await.status, StatusCode::SERVICE_UNAVAILABLE);
        world.advance(3 * 60);
    }
    world.advance(1);
    assert_eq!(client.visit(&stack).await.status, StatusCode::OK, "it is not locked out for ever");
}

#[tokio::test]
async fn a_session_that_is_named_twice_is_none() {
    let world = World::new(["a", "b"]);
    let (stack, pins, _) = learning(&world, 100);
    let mut client = Client::default();
    let node = log_in(&world, &stack, &mut client, "one").await;
    world.cluster.set_admin(&*node, Admin::Draining).unwrap();
    assert_ne!(send(&stack, ["SID=one; SID=two"]).await.node, node);
    assert_eq!(pins.stats().rejected(Rejected::Duplicated), 1);
}
