//! The task that hears other nodes.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use ::redis::{Client, RedisResult, Script, Value, aio::MultiplexedConnection, cmd};
use tokio::time::{sleep, timeout};

use super::{
    State,
    chain::{Chain, Heard, Id},
    message, publish,
    reply::{self, Entry},
};
use crate::cdn::{purge::Purge, store::Store};

/// How long connecting, or an answer beyond the time that it may take, is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one read waits for entries, in milliseconds.
const SILENCE: u64 = 2000;
/// Between two attempts to connect; half of it is random.
const PAUSE: Duration = Duration::from_millis(500);
/// How many entries are read at once.
const BATCH: usize = 128;

/// The last entry of the stream, which is begun if there is none.
const TAIL: &str = "
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
return last and last[1] or redis.call('XADD', KEYS[1], '*', 'm', '')
";

pub(super) struct Subscriber {
    pub(super) client: Client,
    pub(super) stream: Arc<str>,
    pub(super) node: u64,
    pub(super) store: Store,
    pub(super) state: Arc<State>,
}

impl Subscriber {
    pub(super) async fn run(self) {
        let mut chain = Chain::default();
        loop {
            if let Ok(Ok(mut connection)) = timeout(PATIENCE, publish::connect(&self.client)).await {
                let _ = self.listen(&mut connection, &mut chain).await;
                self.state.is_listening.store(false, Relaxed);
            }
            sleep(PAUSE.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }

    /// Follows the stream until the connection is lost.
    async fn listen(&self, connection: &mut MultiplexedConnection, chain: &mut Chain) -> Option<()> {
        loop {
            let tail = self.tail(connection).await?;
            self.note(chain.look(tail));
            loop {
                self.state.is_listening.store(true, Relaxed);
                let entries = self.read(connection, chain.last()).await?;
                if entries.is_empty() {
                    break;
                }
                for entry in entries {
                    self.hear(&entry, chain);
                }
            }
        }
    }

    fn hear(&self, entry: &Entry, chain: &mut Chain) {
        self.note(chain.follow(entry.id, entry.before));
        // What we do not understand may be a purge, of a version to come. The first entry of a stream has no message.
        match message::read(&entry.message) {
            Ok((node, purge)) if node != self.node => {
                self.state.heard.fetch_add(1, Relaxed);
                self.store.purge_here(&purge);
            }
            Ok(_) => {}
            Err(message::Malformed) if entry.message.is_empty() => {}
            Err(message::Malformed) => self.note(Heard::Gap),
        }
    }

    fn note(&self, heard: Heard) {
        if heard == Heard::Gap {
            self.state.gaps.fetch_add(1, Relaxed);
            self.store.purge_here(&Purge::all().soft());
        }
    }

    async fn tail(&self, connection: &mut MultiplexedConnection) -> Option<Id> {
        let script = Script::new(TAIL);
        let tail = script.key(&*self.stream);
        let reply: RedisResult<Vec<u8>> = timeout(PATIENCE, tail.invoke_async(connection)).await.ok()?;
        Id::parse(&reply.ok()?)
    }

    async fn read(&self, connection: &mut MultiplexedConnection, last: Id) -> Option<Vec<Entry>> {
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(BATCH).arg("BLOCK").arg(SILENCE);
        read.arg("STREAMS").arg(&*self.stream).arg(last.to_string());
        let reply: RedisResult<Value> =
            timeout(Duration::from_millis(SILENCE) + PATIENCE, read.query_async(connection)).await.ok()?;
        reply::entries(reply.ok()?)
    }
}
