//! How an object lies in a file.
//!
//! | bytes | |
//! |---|---|
//! | | the body |
//! | | perhaps older tails |
//! | n | the head, as postcard |
//! | 8 each | a checksum for each 64 KiB of the body |
//! | 40 | the footer: lengths of body and head, the number of the last purge before the fetch, a checksum of head, checksums and footer, magic |
//!
//! The tail is written last and says whether all of it is there. What is torn or damaged is not found.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use crate::cdn::{key::Key, policy::Record};

/// What one checksum is for.
pub(super) const BLOCK: usize = 64 << 10;
const FOOTER: usize = 40;
const MAGIC: [u8; 8] = *b"bcdnobj1";
/// No head is longer.
const HEAD: u64 = 4 << 20;

/// How many bytes of tails that nobody reads any more a file may have in any case.
const OLD_TAILS: u64 = 1 << 20;

/// What is kept with a body.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    key: Vec<u8>,
    path: u32,
    url: u32,
    pub(super) record: Record,
}

impl Head {
    pub(super) fn new(key: &Key, record: Record) -> Self {
        let (key, path, url) = key.to_parts();
        Self { key: key.to_vec(), path, url, record }
    }

    pub(super) fn key(&self) -> Option<Key> {
        Key::from_parts(Bytes::copy_from_slice(&self.key), self.path, self.url)
    }
}

/// What the end of a file says.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) head: Head,
    pub(super) body: u64,
    pub(super) began: u64,
    pub(super) sums: Arc<[u64]>,
    /// The length of the file.
    pub(super) file: u64,
}

/// Writes a file from the chunks of a body, one after the other.
pub(super) struct Writer {
    file: BufWriter<File>,
    sums: Vec<u64>,
    sum: Xxh3Default,
    /// How many bytes the last checksum covers.
    open: usize,
    body: u64,
}

impl Writer {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let file = BufWriter::with_capacity(BLOCK, file);
        Ok(Self { file, sums: Vec::new(), sum: Xxh3Default::new(), open: 0, body: 0 })
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.body += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.open));
            self.sum.update(now);
            self.open += now.len();
            bytes = later;
            if self.open == BLOCK {
                self.end_block();
            }
        }
        Ok(())
    }

    fn end_block(&mut self) {
        self.sums.push(self.sum.digest());
        self.sum.reset();
        self.open = 0;
    }

    /// Writes the tail.
    pub(super) fn finish(mut self, head: Head, began: u64) -> io::Result<Tail> {
        if self.open > 0 {
            self.end_block();
        }
        let tail = encode(&head, &self.sums, self.body, began)?;
        self.file.write_all(&tail)?;
        self.file.into_inner()?;
        let file = self.body + tail.len() as u64;
        Ok(Tail { head, body: self.body, began, sums: self.sums.into(), file })
    }
}

/// Puts another head behind a body, unless older ones take more than that has and [`OLD_TAILS`].
pub(super) fn append(path: &Path, head: Head, old: (&Arc<[u64]>, u64), began: u64) -> io::Result<Tail> {
    let (sums, body) = old;
    let tail = encode(&head, sums, body, began)?;
    let mut file = OpenOptions::new().append(true).open(path)?;
    if file.metadata()?.len() > body.saturating_mul(2).saturating_add(OLD_TAILS) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    file.write_all(&tail)?;
    let file = file.metadata()?.len();
    Ok(Tail { head, body, began, sums: Arc::clone(sums), file })
}

fn encode(head: &Head, sums: &[u64], body: u64, began: u64) -> io::Result<Vec<u8>> {
    let mut tail = postcard::to_stdvec(head).map_err(io::Error::other)?;
    let head = tail.len() as u64;
    if head > HEAD {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the head is too long"));
    }
    tail.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
    tail.extend([body, head, began].iter().flat_map(|number| number.to_le_bytes()));
    let sum = xxh3_64(&tail);
    tail.extend_from_slice(&sum.to_le_bytes());
    tail.extend_from_slice(&MAGIC);
    Ok(tail)
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file is damaged")
}

/// Reads the end of a file.
pub(super) fn read_tail(file: &mut File) -> io::Result<Tail> {
    let length = file.seek(SeekFrom::End(0))?;
    let start = length.checked_sub(FOOTER as u64).ok_or_else(damaged)?;
    let mut footer = [0; FOOTER];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut footer)?;
    let number = |at: usize| footer[at..at + 8].try_into().map(u64::from_le_bytes).map_err(|_| damaged());
    let (body, head, began, expected) = (number(0)?, number(8)?, number(16)?, number(24)?);
    if footer[32..] != MAGIC || body > length || head > HEAD {
        return Err(damaged());
    }
    let sums = body.div_ceil(BLOCK as u64) * 8;
    let first = start.checked_sub(head + sums).filter(|first| *first >= body).ok_or_else(damaged)?;
    let mut tail = vec![0; usize::try_from(length - 16 - first).map_err(|_| damaged())?];
    file.seek(SeekFrom::Start(first))?;
    file.read_exact(&mut tail)?;
    if xxh3_64(&tail) != expected {
        return Err(damaged());
    }
    let (head, rest) = tail.split_at(usize::try_from(head).map_err(|_| damaged())?);
    let sums =
        rest[..rest.len() - 24].chunks_exact(8).filter_map(|sum| sum.try_into().ok().map(u64::from_le_bytes));
    let head = postcard::from_bytes(head).map_err(|_| damaged())?;
    Ok(Tail { head, body, began, sums: sums.collect(), file: length })
}

/// Reads bytes of a body from `at` on, at least one and no more than up to `end` and through as many blocks, and checks them.
pub(super) fn read_body(
    file: &mut File,
    sums: &[u64],
    length: u64,
    at: u64,
    end: u64,
    blocks: usize,
) -> io::Result<Bytes> {
    let block = BLOCK as u64;
    let first = at / block;
    let end = end.min(length).min((first + blocks as u64) * block);
    let (start, stop) = (first * block, end.next_multiple_of(block).min(length));
    if at >= end {
        return Err(damaged());
    }
    let short = |bytes: u64| usize::try_from(bytes).map_err(|_| damaged());
    let mut bytes = BytesMut::zeroed(short(stop - start)?);
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut bytes)?;
    let sums = sums.get(short(first)?..).unwrap_or_default();
    let is_good = bytes.chunks(BLOCK).enumerate().all(|(n, bytes)| sums.get(n) == Some(&xxh3_64(bytes)));
    if !is_good {
        return Err(damaged());
    }
    Ok(bytes.freeze().slice(short(at - start)?..short(end - start)?))
}
