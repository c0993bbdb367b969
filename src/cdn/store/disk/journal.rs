//! Purges as they survive a restart.
//!
//! A record is the length of what follows, a checksum of it, the number of the purge, whether it was soft, and what was purged. The
//! last record may be torn; what is damaged otherwise is not to be believed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use super::super::purges::{Purges, Target};

/// Beyond this, all that is stored counts as purged at the next start.
const LONGEST: u64 = 64 << 20;

/// What the thread that writes is to do.
#[derive(Debug)]
pub(super) enum Job {
    Note(Vec<u8>),
    Remove(PathBuf),
    Flush(oneshot::Sender<()>),
}

/// A record.
pub(super) fn record(number: u64, target: Target<'_>, soft: bool) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.push(u8::from(soft));
    match target {
        Target::All => payload.push(b'a'),
        Target::Name(name) => {
            payload.push(b'n');
            payload.extend_from_slice(&name.to_le_bytes());
        }
        Target::Prefix(prefix) => {
            payload.push(b'p');
            payload.extend_from_slice(prefix);
        }
    }
    let mut record = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    record.extend_from_slice(&xxh3_64(&payload).to_le_bytes());
    record.extend_from_slice(&payload);
    record
}

/// Notes all purges of a journal; how much of it is whole, in bytes. `None` if it cannot be believed.
pub(super) fn replay(journal: &[u8], purges: &Purges) -> Option<u64> {
    let mut rest = journal;
    loop {
        let whole = journal.len() - rest.len();
        // The last one may be torn: nobody was told that it was done.
        let Some((payload, sum, later)) = split(rest) else { return Some(whole as u64) };
        if xxh3_64(payload) != sum || note(payload, purges).is_none() {
            return later.is_empty().then_some(whole as u64);
        }
        rest = later;
    }
}

/// The payload of the first record, its checksum, and what comes after it.
fn split(journal: &[u8]) -> Option<(&[u8], u64, &[u8])> {
    let (length, rest) = journal.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    let (payload, later) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    Some((payload, u64::from_le_bytes(*sum), later))
}

fn note(payload: &[u8], purges: &Purges) -> Option<()> {
    let (number, rest) = payload.split_first_chunk::<8>()?;
    let (&[soft, kind], what) = rest.split_first_chunk::<2>()?;
    let target = match kind {
        b'a' => Target::All,
        b'n' => Target::Name(u64::from_le_bytes(what.try_into().ok()?)),
        b'p' => Target::Prefix(what),
        _ => return None,
    };
    purges.replay(u64::from_le_bytes(*number), target, soft != 0);
    Some(())
}

/// Starts the thread that writes the journal, behind what is `whole` of it, and removes files, until nobody can send it jobs any
/// more.
pub(super) fn start(path: &Path, whole: u64) -> io::Result<mpsc::Sender<Job>> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    file.set_len(whole)?;
    let (mut file, mut length) = (Some(file), whole);
    let path = path.to_owned();
    let (sender, jobs) = mpsc::channel();
    let work = move || {
        for job in jobs {
            match job {
                Job::Note(record) => {
                    length += record.len() as u64;
                    // Without a journal nothing is believed at the next start.
                    if length > LONGEST || file.as_mut().is_some_and(|file| file.write_all(&record).is_err())
                    {
                        file = None;
                        let _ = fs::remove_file(&path);
                    }
                }
                Job::Remove(path) => _ = fs::remove_file(path),
                Job::Flush(done) => {
                    let _ = file.as_ref().map(File::sync_data);
                    let _ = done.send(());
                }
            }
        }
    };
    thread::Builder::new().name("cdn-disk".into()).spawn(work)?;
    Ok(sender)
}
