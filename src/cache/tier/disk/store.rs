//! The entries in their file: synchronous, and told the time.
//!
//! Four tables: what is stored, by the hash of its key; which age an entry has; who has which age; and the totals,
//! which change in the same transaction as what they count. Ages are numbers that only grow, so the smallest is the
//! entry that was stored first, and it leaves first, unless somebody asked for it since: then it gets a new age, once
//! for each time that it comes to be the oldest (FIFO with reinsertion, also known as CLOCK).

use std::{
    fs, io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use redb::{
    CommitError, CompactionError, Database, DatabaseError, Durability, ReadableTable, StorageBackend,
    StorageError, Table, TableDefinition, TableError, TransactionError, backends::FileBackend,
};

use crate::cache::tier::envelope::SKEW;

const ENTRIES: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("entries");
const AGES: TableDefinition<'_, u128, u64> = TableDefinition::new("ages");
const BY_AGE: TableDefinition<'_, u64, (u128, u64, u64)> = TableDefinition::new("by age");
const TOTALS: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");

/// What an entry costs in the file besides its own bytes: its places in three tables, and the room that B-trees leave.
const OVERHEAD: u64 = 160;
/// What is longer gets pages of its own, as many as the next power of two.
const SHARED_PAGE: u64 = 2048;
/// How many entries are looked at per batch to find expired ones.
const SWEEP: usize = 16;
/// How far the file may outgrow the capacity before it is compacted, in bytes beyond three times the capacity: free
/// pages of transactions under way, and the least that redb allocates.
const SLACK: u64 = 8 << 20;
/// Reads that are longer, in bytes, are compared with the length of the file first.
const LONG_READ: usize = 1 << 20;

/// How much may be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// How the file is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) limits: Limits,
    /// Memory that redb may use for pages, in bytes.
    pub(super) page_cache: usize,
    /// Whether a commit waits for the device.
    pub(super) sync: bool,
    /// What the hashes in a new file depend on.
    pub(super) seed: u64,
}

/// The file, and whether the device is waited for.
#[derive(Debug)]
struct Backend {
    file: FileBackend,
    sync: bool,
}

impl Backend {
    fn open(path: &Path, sync: bool) -> Result<Self, Fault> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        Ok(Self { file: FileBackend::new(file.map_err(Fault::Io)?)?, sync })
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        // The length may come from a damaged page, and is what will be allocated.
        if len > LONG_READ && offset.saturating_add(len as u64) > self.len()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self, eventual: bool) -> io::Result<()> {
        if self.sync { self.file.sync_data(eventual) } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
}

/// How much is kept, and the numbers to go on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    next_age: u64,
    /// When it was last written, by the time of day.
    latest: u64,
}

/// A change that is to be made.
#[derive(Debug)]
pub(super) enum Op {
    Put { hash: u128, bytes: Vec<u8>, expires: u64 },
    Remove { hash: u128 },
    Clear,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) evicted: u64,
    pub(super) expired: u64,
}

/// What was done to open the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Where the unusable file is now. An older one in its place was replaced.
    pub moved_to: PathBuf,
    /// What was wrong with it.
    pub reason: String,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Another process, or another part of this one, has it open.
    #[error("the file is in use")]
    InUse,
    /// Its content makes no sense.
    #[error("the file is damaged: {0}")]
    Corrupt(String),
    /// The system says no: disk full, no permission.
    #[error(transparent)]
    Io(io::Error),
}

#[derive(Debug)]
pub(super) struct Store {
    db: Database,
    path: PathBuf,
    limits: Limits,
    pub(super) seed: u64,
    /// Locked for moments only, and changed by one thread.
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    totals: Totals,
    /// Where the search for expired entries goes on.
    sweep_from: u64,
}

impl Store {
    /// Opens the file, or makes it. One that cannot be read is moved aside.
    pub(super) fn open(path: &Path, options: Options) -> Result<(Self, Option<Recovery>), Fault> {
        match Self::try_open(path, options) {
            Ok(store) => Ok((store, None)),
            Err(Fault::Corrupt(reason)) => {
                let recovery = set_aside(path, reason).map_err(Fault::Io)?;
                Ok((Self::try_open(path, options)?, Some(recovery)))
            }
            Err(fault) => Err(fault),
        }
    }

    fn try_open(path: &Path, options: Options) -> Result<Self, Fault> {
        guarded(|| {
            let db = Database::builder()
                .set_cache_size(options.page_cache)
                .create_with_file_format_v3(true)
                .create_with_backend(Backend::open(path, options.sync)?)?;
            let mut store = Self {
                db,
                path: path.to_owned(),
                limits: options.limits,
                seed: options.seed,
                state: Mutex::default(),
            };
            store.load()?;
            // Keeps to the limits.
            store.apply(Vec::new(), 0, |_| false)?;
            if store.is_bloated() {
                store.compact()?;
            }
            Ok(store)
        })
    }

    fn load(&mut self) -> Result<(), Fault> {
        let txn = self.db.begin_write()?;
        {
            txn.open_table(ENTRIES)?;
            txn.open_table(AGES)?;
            txn.open_table(BY_AGE)?;
            let mut totals = txn.open_table(TOTALS)?;
            let read = |table: &Table<'_, &str, u64>, name| -> Result<u64, Fault> {
                Ok(table.get(name)?.map_or(0, |total| total.value()))
            };
            self.state().totals = Totals {
                bytes: read(&totals, "bytes")?,
                entries: read(&totals, "entries")?,
                next_age: read(&totals, "next age")?,
                latest: read(&totals, "latest")?,
            };
            let seed = totals.get("seed")?.map(|seed| seed.value());
            match seed {
                Some(seed) => self.seed = seed,
                None => drop(totals.insert("seed", self.seed)?),
            }
        }
        Ok(txn.commit()?)
    }

    pub(super) fn totals(&self) -> Totals {
        self.state().totals
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, hash: u128) -> Result<Option<Vec<u8>>, Fault> {
        guarded(|| {
            let entries = self.db.begin_read()?.open_table(ENTRIES)?;
            Ok(entries.get(hash)?.map(|bytes| bytes.value().to_vec()))
        })
    }

    /// Makes changes in their order, in one transaction, and keeps to the limits after each: the pages of what was put and
    /// evicted in one batch are used again, and the file does not grow by the batch. `was_used` says, and forgets, whether
    /// an entry was asked for. Not for two threads at once; those that read do not wait for it.
    pub(super) fn apply(
        &self,
        mut ops: Vec<Op>,
        now: u64,
        was_used: impl Fn(u128) -> bool,
    ) -> Result<Applied, Fault> {
        guarded(|| {
            let mut txn = self.db.begin_write()?;
            // A cache can lose its last moments in a power cut. It must not lose its order of events, and does not.
            txn.set_durability(Durability::Eventual);
            let mut applied = Applied::default();
            let State { mut totals, sweep_from } = *self.state();
            // The clock was set back. How old the entries are nobody knows, also when it comes to that time again.
            if now > 0 && now.saturating_add(SKEW) < totals.latest {
                ops.insert(0, Op::Clear);
                totals.latest = 0;
            }
            totals.latest = totals.latest.max(now);
            if let Some(last) = ops.iter().rposition(|op| matches!(op, Op::Clear)) {
                ops.drain(..=last);
                txn.delete_table(ENTRIES)?;
                txn.delete_table(AGES)?;
                txn.delete_table(BY_AGE)?;
                totals = Totals { bytes: 0, entries: 0, ..totals };
            }
            let state = {
                let mut batch = Batch {
                    entries: txn.open_table(ENTRIES)?,
                    ages: txn.open_table(AGES)?,
                    by_age: txn.open_table(BY_AGE)?,
                    totals,
                };
                let mut second_chances = 16 + 4 * ops.len();
                let mut make_room = |batch: &mut Batch<'_>| {
                    while batch.totals.bytes > self.limits.bytes || batch.totals.entries > self.limits.entries
                    {
                        let Some((age, hash, expires)) = batch.oldest()? else {
                            // Nothing is left, so the totals are wrong.
                            return Err(Fault::Corrupt("its totals do not match its entries".into()));
                        };
                        if expires > now && second_chances > 0 && was_used(hash) {
                            second_chances -= 1;
                            batch.renew(age)?;
                        } else {
                            batch.remove(hash)?;
                            if expires > now { applied.evicted += 1 } else { applied.expired += 1 }
                        }
                    }
                    Ok(())
                };
                // The limits may be smaller than last time.
                make_room(&mut batch)?;
                for op in ops {
                    match op {
                        Op::Put { hash, bytes, expires } => batch.put(hash, &bytes, expires)?,
                        Op::Remove { hash } => batch.remove(hash)?,
                        // None is left.
                        Op::Clear => {}
                    }
                    make_room(&mut batch)?;
                }
                let sweep_from = batch.sweep(sweep_from, now, &mut applied)?;
                let mut totals = txn.open_table(TOTALS)?;
                totals.insert("bytes", batch.totals.bytes)?;
                totals.insert("entries", batch.totals.entries)?;
                totals.insert("next age", batch.totals.next_age)?;
                totals.insert("latest", batch.totals.latest)?;
                State { totals: batch.totals, sweep_from }
            };
            txn.commit()?;
            *self.state() = state;
            Ok(applied)
        })
    }

    /// Whether the file is much larger than what it holds.
    pub(super) fn is_bloated(&self) -> bool {
        self.file_len() > self.limits.bytes.saturating_mul(3).saturating_add(SLACK)
    }

    /// Makes the file as small as it can be.
    pub(super) fn compact(&mut self) -> Result<(), Fault> {
        guarded(|| match self.db.compact() {
            Ok(_) => Ok(()),
            Err(CompactionError::Storage(error)) => Err(error.into()),
            Err(error) => Err(Fault::Io(io::Error::other(error))),
        })
    }

    pub(super) fn file_len(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }
}

/// The tables within one transaction.
struct Batch<'txn> {
    entries: Table<'txn, u128, &'static [u8]>,
    ages: Table<'txn, u128, u64>,
    by_age: Table<'txn, u64, (u128, u64, u64)>,
    totals: Totals,
}

impl Batch<'_> {
    fn put(&mut self, hash: u128, bytes: &[u8], expires: u64) -> Result<(), Fault> {
        self.remove(hash)?;
        let charge = charge(bytes.len());
        let age = self.next_age();
        self.entries.insert(hash, bytes)?;
        self.ages.insert(hash, age)?;
        self.by_age.insert(age, (hash, charge, expires))?;
        self.totals.bytes = self.totals.bytes.saturating_add(charge);
        self.totals.entries = self.totals.entries.saturating_add(1);
        Ok(())
    }

    fn remove(&mut self, hash: u128) -> Result<(), Fault> {
        let Some(age) = self.ages.remove(hash)?.map(|age| age.value()) else { return Ok(()) };
        self.entries.remove(hash)?;
        let charge = self.by_age.remove(age)?.map_or(0, |entry| entry.value().1);
        self.totals.bytes = self.totals.bytes.saturating_sub(charge);
        self.totals.entries = self.totals.entries.saturating_sub(1);
        Ok(())
    }

    fn oldest(&self) -> Result<Option<(u64, u128, u64)>, Fault> {
        Ok(self.by_age.first()?.map(|(age, entry)| (age.value(), entry.value().0, entry.value().2)))
    }

    fn renew(&mut self, age: u64) -> Result<(), Fault> {
        let Some(entry) = self.by_age.remove(age)?.map(|entry| entry.value()) else { return Ok(()) };
        let age = self.next_age();
        self.ages.insert(entry.0, age)?;
        self.by_age.insert(age, entry)?;
        Ok(())
    }

    /// Removes what is expired among the next few entries. Returns where to go on.
    fn sweep(&mut self, from: u64, now: u64, applied: &mut Applied) -> Result<u64, Fault> {
        let mut expired = Vec::new();
        let mut next = 0;
        let mut seen = 0;
        for entry in self.by_age.range(from..)?.take(SWEEP) {
            let (age, entry) = entry?;
            let (hash, _, end) = entry.value();
            if end <= now {
                expired.push(hash);
            }
            next = age.value().saturating_add(1);
            seen += 1;
        }
        for hash in &expired {
            self.remove(*hash)?;
        }
        applied.expired += expired.len() as u64;
        // At the end it begins anew.
        Ok(if seen < SWEEP { 0 } else { next })
    }

    fn next_age(&mut self) -> u64 {
        let age = self.totals.next_age;
        self.totals.next_age = age.saturating_add(1);
        age
    }
}

/// About how many bytes of the file an entry takes.
pub(super) fn charge(len: usize) -> u64 {
    let len = (len as u64).saturating_add(OVERHEAD);
    if len <= SHARED_PAGE { len } else { len.checked_next_power_of_two().unwrap_or(u64::MAX) }
}

/// Moves a file out of the way.
pub(super) fn set_aside(path: &Path, reason: String) -> io::Result<Recovery> {
    let mut moved_to = path.as_os_str().to_owned();
    moved_to.push(".damaged");
    let moved_to = PathBuf::from(moved_to);
    fs::rename(path, &moved_to)?;
    Ok(Recovery { moved_to, reason })
}

/// Whatever is wrong with a file is an error: redb panics at some of it.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    // What was touched is thrown away after a fault.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        // Its drop is somebody's code too.
        mem::forget(panic);
        Err(Fault::Corrupt("reading it panicked".into()))
    })
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Self::Corrupt(error.to_string())
            }
            StorageError::Io(error) => Self::Io(error),
            error @ (StorageError::PreviousIo | StorageError::ValueTooLarge(_)) => {
                Self::Io(io::Error::other(error))
            }
            error => Self::Corrupt(error.to_string()),
        }
    }
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse,
            DatabaseError::Storage(error) => error.into(),
            error => Self::Corrupt(error.to_string()),
        }
    }
}

impl From<TableError> for Fault {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => error.into(),
            error => Self::Corrupt(error.to_string()),
        }
    }
}

impl From<TransactionError> for Fault {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => error.into(),
            error => Self::Corrupt(error.to_string()),
        }
    }
}

impl From<CommitError> for Fault {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => error.into(),
            error => Self::Corrupt(error.to_string()),
        }
    }
}

/// Who was asked for lately: a bit for each of about a million hashes, shared by those that collide.
#[derive(Debug)]
pub(super) struct Used(Box<[AtomicU64]>);

const USED_WORDS: usize = 1 << 14;

impl Used {
    pub(super) fn new() -> Self {
        Self((0..USED_WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn mark(&self, hash: u128) {
        let (word, bit) = self.place(hash);
        // Most entries that are asked for were marked before, and a read shares the cache line.
        if word.load(Relaxed) & bit == 0 {
            word.fetch_or(bit, Relaxed);
        }
    }

    /// Whether it was marked; it is not any more.
    pub(super) fn take(&self, hash: u128) -> bool {
        let (word, bit) = self.place(hash);
        word.fetch_and(!bit, Relaxed) & bit != 0
    }

    #[allow(clippy::cast_possible_truncation, reason = "any part of a hash will do")]
    fn place(&self, hash: u128) -> (&AtomicU64, u64) {
        (&self.0[hash as usize % USED_WORDS], 1 << ((hash >> 64) as u64 % 64))
    }
}

#[cfg(test)]
mod tests;
