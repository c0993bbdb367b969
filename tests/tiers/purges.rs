//! Two HTTP caches whose purges reach each other over a real server.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::cdn::{Cdn, Purge, PurgeRelay, PurgeService, RelayError};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceExt, service_fn};

use crate::{
    server::Server,
    support::{soon, until},
};

const STREAM: &str = "purges";

/// A cache in front of an origin that counts.
struct Node {
    cdn: Cdn,
    relay: PurgeRelay,
    fetches: Arc<AtomicU64>,
}

impl Node {
    async fn start(server: &Server) -> Self {
        let cdn = Cdn::new(1 << 20);
        let relay = PurgeRelay::start(&cdn, &server.url(), STREAM).unwrap();
        let node = Self { cdn, relay, fetches: Arc::default() };
        node.listens().await;
        node
    }

    async fn listens(&self) {
        until("it listens", async || self.relay.is_listening()).await;
    }

    /// Asks for a page; how often the origin was asked until then.
    async fn get(&self, path: &str) -> u64 {
        let fetches = Arc::clone(&self.fetches);
        let origin = service_fn(move |_: Request<Full<Bytes>>| {
            fetches.fetch_add(1, SeqCst);
            let page =
                Response::builder().header("cache-control", "max-age=3600").header("cache-tag", "shoes");
            async { Ok::<_, Infallible>(page.body(Full::from("page")).unwrap()) }
        });
        let request = Request::get(format!("http://example.com{path}")).body(Full::default()).unwrap();
        let answer = soon(self.cdn.service(origin).oneshot(request)).await.unwrap();
        assert_eq!(soon(answer.into_body().collect()).await.unwrap().to_bytes(), "page");
        self.fetches.load(SeqCst)
    }

    /// Waits until a page is served from what is stored: storing goes on after the answer.
    async fn keeps(&self, path: &str) {
        until("it is stored", async || {
            let before = self.get(path).await;
            self.get(path).await == before
        })
        .await;
    }

    async fn hears(&self, purges: u64) {
        until("it hears of the purge", async || self.relay.heard() >= purges).await;
    }
}

#[tokio::test]
async fn a_purge_on_one_node_is_one_on_the_other() {
    let server = Server::start();
    let (a, b) = (Node::start(&server).await, Node::start(&server).await);
    let purges = [
        Purge::tag("shoes").unwrap(),
        Purge::url("http://EXAMPLE.com:80/x").unwrap(),
        Purge::prefix("/").unwrap(),
        Purge::all().soft(),
    ];
    for (count, purge) in (1..).zip(purges) {
        a.keeps("/x").await;
        b.keeps("/x").await;
        let before = b.get("/x").await;
        a.cdn.purge(&purge);
        b.hears(count).await;
        assert_eq!(b.get("/x").await, before + 1, "{purge:?}");
        assert_eq!(a.relay.heard(), 0, "what it said itself");
    }
    assert_eq!((a.relay.gaps(), b.relay.gaps()), (1, 1), "the start");
    assert!(matches!(PurgeRelay::start(&a.cdn, &server.url(), STREAM), Err(RelayError::Taken)));
}

#[tokio::test]
async fn an_order_is_answered_when_others_can_hear_of_it() {
    let mut server = Server::start();
    let (a, b) = (Node::start(&server).await, Node::start(&server).await);
    b.keeps("/x").await;
    let before = b.get("/x").await;
    let mut admin = PurgeService::new(&a.cdn, "a token that nobody guesses").unwrap();
    let mut send = async || {
        let order = Request::post("/")
            .header("authorization", "Bearer a token that nobody guesses")
            .header("content-type", "application/json")
            .body(Full::<Bytes>::from(r#"{"tag":["other","shoes"]}"#))
            .unwrap();
        let answer = soon(admin.call(order)).await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.into_body().collect().await.unwrap().to_bytes())
    };
    assert_eq!(send().await, (200, Bytes::from_static(br#"{"purged":2,"told":true}"#)));
    b.hears(2).await;
    assert_eq!(b.get("/x").await, before + 1);
    server.kill();
    assert_eq!(send().await, (202, Bytes::from_static(br#"{"purged":2,"told":false}"#)));
    // It is told when that is possible again.
    server.revive();
    b.hears(4).await;
}

#[tokio::test]
async fn a_node_that_was_cut_off_catches_up() {
    let server = Server::start();
    let (a, b) = (Node::start(&server).await, Node::start(&server).await);
    b.keeps("/x").await;
    b.keeps("/y").await;
    let before = b.get("/x").await;
    server.tell(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]);
    a.cdn.purge(&Purge::url("http://example.com/x").unwrap());
    b.hears(1).await;
    assert_eq!(b.get("/x").await, before + 1);
    assert_eq!(b.get("/y").await, before + 1, "it is known that nothing else was purged");
    assert_eq!(b.relay.gaps(), 1);
}

#[tokio::test]
async fn a_node_that_may_have_missed_something_validates_everything() {
    let mut server = Server::start();
    let (a, b) = (Node::start(&server).await, Node::start(&server).await);
    b.keeps("/x").await;
    let before = b.get("/x").await;
    server.kill();
    server.revive();
    until("it has noticed", async || b.relay.gaps() >= 2).await;
    assert_eq!(b.get("/x").await, before + 1);
    // Entries that were cut off before they were read.
    b.keeps("/x").await;
    a.listens().await;
    let (before, gaps) = (b.get("/x").await, b.relay.gaps());
    server.tell(&[b"XADD", STREAM.as_bytes(), b"*", b"m", b"from another version", b"b", b"1-1"]);
    until("it has noticed", async || b.relay.gaps() > gaps).await;
    assert_eq!(b.get("/x").await, before + 1);
    // And it goes on.
    b.keeps("/x").await;
    let (before, heard) = (b.get("/x").await, b.relay.heard());
    a.cdn.purge(&Purge::tag("shoes").unwrap());
    b.hears(heard + 1).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(b.get("/x").await > before);
}
