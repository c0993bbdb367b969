//! The disk tier: entries in one file, by redb.

use std::{
    fmt, io,
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed},
        },
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::spawn_blocking,
};
use xxhash_rust::xxh3::xxh3_128_with_seed;

pub use self::store::Recovery;
use self::{
    store::{Fault, Limits, Op, Options, Store, Used, charge, guarded},
    writer::{Change, Job},
};
use super::{
    Lookup, Ticket, Tier, TierError,
    breaker::Breaker,
    envelope::{Envelope, Rejection, millis},
};
use crate::time::{Clock, TokioClock};

mod store;
mod writer;

/// How many reads may be in the file at once; others wait.
const READS: usize = 8;
/// How much may wait to be written, in KiB.
const QUEUE: u32 = 8 << 10;
/// Keys share this many counters of changes. A fill that meets another key's change is given up: a miss too many.
const STRIPES: usize = 1024;
/// How long the disk is left alone after it failed a few times in a row.
const PAUSE: Duration = Duration::from_secs(1);

/// A cache in a file: larger than memory, and warm after a restart.
///
/// Values are kept as bytes (serde, postcard) with their key, the name of their schema, their times and a checksum. What
/// does not fit any more, of another schema, torn or damaged, is a miss. Change the schema's name whenever the type of
/// the value changes.
///
/// *Bounded* in bytes and entries, also across restarts. Bytes are those of the file, about: long values count as the
/// next power of two, short ones 160 bytes more than they are; the file stays below three times that and 8 MiB. Who was
/// stored first leaves first, unless it was asked for since. Expired entries are swept out with the writes. When the clock
/// was set back by more than a minute, the next write clears it: how old its entries are nobody knows.
///
/// *Written* by one task in batches, one transaction each. [`put`](Tier::put), [`remove`](Tier::remove) and
/// [`clear`](Tier::clear) return once their transaction is committed; a process that is killed after that finds it done.
/// A [`fill`](Tier::fill) is written later, or given up when 8 MiB are waiting. Commits are flushed to the device
/// (`fdatasync`; on macOS a barrier, so that a power cut may lose the last of them, in order).
///
/// *Opening* a file that was not closed checks all of it, which takes a while if it is large. A file that cannot be read
/// is moved aside and a new one begun: see [`recovery`](Self::recovery). The same happens when damage shows later.
///
/// All work on the file is done on tokio's blocking threads. A file belongs to one process at a time. Clones share it.
/// The last of them to go closes it after what is queued was written, if the runtime lives that long; [`close`](Self::close)
/// waits for that.
///
/// ```
/// use std::time::Duration;
/// use buttress::cache::tier::{DiskTier, Lookup, Tier};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("buttress-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// let path = dir.join("users.cache");
/// let disk: DiskTier<u64, String> = DiskTier::builder(&path, "user/1").capacity(64 << 20).open().await?;
/// disk.put(&42, &"Ada".to_owned(), Some(Duration::from_secs(3600))).await?;
/// disk.close().await;
///
/// let disk: DiskTier<u64, String> = DiskTier::builder(&path, "user/1").open().await?;
/// assert!(matches!(disk.get(&42).await?, Lookup::Hit { value, .. } if value == "Ada"));
/// # disk.close().await;
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok(())
/// # }
/// ```
pub struct DiskTier<K, V> {
    shared: Arc<Shared>,
    queue: mpsc::UnboundedSender<Job>,
    kinds: PhantomData<fn(K) -> V>,
}

/// What the handles and the writing task share.
struct Shared {
    /// `None` once it is closed, and while it cannot be opened again after a fault.
    store: RwLock<Option<Store>>,
    path: PathBuf,
    options: Options,
    envelope: Envelope,
    clock: Arc<dyn Clock>,
    reads: Arc<Semaphore>,
    room: Arc<Semaphore>,
    used: Used,
    /// How often a key of each stripe was put or removed.
    changes: Box<[AtomicU64]>,
    /// Set by whoever meets damage; the writer then begins a new file.
    is_broken: AtomicBool,
    /// Set by whoever cannot read for another reason, after which redb reads no more; the writer then opens the file anew.
    is_stuck: AtomicBool,
    /// Leaves a disk that is full, or gone, alone for a while.
    breaker: Mutex<Breaker>,
    recovery: Mutex<Option<Recovery>>,
    evicted: AtomicU64,
    expired: AtomicU64,
    damaged: AtomicU64,
    dropped: AtomicU64,
}

/// What a [`DiskTier`] holds, and has done since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskStats {
    /// How many entries there are, expired ones included.
    pub entries: u64,
    /// What they count for against the capacity, in bytes.
    pub bytes: u64,
    /// The length of the file, in bytes.
    pub file: u64,
    /// How many entries made room for others.
    pub evicted: u64,
    /// How many were swept out because they had expired.
    pub expired: u64,
    /// How many lookups met bytes that were no value of this key and schema.
    pub damaged: u64,
    /// How many fills were given up because too much was waiting.
    pub dropped: u64,
}

/// Why a [`DiskTier`] cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// Somebody has the file open already.
    #[error("{0} is in use: give each process a file of its own")]
    InUse(PathBuf),
    /// The system does not let us.
    #[error("cannot open {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl DiskTier<(), ()> {
    /// Starts a tier in this file, which is made if it is not there, for values of the schema of this name.
    pub fn builder(path: impl AsRef<Path>, schema: &str) -> DiskTierBuilder {
        DiskTierBuilder {
            path: path.as_ref().to_owned(),
            schema: schema.to_owned(),
            options: Options {
                limits: Limits { bytes: 256 << 20, entries: u64::MAX },
                page_cache: 8 << 20,
                sync: true,
                seed: fastrand::u64(..),
            },
            longest: 16 << 20,
            clock: Arc::new(TokioClock),
        }
    }
}

impl<K, V> DiskTier<K, V> {
    /// What was done to the file because it could not be read, if so: the last time.
    pub fn recovery(&self) -> Option<Recovery> {
        self.shared.recovery.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it holds, and has done so far. Waits for the file to be compacted, if it is at it.
    pub fn stats(&self) -> DiskStats {
        let shared = &*self.shared;
        let store = shared.store.read().unwrap_or_else(PoisonError::into_inner);
        let totals = store.as_ref().map(Store::totals).unwrap_or_default();
        DiskStats {
            entries: totals.entries,
            bytes: totals.bytes,
            file: store.as_ref().map_or(0, Store::file_len),
            evicted: shared.evicted.load(Relaxed),
            expired: shared.expired.load(Relaxed),
            damaged: shared.damaged.load(Relaxed),
            dropped: shared.dropped.load(Relaxed),
        }
    }

    /// Writes what is queued and closes the file. After it, every call fails with [`TierError::Closed`].
    pub async fn close(&self) {
        let _ = self.change(Change::Close, 1).await;
    }

    /// Writes what is queued by now.
    ///
    /// # Errors
    /// If it may not have been written.
    pub async fn flush(&self) -> Result<(), TierError> {
        self.change(Change::Flush, 1).await
    }

    /// Queues a change and waits until it is made.
    async fn change(&self, change: Change, kib: u32) -> Result<(), TierError> {
        let room = Arc::clone(&self.shared.room).acquire_many_owned(kib).await;
        let (done, told) = oneshot::channel();
        let job = Job { change, done: Some(done), room: room.map_err(|_| TierError::Closed)? };
        self.queue.send(job).map_err(|_| TierError::Closed)?;
        told.await.unwrap_or(Err(TierError::Closed))
    }

    fn hash(&self, key: &[u8]) -> u128 {
        xxh3_128_with_seed(key, self.shared.options.seed)
    }
}

impl Shared {
    fn now(&self) -> u64 {
        wall_millis(&*self.clock)
    }

    /// How often keys like this one were changed.
    fn changes(&self, hash: u128) -> [u8; 8] {
        // Acquire, and release in the writer's increment: a read after this sees what was committed before that.
        self.changes[stripe(hash)].load(Acquire).to_le_bytes()
    }

    fn ticket(&self, hash: u128) -> Ticket {
        Ticket(Bytes::copy_from_slice(&self.changes(hash)))
    }

    fn still_valid(&self, hash: u128, ticket: &Ticket) -> bool {
        ticket.0[..] == self.changes(hash)
    }

    fn close(&self) {
        let store = self.store.write().unwrap_or_else(PoisonError::into_inner).take();
        let _ = guarded(|| {
            drop(store);
            Ok(())
        });
    }

    fn read(&self, hash: u128) -> Result<Option<Vec<u8>>, TierError> {
        if self.is_broken.load(Relaxed) {
            return Err(TierError::failed("the file is damaged and about to be replaced"));
        }
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        let store = store.as_ref().ok_or(TierError::Closed)?;
        store.get(hash).map_err(|fault| {
            let is_damaged = matches!(fault, Fault::Corrupt(_));
            let flag = if is_damaged { &self.is_broken } else { &self.is_stuck };
            flag.store(true, Relaxed);
            fault.into()
        })
    }
}

#[async_trait]
impl<K, V> Tier<K, V> for DiskTier<K, V>
where
    K: Serialize + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        "disk"
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn get(&self, key: &K) -> Result<Lookup<V>, TierError> {
        let key = Envelope::key(key)?;
        let hash = self.hash(&key);
        // Before it is looked up: a change after this voids the ticket.
        let ticket = self.shared.ticket(hash);
        let turn = Arc::clone(&self.shared.reads).acquire_owned().await.map_err(|_| TierError::Closed)?;
        let shared = Arc::clone(&self.shared);
        let work = move || {
            let _turn = turn;
            let Some(bytes) = shared.read(hash)? else { return Ok(Lookup::Miss(ticket)) };
            match shared.envelope.open(&key, &bytes, shared.now()) {
                Ok((value, ttl)) => {
                    shared.used.mark(hash);
                    Ok(Lookup::Hit { value, ttl })
                }
                Err(rejection) => {
                    if rejection != Rejection::Expired {
                        shared.damaged.fetch_add(1, Relaxed);
                    }
                    Ok(Lookup::Miss(ticket))
                }
            }
        };
        let found = spawn_blocking(work).await.map_err(TierError::failed)?;
        if found.is_err() {
            // The writer sees to it, if there is something to see to.
            self.nudge();
        }
        found
    }

    async fn fill(
        &self,
        key: &K,
        value: &V,
        ttl: Option<Duration>,
        ticket: Ticket,
    ) -> Result<bool, TierError> {
        let (hash, op, kib) = self.sealed(key, value, ttl)?;
        if !self.shared.still_valid(hash, &ticket) {
            return Ok(false);
        }
        let Ok(room) = Arc::clone(&self.shared.room).try_acquire_many_owned(kib) else {
            self.shared.dropped.fetch_add(1, Relaxed);
            return Err(TierError::Busy);
        };
        let job = Job { change: Change::Fill(op, ticket), done: None, room };
        self.queue.send(job).map_err(|_| TierError::Closed)?;
        Ok(true)
    }

    async fn put(&self, key: &K, value: &V, ttl: Option<Duration>) -> Result<(), TierError> {
        let (_, op, kib) = self.sealed(key, value, ttl)?;
        self.change(Change::Now(op), kib).await
    }

    async fn remove(&self, key: &K) -> Result<(), TierError> {
        let hash = self.hash(&Envelope::key(key)?);
        self.change(Change::Now(Op::Remove { hash }), 1).await
    }

    async fn clear(&self) -> Result<(), TierError> {
        self.change(Change::Now(Op::Clear), 1).await
    }
}

impl<K: Serialize, V: Serialize> DiskTier<K, V> {
    /// An entry ready to be written, and what it takes of the queue.
    fn sealed(&self, key: &K, value: &V, ttl: Option<Duration>) -> Result<(u128, Op, u32), TierError> {
        let key = Envelope::key(key)?;
        let hash = self.hash(&key);
        let now = self.shared.now();
        let bytes = self.shared.envelope.seal(&key, value, now, ttl)?;
        let limit = self.shared.options.limits.bytes;
        if charge(bytes.len()) > limit {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            return Err(TierError::TooLarge { len: bytes.len(), limit });
        }
        let kib = u32::try_from(bytes.len() / 1024 + 1).unwrap_or(QUEUE).min(QUEUE);
        let expires = ttl.map_or(u64::MAX, |ttl| now.saturating_add(millis(ttl)));
        Ok((hash, Op::Put { hash, bytes, expires }, kib))
    }
}

impl<K, V> DiskTier<K, V> {
    fn nudge(&self) {
        if let Ok(room) = Arc::clone(&self.shared.room).try_acquire_owned() {
            let _ = self.queue.send(Job { change: Change::Flush, done: None, room });
        }
    }
}

impl<K, V> Clone for DiskTier<K, V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), queue: self.queue.clone(), kinds: PhantomData }
    }
}

impl<K, V> fmt::Debug for DiskTier<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskTier")
            .field("path", &self.shared.path)
            .field("limits", &self.shared.options.limits)
            .finish_non_exhaustive()
    }
}

/// Sets up a [`DiskTier`].
#[derive(Clone, Debug)]
#[must_use = "`open` opens the file"]
pub struct DiskTierBuilder {
    path: PathBuf,
    schema: String,
    options: Options,
    longest: usize,
    clock: Arc<dyn Clock>,
}

impl DiskTierBuilder {
    /// How much it may hold, in bytes of the file. 256 MiB unless set.
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.options.limits.bytes = bytes;
        self
    }

    /// How many entries it may hold. As many as fit unless set.
    pub fn entries(mut self, entries: u64) -> Self {
        self.options.limits.entries = entries;
        self
    }

    /// The longest entry that is kept, in bytes: key, value and 39 more. 16 MiB unless set.
    pub fn longest(mut self, bytes: usize) -> Self {
        self.longest = bytes;
        self
    }

    /// How much memory pages of the file may take, in bytes. 8 MiB unless set; the system's own page cache is beside it.
    pub fn page_cache(mut self, bytes: usize) -> Self {
        self.options.page_cache = bytes;
        self
    }

    /// Whether a commit waits until the device has it, as it does unless this is set to `false`. Without, changes take a
    /// fraction of the time and still outlive the process however it ends. A power cut may then cost the content (which
    /// shows when the file is opened), or bring back what was changed in the last seconds before it.
    pub fn sync(mut self, sync: bool) -> Self {
        self.options.sync = sync;
        self
    }

    /// The clock that says when an entry expires: by the time of day, which goes on while the process is down.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Opens the file. Needs a tokio runtime, and starts the task that writes.
    ///
    /// # Errors
    /// If somebody else has the file open, or the system does not let us open it. A damaged file is no error.
    pub async fn open<K, V>(self) -> Result<DiskTier<K, V>, DiskError> {
        let Self { path, schema, mut options, longest, clock } = self;
        let failed = |fault| match fault {
            Fault::InUse => DiskError::InUse(path.clone()),
            Fault::Io(source) => DiskError::Io { path: path.clone(), source },
            Fault::Corrupt(reason) => DiskError::Io { path: path.clone(), source: io::Error::other(reason) },
        };
        let file = path.clone();
        let opened = spawn_blocking(move || Store::open(&file, options)).await;
        let (store, recovery) =
            opened.map_err(|error| failed(Fault::Io(io::Error::other(error))))?.map_err(failed)?;
        // A file begun anew is to have the seed that the hashes under way depend on.
        options.seed = store.seed;
        let shared = Arc::new(Shared {
            store: RwLock::new(Some(store)),
            path,
            options,
            envelope: Envelope::new(&schema, longest),
            clock,
            reads: Arc::new(Semaphore::new(READS)),
            room: Arc::new(Semaphore::new(QUEUE as usize)),
            used: Used::new(),
            changes: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            is_broken: AtomicBool::new(false),
            is_stuck: AtomicBool::new(false),
            breaker: Mutex::new(Breaker::new(PAUSE)),
            recovery: Mutex::new(recovery),
            evicted: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let (queue, jobs) = mpsc::unbounded_channel();
        tokio::spawn(writer::run(Arc::clone(&shared), jobs));
        Ok(DiskTier { shared, queue, kinds: PhantomData })
    }
}

impl From<Fault> for TierError {
    fn from(fault: Fault) -> Self {
        Self::failed(fault)
    }
}

#[allow(clippy::cast_possible_truncation, reason = "any part of a hash will do")]
fn stripe(hash: u128) -> usize {
    (hash >> 32) as usize % STRIPES
}

fn wall_millis(clock: &dyn Clock) -> u64 {
    let since = clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
