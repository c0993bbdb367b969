//! Purges that other nodes hear of, over a stream in Redis.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ::redis::{Client, RedisError};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::Purge;
use crate::cdn::Cdn;

mod chain;
mod message;
mod publish;
mod reply;
mod subscribe;

/// How many purges may wait to be told. Beyond, one that concerns everything takes the place of the others.
const QUEUE: usize = 4096;
/// How long one who purges waits for others to be told.
const PATIENCE: Duration = Duration::from_secs(3);

/// Tells other nodes of each purge, and hears of theirs, over a stream in Redis or Valkey (5.0 and later).
///
/// A purge takes effect here at once and elsewhere some milliseconds later, and so do those of [`Cdn::purge`] and of a
/// [`PurgeService`](super::PurgeService). Invalidations by unsafe requests stay on the node.
///
/// *Nothing is missed unnoticed.* A node that was cut off reads on where it was, as long as the stream has it: the last 10,000
/// purges about. Where something is missing, and when it starts, it purges all that it has softly: then everything is
/// validated before it is used again. While a node is cut off it does not hear of purges, and knows no better than to go on.
///
/// *Nothing is lost while Redis is away.* What is to be told waits in order, up to 4096 purges; beyond that, all others are told to
/// purge everything softly. What waits when the process ends is not told.
///
/// Two tasks do it. They end when this is dropped.
///
/// ```no_run
/// use buttress::cdn::{Cdn, Purge, PurgeRelay};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cdn = Cdn::new(256 << 20);
/// let relay = PurgeRelay::start(&cdn, "redis://redis.internal/", "shop:purges")?;
/// cdn.purge(&Purge::tag("socks")?); // everywhere
/// # Ok(())
/// # }
/// ```
#[must_use = "it ends when it is dropped"]
pub struct PurgeRelay {
    state: Arc<State>,
    tasks: [JoinHandle<()>; 2],
}

/// Why purges cannot be relayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// This is no address of a server.
    #[error("no address of a Redis server: {0}")]
    Address(#[source] RedisError),
    /// Its purges are relayed already.
    #[error("this cache has a relay already: one is enough")]
    Taken,
}

/// What the tasks say of themselves.
#[derive(Debug, Default)]
struct State {
    is_listening: AtomicBool,
    heard: AtomicU64,
    told: AtomicU64,
    gaps: AtomicU64,
}

impl PurgeRelay {
    /// Relays the purges of a cache, over the stream of this name. Nodes that share the name hear each other.
    ///
    /// Does not wait for the server.
    ///
    /// # Errors
    /// If the address makes no sense, or the cache has had a relay already.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(cdn: &Cdn, url: &str, stream: impl Into<String>) -> Result<Self, RelayError> {
        let client = Client::open(url).map_err(RelayError::Address)?;
        let stream: Arc<str> = stream.into().into();
        // Tells our own messages from those of others.
        let node = fastrand::u64(..);
        let (queue, orders) = mpsc::channel(QUEUE);
        let has_overflowed = Arc::new(AtomicBool::new(false));
        let outbox = Outbox { queue, has_overflowed: Arc::clone(&has_overflowed) };
        if !cdn.store().set_outbox(outbox) {
            return Err(RelayError::Taken);
        }
        let state = Arc::<State>::default();
        let publisher = publish::Publisher {
            client: client.clone(),
            stream: Arc::clone(&stream),
            node,
            has_overflowed,
            state: Arc::clone(&state),
        };
        let subscriber = subscribe::Subscriber {
            client,
            stream,
            node,
            store: cdn.store().clone(),
            state: Arc::clone(&state),
        };
        let tasks = [tokio::spawn(publisher.run(orders)), tokio::spawn(subscriber.run())];
        Ok(Self { state, tasks })
    }

    /// Whether purges of other nodes are heard at the moment, as far as one can tell.
    pub fn is_listening(&self) -> bool {
        self.state.is_listening.load(Relaxed)
    }

    /// How many purges of other nodes were heard.
    pub fn heard(&self) -> u64 {
        self.state.heard.load(Relaxed)
    }

    /// How many purges others were told of.
    pub fn told(&self) -> u64 {
        self.state.told.load(Relaxed)
    }

    /// How often something may have been missed, and everything was purged softly: once at the start.
    pub fn gaps(&self) -> u64 {
        self.state.gaps.load(Relaxed)
    }
}

impl Drop for PurgeRelay {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl fmt::Debug for PurgeRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PurgeRelay").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Where purges wait to be told.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Order>,
    has_overflowed: Arc<AtomicBool>,
}

/// A purge to be told, and who wants to know that it was.
#[derive(Debug)]
struct Order {
    purge: Purge,
    done: Option<oneshot::Sender<()>>,
}

impl Outbox {
    /// Queues a purge. If there is no room, everything will be purged softly in its stead.
    pub(crate) fn send(&self, purge: Purge, done: Option<oneshot::Sender<()>>) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(Order { purge, done }) {
            self.has_overflowed.store(true, Relaxed);
        }
    }

    /// Queues purges and waits until others can hear of the last one; whether that was soon enough.
    pub(crate) async fn tell(&self, purges: &[Purge]) -> bool {
        let Some((last, others)) = purges.split_last() else { return true };
        for purge in others {
            self.send(purge.clone(), None);
        }
        let (done, told) = oneshot::channel();
        self.send(last.clone(), Some(done));
        matches!(timeout(PATIENCE, told).await, Ok(Ok(())))
    }
}
