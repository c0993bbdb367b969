//! Many clients at once, and bodies that take their time.

use std::time::Duration;

use buttress::{
    cdn::{Cdn, Purge},
    time::ManualClock,
};
use tokio::time::{sleep, timeout};

use crate::{
    message::Fields,
    stage::{End, HOST, PATIENCE, Stage, request},
};

const CLIENTS: usize = 500;

/// Time for others to do what they can do without being told anything.
const SETTLE: Duration = Duration::from_millis(50);

async fn stage() -> Stage {
    let clock = ManualClock::new();
    Stage::set(Cdn::builder(64 << 20).clock(clock.clone()).build(), clock).await
}

fn get(path: &str) -> Vec<u8> {
    request("GET", path, &Fields::default(), None)
}

fn answer(fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{fields}\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn one_fetch_answers_all_who_ask_meanwhile() {
    let mut stage = stage().await;
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(stage.ask(get("/")))).collect();
    let asked = stage.asked().await;
    sleep(SETTLE).await;
    assert!(stage.unseen().is_none(), "one is enough");
    asked.reply(answer("cache-control: max-age=60\r\n", "all of you"), End::Stay);
    for client in clients {
        assert_eq!(client.await.unwrap().unwrap().body, b"all of you");
    }
    assert!(stage.unseen().is_none());
}

#[tokio::test]
async fn an_answer_for_one_is_for_that_one_and_the_others_do_not_wait_for_each_other() {
    let mut stage = stage().await;
    let clients: Vec<_> = (0..20).map(|_| tokio::spawn(stage.ask(get("/")))).collect();
    let first = stage.asked().await;
    sleep(SETTLE).await;
    first.reply(answer("cache-control: private\r\n", "0"), End::Stay);
    // All the others are at the origin before any of them is answered.
    let mut rest = Vec::new();
    for _ in 1..20 {
        rest.push(timeout(PATIENCE, stage.asked()).await.expect("they wait for each other"));
    }
    for (number, asked) in rest.into_iter().enumerate() {
        asked.reply(answer("cache-control: private\r\n", &(number + 1).to_string()), End::Stay);
    }
    let mut bodies = Vec::new();
    for client in clients {
        bodies.push(String::from_utf8(client.await.unwrap().unwrap().body).unwrap().parse::<u32>().unwrap());
    }
    bodies.sort_unstable();
    assert_eq!(bodies, (0..20).collect::<Vec<_>>(), "each has its own");

    // From now on nobody waits even for the first.
    let clients: Vec<_> = (0..3).map(|_| tokio::spawn(stage.ask(get("/")))).collect();
    let mut asked = Vec::new();
    for _ in 0..3 {
        asked.push(
            timeout(PATIENCE, stage.asked()).await.expect("it is known that there is nothing to share"),
        );
    }
    for asked in asked {
        asked.reply(answer("", "x"), End::Stay);
    }
    for client in clients {
        client.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_client_that_came_first_may_leave() {
    let mut stage = stage().await;
    let first = tokio::spawn(stage.ask(get("/")));
    let asked = stage.asked().await;
    let second = tokio::spawn(stage.ask(get("/")));
    sleep(SETTLE).await;
    first.abort();
    sleep(SETTLE).await;
    asked.reply(answer("cache-control: max-age=60\r\n", "whole"), End::Stay);
    assert_eq!(second.await.unwrap().unwrap().body, b"whole");
    assert_eq!(stage.ask(get("/")).await.unwrap().body, b"whole");
    assert!(stage.unseen().is_none());
}

#[tokio::test]
async fn a_fetch_begun_before_a_purge_does_not_bring_back_what_was_purged() {
    for purge in [
        Purge::url(format!("http://{HOST}/a/b")).unwrap(),
        Purge::prefix(format!("http://{HOST}/a/")).unwrap(),
        Purge::tag("socks").unwrap(),
        Purge::all(),
    ] {
        let mut stage = stage().await;
        let client = tokio::spawn(stage.ask(get("/a/b")));
        let asked = stage.asked().await;
        stage.cdn.purge(&purge);
        asked.reply(answer("cache-control: max-age=60\r\ncache-tag: socks\r\n", "old"), End::Stay);
        assert_eq!(client.await.unwrap().unwrap().body, b"old", "{purge:?}");
        sleep(SETTLE).await;

        let client = tokio::spawn(stage.ask(get("/a/b")));
        let asked = timeout(PATIENCE, stage.asked()).await.unwrap_or_else(|_| panic!("{purge:?} was undone"));
        asked.reply(answer("cache-control: max-age=60\r\ncache-tag: socks\r\n", "new"), End::Stay);
        assert_eq!(client.await.unwrap().unwrap().body, b"new", "{purge:?}");
        sleep(SETTLE).await;
        assert_eq!(stage.ask(get("/a/b")).await.unwrap().body, b"new", "{purge:?}");
    }
}

#[tokio::test]
async fn what_breaks_off_for_one_breaks_off_for_all_and_is_not_stored() {
    let mut stage = stage().await;
    let clients: Vec<_> = (0..10).map(|_| tokio::spawn(stage.ask(get("/")))).collect();
    let asked = stage.asked().await;
    sleep(SETTLE).await;
    asked.reply(
        b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 10\r\n\r\nhalf".to_vec(),
        End::Close,
    );
    for client in clients {
        let answer = client.await.unwrap().unwrap();
        assert!(!answer.is_whole, "{answer}");
    }
    let client = tokio::spawn(stage.ask(get("/")));
    timeout(PATIENCE, stage.asked()).await.unwrap().reply(answer("", "whole"), End::Stay);
    assert_eq!(client.await.unwrap().unwrap().body, b"whole");
}
