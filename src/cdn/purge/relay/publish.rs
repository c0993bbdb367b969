//! The task that tells other nodes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use ::redis::{AsyncConnectionConfig, Client, RedisResult, Script, Value, aio::MultiplexedConnection};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{Order, State, message};
use crate::cdn::purge::Purge;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between two attempts; half of it is random.
const PAUSE: Duration = Duration::from_millis(500);
/// How many entries the stream keeps, about.
const ENTRIES: u64 = 10_000;

/// Adds an entry that names the one before it.
const ADD: &str = "
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last then
    return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'm', ARGV[2], 'b', last[1])
end
return redis.call('XADD', KEYS[1], '*', 'm', ARGV[2])
";

pub(super) struct Publisher {
    pub(super) client: Client,
    pub(super) stream: Arc<str>,
    pub(super) node: u64,
    pub(super) has_overflowed: Arc<AtomicBool>,
    pub(super) state: Arc<State>,
}

impl Publisher {
    pub(super) async fn run(self, mut orders: mpsc::Receiver<Order>) {
        let script = Script::new(ADD);
        let mut connection = None;
        while let Some(Order { purge, done }) = orders.recv().await {
            let message = message::write(self.node, &purge);
            self.publish(&script, &mut connection, &message).await;
            self.state.told.fetch_add(1, Relaxed);
            // Afterwards, so that it stands for all that had no room until now.
            if self.has_overflowed.swap(false, Relaxed) {
                let everything = message::write(self.node, &Purge::all().soft());
                self.publish(&script, &mut connection, &everything).await;
            }
            if let Some(done) = done {
                let _ = done.send(());
            }
        }
    }

    /// Tries until it is done. What was cut off may be told twice, which purges twice.
    async fn publish(&self, script: &Script, connection: &mut Option<MultiplexedConnection>, message: &[u8]) {
        loop {
            if let Ok(Ok(())) = timeout(ATTEMPT, self.attempt(script, connection, message)).await {
                return;
            }
            *connection = None;
            sleep(PAUSE.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }

    async fn attempt(
        &self,
        script: &Script,
        connection: &mut Option<MultiplexedConnection>,
        message: &[u8],
    ) -> RedisResult<()> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(connect(&self.client).await?),
        };
        let mut add = script.key(&*self.stream);
        add.arg(ENTRIES).arg(message).invoke_async::<Value>(connection).await.map(drop)
    }
}

/// A connection whose commands wait as long as we do.
pub(super) async fn connect(client: &Client) -> RedisResult<MultiplexedConnection> {
    let config =
        AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(Some(ATTEMPT));
    client.get_multiplexed_async_connection_with_config(&config).await
}
