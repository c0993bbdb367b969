//! Traces: requests in their order, from files.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

/// Requests in their order.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) name: String,
    pub(crate) keys: Vec<u64>,
    /// Of each request, in bytes; empty where the trace does not tell.
    sizes: Vec<u32>,
    /// Of each request, the number of its key: keys are counted from 0 in the order of their first request.
    pub(crate) numbers: Vec<u32>,
    pub(crate) distinct: u64,
    /// The sizes of all keys, each as at its first request.
    pub(crate) distinct_bytes: u64,
}

impl Trace {
    /// A trace without sizes.
    ///
    /// # Errors
    /// There are more requests than a `u32` counts, or none.
    pub(crate) fn new(name: &str, keys: Vec<u64>) -> Result<Self, String> {
        Self::sized(name, keys, Vec::new())
    }

    fn sized(name: &str, keys: Vec<u64>, sizes: Vec<u32>) -> Result<Self, String> {
        if keys.is_empty() {
            return Err("no request in it".into());
        }
        if u32::try_from(keys.len()).is_err() {
            return Err(format!("{} requests are more than 2^32", keys.len()));
        }
        let (mut known, mut distinct_bytes) = (HashMap::new(), 0);
        let mut numbers = Vec::with_capacity(keys.len());
        for (i, key) in keys.iter().enumerate() {
            let next = u32::try_from(known.len()).expect("no more keys than requests");
            numbers.push(*known.entry(*key).or_insert_with(|| {
                distinct_bytes += sizes.get(i).map_or(1, |size| u64::from(*size));
                next
            }));
        }
        Ok(Self { name: name.to_owned(), sizes, numbers, distinct: known.len() as u64, distinct_bytes, keys })
    }

    pub(crate) fn has_sizes(&self) -> bool {
        !self.sizes.is_empty()
    }

    /// Every request: its key, and its size or 1.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (u64, u32)> {
        self.keys.iter().enumerate().map(|(i, key)| (*key, self.sizes.get(i).map_or(1, |size| *size)))
    }
}

/// Reads a trace in one of the formats that its name can tell.
pub(crate) fn read(file: &Path) -> Result<Trace, String> {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (plain, compressed) = match name.strip_suffix(".zst") {
        Some(plain) => (plain, true),
        None => (name.as_str(), false),
    };
    let (stem, width) = if let Some(stem) = plain.strip_suffix(".kv64") {
        (stem, 16)
    } else if let Some(stem) = plain.strip_suffix(".u64") {
        (stem, 8)
    } else {
        return Err("unknown kind of trace: names end in .u64, .kv64, .u64.zst or .kv64.zst".into());
    };
    let mut input = BufReader::new(File::open(file).map_err(|error| format!("cannot be opened: {error}"))?);
    let mut bytes = Vec::new();
    if compressed {
        zstd::Decoder::with_buffer(input)
            .and_then(|mut input| input.read_to_end(&mut bytes))
            .map_err(|error| format!("cannot be decompressed, it is damaged or cut short: {error}"))?;
    } else {
        input.read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    }
    if bytes.len() % width != 0 {
        return Err(format!("cut short: {} bytes are no whole number of records of {width}", bytes.len()));
    }
    let (words, _) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    if width == 8 {
        return Trace::new(stem, words.collect());
    }
    let (mut keys, mut sizes) = (Vec::new(), Vec::new());
    for (i, word) in words.enumerate() {
        if i % 2 == 0 {
            keys.push(word);
        } else {
            let size = u32::try_from(word)
                .map_err(|_| format!("request {}: a size of {word} is above 4 GiB", i / 2))?;
            // A weight of 0 means "keep it whatever comes" to some.
            sizes.push(size.max(1));
        }
    }
    Trace::sized(stem, keys, sizes)
}
