//! What is stored on disk.
//!
//! Each object is a file. What is there, and where, is known in memory; heads and bodies are read when they are asked for.

mod file;
mod journal;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::{JoinHandle, spawn_blocking},
};

use self::{
    file::{BLOCK, Head, Tail, Writer},
    journal::Job,
};
use super::{
    Object, Parts,
    object::Content,
    purges::{Purges, Target, Verdict},
};
use crate::{
    cache::{Cause, MemoryCache, Update},
    cdn::{
        key::Key,
        policy::{Moment, Stored},
    },
};

/// How many reads may be at the disk at once to find something; others wait.
const READS: usize = 32;
/// How many KiB may wait to be written. What finds no room stays in memory only.
const QUEUE: u32 = 64 << 10;
/// Bodies up to this long are brought to memory when they are found.
const SHORT: u64 = 256 << 10;
/// How many blocks are read at once.
const BLOCKS: usize = 4;
/// What a file takes besides its length, about.
const EXTRA: u64 = 512;
/// The unit of most file systems.
const UNIT: u64 = 4096;

/// A folder in which stored responses survive a restart.
///
/// What is stored goes to memory and, in the background, to disk. When memory has let it go, it is found on disk: short bodies
/// (up to 256 KiB) are brought back to memory, longer ones are read from disk as they are sent, and take no memory.
///
/// *Bounded* in bytes of files; what was not asked for lately leaves. Parts of representations stay in memory.
///
/// *Safe.* Each 64 KiB of a body has a checksum, and so has the rest. What is torn or damaged is a miss; damage that shows when a part of the
/// body is sent already ends the answer with an error. A purge survives a restart as a stored response does: it is noted in the folder,
/// and flushed by the time that [`PurgeService`](crate::cdn::PurgeService) answers. Without these notes, nothing in the folder is
/// believed.
///
/// A folder belongs to one process at a time. Nothing else should be in it. All work on files is done on tokio's blocking threads and one of its
/// own.
///
/// ```no_run
/// use buttress::cdn::{Cdn, DiskStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let disk = DiskStore::open("/var/cache/shop", 100 << 30).await?;
/// let cdn = Cdn::builder(1 << 30).build_on(disk);
/// # Ok(())
/// # }
/// ```
pub struct DiskStore {
    pub(super) purges: Purges,
    pub(super) disk: Disk,
    /// Whether any key has more than a URL.
    pub(super) has_wide_keys: bool,
}

/// What is on disk. Clones share it.
#[derive(Clone)]
pub(super) struct Disk(Arc<Shared>);

struct Shared {
    folder: PathBuf,
    capacity: u64,
    /// By the hash of the key.
    index: MemoryCache<u64, Arc<Vec<Arc<Filing>>>>,
    jobs: mpsc::Sender<Job>,
    reads: Arc<Semaphore>,
    room: Arc<Semaphore>,
    next: AtomicU64,
}

/// An object on disk.
#[derive(Debug)]
pub(super) struct Filing {
    key: Key,
    variant: u64,
    pub(super) began: u64,
    is_soft: AtomicBool,
    place: Arc<Place>,
    length: u64,
}

/// A file, which is removed when nobody needs it any more if it is doomed.
struct Place {
    path: PathBuf,
    is_doomed: AtomicBool,
    jobs: mpsc::Sender<Job>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_doomed.load(Relaxed) {
            let _ = self.jobs.send(Job::Remove(std::mem::take(&mut self.path)));
        }
    }
}

impl Filing {
    fn doom(&self) {
        self.place.is_doomed.store(true, Relaxed);
    }

    pub(super) fn verdict(&self) -> Verdict {
        if self.is_soft.load(Relaxed) { Verdict::SoftPurged } else { Verdict::Live }
    }

    fn weight(&self) -> u64 {
        self.length.next_multiple_of(UNIT).saturating_add(EXTRA)
    }
}

/// The body of an object, in a file.
#[derive(Clone, Debug)]
pub(super) struct FileBody {
    place: Arc<Place>,
    length: u64,
    sums: Arc<[u64]>,
}

impl FileBody {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn weight(&self) -> u64 {
        size_of_val(&*self.sums) as u64 + EXTRA
    }

    /// Whether it can be read, as far as one knows.
    pub(super) fn is_sound(&self) -> bool {
        !self.place.is_doomed.load(Relaxed)
    }
}

impl DiskStore {
    /// Opens a folder, which is made if it is not there, for this many bytes of files.
    ///
    /// Reads the end of each file in it, which takes a while if there are many.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub async fn open(folder: impl AsRef<Path>, capacity: u64) -> io::Result<Self> {
        let folder = folder.as_ref().to_owned();
        spawn_blocking(move || Self::open_now(folder, capacity)).await.map_err(io::Error::other)?
    }

    fn open_now(folder: PathBuf, capacity: u64) -> io::Result<Self> {
        let (objects, drafts, notes) = (folder.join("objects"), folder.join("drafts"), folder.join("purges"));
        let purges = Purges::new(0);
        let whole = fs::read(&notes).ok().and_then(|journal| journal::replay(&journal, &purges));
        if whole.is_none() {
            remove_folder(&objects)?;
        }
        remove_folder(&drafts)?;
        for folder in [&folder, &objects, &drafts] {
            fs::create_dir_all(folder)?;
        }
        let purges = if whole.is_some() { purges } else { Purges::new(0) };
        let jobs = journal::start(&notes, whole.unwrap_or(0))?;
        let listener = |_: &u64, filings: &Arc<Vec<Arc<Filing>>>, cause| {
            if cause != Cause::Replaced {
                filings.iter().for_each(|filing| filing.doom());
            }
        };
        let index = MemoryCache::builder(capacity)
            .weigher(|_, filings: &Arc<Vec<Arc<Filing>>>| filings.iter().map(|filing| filing.weight()).sum())
            .listener(listener)
            .build();
        let shared = Shared {
            folder,
            capacity,
            index,
            jobs,
            reads: Arc::new(Semaphore::new(READS)),
            room: Arc::new(Semaphore::new(QUEUE as usize)),
            next: AtomicU64::new(0),
        };
        let disk = Disk(Arc::new(shared));
        let has_wide_keys = disk.find_files(&objects, &purges)?;
        Ok(Self { purges, disk, has_wide_keys })
    }
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.disk.fmt(f)
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore")
            .field("folder", &self.0.folder)
            .field("index", &self.0.index)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// Takes up what is in the folder, the oldest first; whether any key has more than a URL.
    fn find_files(&self, objects: &Path, purges: &Purges) -> io::Result<bool> {
        let mut found = Vec::new();
        let mut has_wide_keys = false;
        for folder in fs::read_dir(objects)? {
            for file in fs::read_dir(folder?.path())? {
                let path = file?.path();
                let number = path.file_name().and_then(|name| u64::from_str_radix(name.to_str()?, 16).ok());
                let tail = fs::File::open(&path).and_then(|mut file| file::read_tail(&mut file)).ok();
                let key = tail.as_ref().and_then(|tail| tail.head.key());
                let (Some(number), Some(tail), Some(key)) = (number, tail, key) else {
                    let _ = fs::remove_file(&path);
                    continue;
                };
                self.0.next.fetch_max(number.saturating_add(1), Relaxed);
                let names = tail.head.record.tags().map(super::name_of_tag).chain([super::name_of_url(&key)]);
                let verdict = purges.verdict(key.url(), key.path(), names, tail.began);
                // The note of a purge that it began after may be lost. The next one must not have the same number.
                purges.skip_to(tail.began);
                let filing = self.filing(key, &tail, path);
                if verdict == Verdict::Purged {
                    filing.doom();
                    continue;
                }
                filing.is_soft.store(verdict == Verdict::SoftPurged, Relaxed);
                has_wide_keys |= filing.key.is_wide();
                found.push((number, Arc::new(filing)));
            }
        }
        found.sort_unstable_by_key(|(number, _)| *number);
        for (_, filing) in found {
            self.insert(&filing);
        }
        Ok(has_wide_keys)
    }

    fn filing(&self, key: Key, tail: &Tail, path: PathBuf) -> Filing {
        let place = Place { path, is_doomed: AtomicBool::new(false), jobs: self.0.jobs.clone() };
        Self::filing_at(key, tail, Arc::new(place))
    }

    fn filing_at(key: Key, tail: &Tail, place: Arc<Place>) -> Filing {
        let variant = tail.head.record.variant();
        Filing { key, variant, began: tail.began, is_soft: AtomicBool::new(false), place, length: tail.file }
    }

    /// Puts a file into the index, in place of the one of the same variant.
    fn insert(&self, filing: &Arc<Filing>) {
        let mut replaced = Vec::new();
        self.0.index.entry(filing.key.hash()).update(|filings| {
            let is_same = |it: &&Arc<Filing>| it.key == filing.key && it.variant == filing.variant;
            let filings = filings.unwrap_or_default();
            replaced = filings.iter().filter(is_same).cloned().collect();
            let others = filings.iter().filter(|it| !is_same(it)).cloned();
            let mut kept: Vec<_> = [Arc::clone(filing)].into_iter().chain(others).collect();
            replaced.extend(kept.split_off(kept.len().min(super::DISK_VARIANTS)));
            Update::Put(Arc::new(kept))
        });
        let gone = replaced.iter().filter(|old| !Arc::ptr_eq(&old.place, &filing.place));
        gone.for_each(|old| old.doom());
    }

    /// What is on disk for a key.
    pub(super) fn find(&self, key: &Key) -> Vec<Arc<Filing>> {
        let filings = self.0.index.get(&key.hash());
        let filings = filings.iter().flat_map(|it| it.iter()).filter(|filing| filing.key == *key);
        let (sound, damaged): (Vec<_>, Vec<_>) =
            filings.cloned().partition(|filing| !filing.place.is_doomed.load(Relaxed));
        for filing in &damaged {
            self.remove(filing);
        }
        sound
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.0.index.contains_key(&key.hash())
    }

    /// Purges a key.
    pub(super) fn purge(&self, key: &Key, soft: bool) {
        if soft {
            self.find(key).iter().for_each(|filing| filing.is_soft.store(true, Relaxed));
        } else {
            self.0.index.remove(&key.hash());
        }
    }

    /// Takes out one file.
    pub(super) fn remove(&self, filing: &Arc<Filing>) {
        filing.doom();
        self.0.index.entry(filing.key.hash()).update(|filings| {
            let Some(filings) = filings else { return Update::Leave };
            let kept: Vec<_> = filings.iter().filter(|it| !Arc::ptr_eq(it, filing)).cloned().collect();
            if kept.is_empty() { Update::Remove } else { Update::Put(Arc::new(kept)) }
        });
    }

    /// Notes a purge in the folder.
    pub(super) fn note(&self, number: u64, target: Target<'_>, soft: bool) {
        let _ = self.0.jobs.send(Job::Note(journal::record(number, target, soft)));
    }

    /// Waits until what was noted is on the device.
    pub(super) async fn flush(&self) {
        let (done, told) = oneshot::channel();
        if self.0.jobs.send(Job::Flush(done)).is_ok() {
            let _ = told.await;
        }
    }

    /// Reads an object, if its head selects the request. An error means that it is not there or damaged.
    pub(super) async fn load(
        &self,
        filing: &Arc<Filing>,
        request: &HeaderMap,
        now: Moment,
    ) -> io::Result<Option<Object>> {
        let turn = Arc::clone(&self.0.reads).acquire_owned().await.map_err(io::Error::other)?;
        let (filing, request) = (Arc::clone(filing), request.clone());
        let work = move || {
            let _turn = turn;
            let damaged = || io::Error::from(io::ErrorKind::InvalidData);
            let mut file = fs::File::open(&filing.place.path)?;
            let tail = file::read_tail(&mut file)?;
            // Another tail than the one that was filed is as good as none.
            if tail.head.key().as_ref() != Some(&filing.key) || tail.file != filing.length {
                return Err(damaged());
            }
            let stored = Stored::from_record(tail.head.record, now).ok_or_else(damaged)?;
            if !stored.selects(&request) {
                return Ok(None);
            }
            let body = FileBody { place: Arc::clone(&filing.place), length: tail.body, sums: tail.sums };
            if body.length > SHORT {
                return Ok(Some(Object::with_content(stored, Content::File(body))));
            }
            let mut chunks = Vec::new();
            let mut at = 0;
            while at < body.length {
                let chunk = file::read_body(&mut file, &body.sums, body.length, at, body.length, BLOCKS)?;
                at += chunk.len() as u64;
                chunks.push(chunk);
            }
            Ok(Some(Object::new(stored, Parts::whole(chunks))))
        };
        spawn_blocking(work).await.map_err(io::Error::other)?
    }

    /// Room for an object that is to be written, if there is some and it is not too long.
    pub(super) fn room(&self, length: u64) -> Option<OwnedSemaphorePermit> {
        if length > self.0.capacity / 8 {
            return None;
        }
        let kib = u32::try_from(length / 1024 + 1).unwrap_or(QUEUE).min(QUEUE);
        Arc::clone(&self.0.room).try_acquire_many_owned(kib).ok()
    }

    /// Writes an object that is whole, or the new head of one that is on disk already. Blocks.
    pub(super) fn write(&self, key: &Key, object: &Object, began: u64, now: Moment) -> io::Result<Written> {
        let head = Head::new(key, object.stored().to_record(now));
        let parts = match object.content() {
            Content::Memory(parts) => parts,
            Content::File(body) => {
                let tail = file::append(&body.place.path, head, (&body.sums, body.length), began)?;
                let filing = Self::filing_at(key.clone(), &tail, Arc::clone(&body.place));
                return Ok(Written { filing, body: body.clone(), is_new: false });
            }
        };
        let length = parts.length().filter(|_| parts.is_whole()).ok_or(io::ErrorKind::InvalidInput)?;
        let number = self.0.next.fetch_add(1, Relaxed);
        let name = format!("{number:016x}");
        let draft = self.0.folder.join("drafts").join(&name);
        let folder = self.0.folder.join("objects").join(&name[14..]);
        let path = folder.join(&name);
        let write = || {
            let mut writer = Writer::create(&draft)?;
            for chunk in parts.cursor(0..length).into_iter().flatten() {
                writer.write(&chunk)?;
            }
            let tail = writer.finish(head, began)?;
            fs::create_dir_all(&folder)?;
            fs::rename(&draft, &path)?;
            Ok(tail)
        };
        let tail = write().inspect_err(|_: &io::Error| _ = fs::remove_file(&draft))?;
        let filing = self.filing(key.clone(), &tail, path);
        let body = FileBody { place: Arc::clone(&filing.place), length: tail.body, sums: tail.sums };
        Ok(Written { filing, body, is_new: true })
    }

    /// Lets an object that was written be found.
    pub(super) fn publish(&self, written: Written, verdict: Verdict) {
        written.filing.is_soft.store(verdict == Verdict::SoftPurged, Relaxed);
        self.insert(&Arc::new(written.filing));
    }

    /// Waits until nothing waits to be written or removed.
    pub(super) async fn settle(&self) {
        let _all = self.0.room.acquire_many(QUEUE).await;
        self.flush().await;
    }

    /// How many keys there are, and what their files take.
    pub(super) fn held(&self) -> (u64, u64) {
        (self.0.index.len() as u64, self.0.index.weight())
    }
}

/// An object that was written and cannot be found yet.
#[derive(Debug)]
pub(super) struct Written {
    filing: Filing,
    body: FileBody,
    is_new: bool,
}

impl Written {
    /// Removes it. A body that had another head before is that one's to remove.
    pub(super) fn discard(self) {
        if self.is_new {
            self.filing.doom();
        }
    }

    /// The body, if it is not worth its memory.
    pub(super) fn long_body(&self) -> Option<FileBody> {
        (self.body.length > SHORT).then(|| self.body.clone())
    }
}

/// Reads a range of a body in a file.
#[derive(Debug)]
pub(super) struct FileReader {
    body: FileBody,
    at: u64,
    end: u64,
    file: Option<fs::File>,
    reading: Option<JoinHandle<Read>>,
}

type Read = io::Result<(fs::File, Bytes)>;

impl FileReader {
    pub(super) fn new(body: &FileBody, range: std::ops::Range<u64>) -> Option<Self> {
        let is_within = range.start <= range.end && range.end <= body.length;
        is_within.then(|| Self {
            body: body.clone(),
            at: range.start,
            end: range.end,
            file: None,
            reading: None,
        })
    }

    pub(super) fn left(&self) -> u64 {
        self.end - self.at
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.at >= self.end {
            return Poll::Ready(None);
        }
        let reading = if let Some(reading) = &mut self.reading {
            reading
        } else {
            let read = Self::read(self.body.clone(), self.file.take(), self.at, self.end);
            // Somebody who polls it without a runtime has to wait.
            let Ok(runtime) = Handle::try_current() else { return Poll::Ready(Some(self.done(read()))) };
            self.reading.insert(runtime.spawn_blocking(read))
        };
        let read = std::task::ready!(std::pin::Pin::new(reading).poll(cx));
        self.reading = None;
        Poll::Ready(Some(self.done(read.unwrap_or_else(|error| Err(io::Error::other(error))))))
    }

    fn read(body: FileBody, file: Option<fs::File>, at: u64, end: u64) -> impl FnOnce() -> Read {
        move || {
            let mut file = file.map_or_else(|| fs::File::open(&body.place.path), Ok)?;
            let bytes = file::read_body(&mut file, &body.sums, body.length, at, end, BLOCKS)?;
            Ok((file, bytes))
        }
    }

    fn done(&mut self, read: Read) -> io::Result<Bytes> {
        match read {
            Ok((file, bytes)) => {
                self.file = Some(file);
                self.at += bytes.len() as u64;
                Ok(bytes)
            }
            Err(error) => {
                // It is found no more, and nothing more is read.
                self.body.place.is_doomed.store(true, Relaxed);
                self.at = self.end;
                Err(error)
            }
        }
    }
}

const _: () = assert!(SHORT.is_multiple_of(BLOCK as u64));

#[cfg(test)]
mod tests;
