//! Memory, then disk, then Redis, then a slow loader: a cache that is warm after a restart, and that a whole fleet shares.
//!
//!     REDIS_URL=redis://127.0.0.1/ cargo run --example tiered_redis
//!
//! Without `REDIS_URL` it starts a `redis-server` of its own, if there is one, and else does with memory and disk.

use std::{
    convert::Infallible,
    env,
    error::Error,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use buttress::cache::{
    MemoryCache,
    tier::{DiskTier, RedisTier, Tiered},
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

/// What the cache is for: a database that takes its time.
async fn from_database(id: u64) -> Result<User, Infallible> {
    sleep(Duration::from_millis(200)).await;
    Ok(User { id, name: format!("user {id}") })
}

/// One of the nodes of the fleet. Each has memory and a disk of its own.
struct Node {
    name: &'static str,
    users: Tiered<u64, User>,
    disk: DiskTier<u64, User>,
}

impl Node {
    async fn start(name: &'static str, redis: Option<&str>) -> Result<Self, Box<dyn Error>> {
        // The name of the schema: change it whenever `User` changes, and old entries are misses.
        let schema = "user/1";
        let file = env::temp_dir().join(format!("buttress-example-{}-{name}", std::process::id()));
        let disk = DiskTier::builder(file, schema).capacity(64 << 20).open().await?;
        let mut users = Tiered::builder(MemoryCache::new(10_000))
            .ttl(Duration::from_secs(600))
            .max_staleness(Duration::from_secs(60))
            .tier(disk.clone());
        if let Some(url) = redis {
            let redis =
                RedisTier::builder(url, "example:users", schema)?.deadline(Duration::from_millis(100));
            users = users.tier(redis.build());
        }
        let users = users.build();
        sleep(Duration::from_millis(200)).await; // until it hears of the others' changes, and starts with a clean slate
        Ok(Self { name, users, disk })
    }

    async fn show(&self, id: u64) -> Result<(), Box<dyn Error>> {
        let before = Instant::now();
        let user = self.users.try_get_with(&id, move || from_database(id)).await?;
        println!("  {:6} {:>9.2?}  {}", self.name, before.elapsed(), user.name);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (url, _server) = redis().await;
    match &url {
        Some(url) => println!("memory, disk, and Redis at {url}"),
        None => println!("memory and disk: set REDIS_URL, or install redis-server, to see the rest"),
    }

    println!("the first time it is loaded, then it is in memory:");
    let here = Node::start("here", url.as_deref()).await?;
    here.show(1).await?;
    here.show(1).await?;

    println!("after a restart it is on disk:");
    here.disk.close().await;
    drop(here);
    let here = Node::start("here", url.as_deref()).await?;
    here.show(1).await?;

    println!("another node {}:", if url.is_some() { "finds it in Redis" } else { "has to load it" });
    let there = Node::start("there", url.as_deref()).await?;
    there.show(1).await?;

    println!("one changes it{}:", if url.is_some() { ", and the other forgets it" } else { "" });
    if let Err(incomplete) = here.users.insert(1, User { id: 1, name: "Ada".into() }).await {
        // This node has it. The tier is told as soon as it answers.
        println!("  {incomplete}");
    }
    sleep(Duration::from_millis(100)).await; // until the message is there
    here.show(1).await?;
    there.show(1).await?;

    for node in [here, there] {
        println!("{}:", node.name);
        for tier in node.users.stats() {
            println!(
                "  {:7} {} hits, {} misses, {} failures",
                tier.name, tier.hits, tier.misses, tier.failures
            );
        }
        node.disk.close().await;
        fs::remove_file(env::temp_dir().join(format!(
            "buttress-example-{}-{}",
            std::process::id(),
            node.name
        )))?;
    }
    Ok(())
}

/// A server for the example, ended with it.
struct Server {
    process: Child,
    socket: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

/// The server that we are told to use, or one of our own, if that can be had.
async fn redis() -> (Option<String>, Option<Server>) {
    if let Ok(url) = env::var("REDIS_URL") {
        return (Some(url), None);
    }
    let socket = env::temp_dir().join(format!("buttress-example-{}.sock", std::process::id()));
    let started = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(&socket)
        .current_dir(env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(process) = started else { return (None, None) };
    let server = Server { process, socket };
    for _ in 0..100 {
        if server.socket.exists() {
            return (Some(format!("unix:{}", server.socket.display())), Some(server));
        }
        sleep(Duration::from_millis(20)).await;
    }
    (None, None)
}
