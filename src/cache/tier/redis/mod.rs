//! The tier that many processes share: Redis, Valkey, or what else speaks their protocol.

use std::{
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ::redis::{Client, RedisError};
use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::broadcast, task::AbortHandle};
use xxhash_rust::xxh3::xxh3_128;

use self::{
    frame::{Miss, unframe},
    link::Link,
    script::{CHANGE, CLEAR, FILL, LEASE},
};
use super::{
    Lookup, Notice, Ticket, Tier, TierError,
    envelope::{Envelope, millis},
};
use crate::time::{Clock, TokioClock};

mod frame;
mod link;
mod message;
mod script;
mod subscription;

/// The longest key that is taken, in bytes.
const LONGEST_KEY: usize = 64 << 10;
/// Longer keys are named by their hash in the server; the key itself is in the envelope.
const PLAIN_KEY: usize = 128;
/// How many notices may wait to be read before those that came first are given up, and the reader starts anew.
const NOTICES: usize = 1024;
/// How long the longest-lived entry lives, in milliseconds: a hundred years, beyond which the server's sums overflow.
const LONGEST_LIFE: u64 = 100 * 365 * 24 * 3600 * 1000;

/// A cache on a Redis or Valkey server (Redis 5 or later), shared by all who use the same namespace.
///
/// *Never waited for*: a call takes no longer than the deadline, connecting included, which is done when it is first
/// needed. After three failures in a row the server is left alone, [`TierError::Paused`] at no cost, but for one call
/// per pause.
///
/// *Consistent*, by the server's clock and in single steps on the server: what a [`put`](Tier::put) or a
/// [`remove`](Tier::remove) changed cannot be undone by a [`fill`](Tier::fill) whose miss came before, from whichever
/// node; a fill later than two minutes after its miss is refused. A server that restarts empty, or a
/// [`clear`](Tier::clear), voids all tickets and all values from before. What may undo a change: a failover to a
/// replica that has not heard of it, and eviction of the small keys that remember changes under `maxmemory` with a
/// policy of `allkeys-*` (`volatile-ttl` is worse still: they are short-lived). Give the cache a server of its own with
/// memory for two minutes of changes.
///
/// *Other nodes hear* of a `put`, `remove` or `clear` by publish/subscribe, which loses messages when a connection
/// breaks; that shows as [`Notice::Resumed`]. A tier does not hear itself, nor its clones: each
/// [`Tiered`](super::Tiered) is to have one of its own.
///
/// Values are bytes (serde, postcard) with their key, the name of their schema, and a checksum; what does not fit is a
/// miss. Change the schema's name whenever the type of the value changes: nodes of both versions may use the same namespace
/// then, though each misses what the other has written. Whoever may write to the server is trusted not to forge values.
///
/// Clones share the connection. Needs a tokio runtime with its timer and I/O enabled.
///
/// ```no_run
/// use std::time::Duration;
/// use buttress::cache::tier::{RedisTier, Tier};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let redis: RedisTier<u64, String> = RedisTier::builder("redis://127.0.0.1/", "app:users", "user/1")?
///     .deadline(Duration::from_millis(50))
///     .build();
/// redis.put(&42, &"Ada".to_owned(), Some(Duration::from_secs(3600))).await?;
/// # Ok(())
/// # }
/// ```
pub struct RedisTier<K, V> {
    shared: Arc<Shared>,
    notices: broadcast::Sender<Notice<K>>,
    values: PhantomData<fn() -> V>,
}

struct Shared {
    link: Arc<Link>,
    namespace: String,
    envelope: Envelope,
    longest_ttl: Duration,
    /// Who we are among the nodes.
    origin: u64,
    /// Numbers our changes.
    changes: AtomicU64,
    listener: std::sync::OnceLock<AbortHandle>,
    is_subscribed: AtomicBool,
    subscriptions: AtomicU64,
    heard: AtomicU64,
    malformed: AtomicU64,
    damaged: AtomicU64,
    refused: AtomicU64,
}

/// What a [`RedisTier`] does at the moment, and has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisStats {
    /// Whether the server is left alone after failures.
    pub is_paused: bool,
    /// Whether other nodes are heard.
    pub is_subscribed: bool,
    /// How many calls failed because the server could not be reached or was too slow.
    pub failures: u64,
    /// How often it has subscribed: each time after the first, messages may have been lost.
    pub subscriptions: u64,
    /// How many messages of other nodes were heard.
    pub heard: u64,
    /// How many messages made no sense.
    pub malformed: u64,
    /// How many lookups met bytes that were no value of this key and schema.
    pub damaged: u64,
    /// How many fills came too late: their key was changed since.
    pub refused: u64,
}

/// A Redis URL that makes no sense, or a namespace that is empty or longer than 256 bytes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRedis(String);

impl RedisTier<(), ()> {
    /// Starts a tier on the server at this URL (`redis://user:password@host:port/database`, or `unix:` and a path), for
    /// values of the schema of this name. Tiers of the same namespace share their entries; one namespace is for one
    /// type of keys.
    ///
    /// # Errors
    /// If the URL makes no sense, or the namespace is empty or longer than 256 bytes.
    pub fn builder(
        url: &str,
        namespace: impl Into<String>,
        schema: &str,
    ) -> Result<RedisTierBuilder, InvalidRedis> {
        let client = Client::open(url).map_err(|error: RedisError| {
            InvalidRedis(format!("this is no URL of a Redis server: {error}"))
        })?;
        let namespace = namespace.into();
        if namespace.is_empty() || namespace.len() > 256 {
            let len = namespace.len();
            return Err(InvalidRedis(format!("a namespace has 1 to 256 bytes, and this one {len}")));
        }
        Ok(RedisTierBuilder {
            client,
            namespace,
            schema: schema.to_owned(),
            deadline: Duration::from_millis(100),
            pause: Duration::from_secs(1),
            longest_ttl: Duration::from_secs(24 * 3600),
            longest: 16 << 20,
            clock: Arc::new(TokioClock),
        })
    }
}

impl<K, V> RedisTier<K, V> {
    /// What it does at the moment, and has done so far.
    pub fn stats(&self) -> RedisStats {
        let shared = &*self.shared;
        RedisStats {
            is_paused: shared.link.is_paused(),
            is_subscribed: shared.is_subscribed.load(Relaxed),
            failures: shared.link.failures(),
            subscriptions: shared.subscriptions.load(Relaxed),
            heard: shared.heard.load(Relaxed),
            malformed: shared.malformed.load(Relaxed),
            damaged: shared.damaged.load(Relaxed),
            refused: shared.refused.load(Relaxed),
        }
    }
}

impl Shared {
    fn channel(&self) -> String {
        format!("{}:changes", self.namespace)
    }

    fn epoch(&self) -> String {
        format!("{}:epoch", self.namespace)
    }

    /// The names of a key's value and marker in the server.
    fn names(&self, key: &[u8]) -> Result<[Vec<u8>; 2], TierError> {
        if key.len() > LONGEST_KEY {
            return Err(TierError::TooLarge { len: key.len(), limit: LONGEST_KEY });
        }
        let name = |kind: &str| {
            let mut name = format!("{}:{kind}", self.namespace).into_bytes();
            if key.len() <= PLAIN_KEY {
                name.push(b'=');
                name.extend_from_slice(key);
            } else {
                name.push(b'#');
                name.extend_from_slice(&xxh3_128(key).to_be_bytes());
            }
            name
        };
        Ok([name("v"), name("m")])
    }

    /// Looks up encoded keys.
    async fn look_up<V: DeserializeOwned>(&self, keys: &[Vec<u8>]) -> Result<Vec<Lookup<V>>, TierError> {
        let mut names = Vec::with_capacity(keys.len());
        for key in keys {
            names.push(self.names(key)?);
        }
        let mut question = ::redis::pipe();
        // The time first: a ticket is older rather than younger than its miss.
        question.cmd("TIME").cmd("MGET").arg(self.epoch());
        for [value, marker] in &names {
            question.arg(value).arg(marker);
        }
        let mut question = Some(question);
        let epoch = self.epoch();
        let (time, found) = self
            .link
            .run(async |mut connection| {
                type Answer = ((u64, u64), Vec<Option<Vec<u8>>>);
                let question = question.take().unwrap_or_default();
                let answer: Answer = question.query_async(&mut connection).await?;
                if answer.1.first().is_some_and(Option::is_some) {
                    return Ok(answer);
                }
                // A new server. Without an epoch nobody could fill it.
                let mut set = ::redis::cmd("SET");
                set.arg(epoch).arg(nonce()).arg("NX");
                set.query_async::<::redis::Value>(&mut connection).await?;
                question.query_async(&mut connection).await
            })
            .await?;
        let now = time.0.saturating_mul(1000).saturating_add(time.1 / 1000);
        let mut found = found.into_iter();
        let epoch = found.next().flatten().unwrap_or_default();
        let mut lookups = Vec::with_capacity(keys.len());
        for key in keys {
            let (value, marker) = (found.next().flatten(), found.next().flatten());
            let value = value.as_deref().and_then(|bytes| unframe(bytes, &epoch, now));
            let opened = value.map(|(bytes, ttl)| (self.envelope.open(key, bytes, 0), ttl));
            lookups.push(match opened {
                Some((Ok((value, _)), ttl)) => Lookup::Hit { value, ttl: Some(ttl) },
                other => {
                    self.damaged.fetch_add(u64::from(other.is_some()), Relaxed);
                    let miss = Miss { epoch: epoch.clone(), marker: marker.unwrap_or_default(), at: now };
                    Lookup::Miss(miss.ticket())
                }
            });
        }
        Ok(lookups)
    }

    /// Makes a change, and tells.
    async fn change(&self, key: &[u8], value: Option<(u64, Vec<u8>)>) -> Result<(), TierError> {
        let [name, marker] = self.names(key)?;
        let mut script = CHANGE.key(name);
        script
            .key(marker)
            .key(self.epoch())
            .arg(format!("{:016x}", self.origin))
            .arg(self.changes.fetch_add(1, Relaxed))
            .arg(millis(LEASE))
            .arg(self.channel())
            .arg(message::changed(self.origin, key))
            .arg(nonce());
        if let Some((ttl, bytes)) = value {
            script.arg(ttl).arg(bytes);
        }
        self.link.run(async |mut connection| script.invoke_async::<()>(&mut connection).await).await
    }

    fn ttl(&self, ttl: Option<Duration>) -> u64 {
        millis(ttl.unwrap_or(self.longest_ttl).min(self.longest_ttl)).min(LONGEST_LIFE)
    }

    /// The server keeps the time, so the envelope does not.
    fn seal<V: Serialize>(&self, key: &[u8], value: &V) -> Result<Vec<u8>, TierError> {
        self.envelope.seal(key, value, 0, None)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.get() {
            listener.abort();
        }
    }
}

#[async_trait]
impl<K, V> Tier<K, V> for RedisTier<K, V>
where
    K: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        "redis"
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn get(&self, key: &K) -> Result<Lookup<V>, TierError> {
        let found = self.shared.look_up(&[Envelope::key(key)?]).await?;
        Ok(found.into_iter().next().unwrap_or(Lookup::Miss(Ticket::default())))
    }

    /// In one command, however many there are: the server does nothing else meanwhile.
    async fn get_many(&self, keys: &[K]) -> Result<Vec<Lookup<V>>, TierError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let encoded: Vec<_> = keys.iter().map(Envelope::key).collect::<Result<_, _>>()?;
        self.shared.look_up(&encoded).await
    }

    async fn fill(
        &self,
        key: &K,
        value: &V,
        ttl: Option<Duration>,
        ticket: Ticket,
    ) -> Result<bool, TierError> {
        let shared = &*self.shared;
        let Some(miss) = Miss::of(&ticket) else { return Ok(false) };
        let ttl = shared.ttl(ttl);
        if ttl == 0 {
            return Ok(false);
        }
        let key = Envelope::key(key)?;
        let [name, marker] = shared.names(&key)?;
        let bytes = shared.seal(&key, value)?;
        let mut script = FILL.key(name);
        script.key(marker).key(shared.epoch());
        script.arg(miss.epoch).arg(miss.marker).arg(miss.at).arg(millis(LEASE)).arg(ttl).arg(bytes);
        let taken: bool =
            shared.link.run(async |mut connection| script.invoke_async(&mut connection).await).await?;
        shared.refused.fetch_add(u64::from(!taken), Relaxed);
        Ok(taken)
    }

    async fn put(&self, key: &K, value: &V, ttl: Option<Duration>) -> Result<(), TierError> {
        let key = Envelope::key(key)?;
        let bytes = self.shared.seal(&key, value)?;
        // What lives for no time is a change all the same.
        let ttl = self.shared.ttl(ttl);
        self.shared.change(&key, (ttl > 0).then_some((ttl, bytes))).await
    }

    async fn remove(&self, key: &K) -> Result<(), TierError> {
        self.shared.change(&Envelope::key(key)?, None).await
    }

    /// In one step: values from before are void, and leave the server when their time is over.
    async fn clear(&self) -> Result<(), TierError> {
        let shared = &*self.shared;
        let mut script = CLEAR.key(shared.epoch());
        script.arg(nonce()).arg(shared.channel()).arg(message::cleared(shared.origin));
        shared.link.run(async |mut connection| script.invoke_async::<()>(&mut connection).await).await
    }

    fn notices(&self) -> Option<broadcast::Receiver<Notice<K>>> {
        let receiver = self.notices.subscribe();
        self.shared.listener.get_or_init(|| {
            let listener = subscription::run(Arc::downgrade(&self.shared), self.notices.clone());
            tokio::spawn(listener).abort_handle()
        });
        Some(receiver)
    }
}

/// Different each time.
fn nonce() -> String {
    format!("{:016x}", fastrand::u64(..))
}

impl<K, V> Clone for RedisTier<K, V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), notices: self.notices.clone(), values: PhantomData }
    }
}

impl<K, V> fmt::Debug for RedisTier<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier")
            .field("namespace", &self.shared.namespace)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Sets up a [`RedisTier`].
#[must_use = "`build` makes the tier"]
pub struct RedisTierBuilder {
    client: Client,
    namespace: String,
    schema: String,
    deadline: Duration,
    pause: Duration,
    longest_ttl: Duration,
    longest: usize,
    clock: Arc<dyn Clock>,
}

impl RedisTierBuilder {
    /// How long a call may take. 100 ms unless set.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// For how long the server is left alone after failures, but for one call. 1 s unless set.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// How long an entry may live in the server, also one that does not expire. A day unless set.
    pub fn longest_ttl(mut self, ttl: Duration) -> Self {
        self.longest_ttl = ttl;
        self
    }

    /// The longest entry that is taken, in bytes: key, value and 39 more. 16 MiB unless set.
    pub fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    /// The clock by which pauses are measured.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The tier. Connects when it is first used.
    pub fn build<K: Clone, V>(self) -> RedisTier<K, V> {
        let link = Link::new(self.client, self.deadline, self.pause, self.clock);
        let shared = Shared {
            link: Arc::new(link),
            namespace: self.namespace,
            envelope: Envelope::new(&self.schema, self.longest),
            longest_ttl: self.longest_ttl,
            origin: fastrand::u64(..),
            changes: AtomicU64::new(0),
            listener: std::sync::OnceLock::new(),
            is_subscribed: AtomicBool::new(false),
            subscriptions: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        let (notices, _) = broadcast::channel(NOTICES);
        RedisTier { shared: Arc::new(shared), notices, values: PhantomData }
    }
}

impl fmt::Debug for RedisTierBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTierBuilder").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
