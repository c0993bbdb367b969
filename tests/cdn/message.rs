//! HTTP/1.1 messages as they are on the wire, written and read by hand so that they may be wrong.

use std::{fmt, io, str};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Fields in their order, with their bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(pub(crate) Vec<(String, Vec<u8>)>);

impl Fields {
    /// All lines of a field as one list.
    pub(crate) fn get(&self, name: &str) -> Option<Vec<u8>> {
        let lines: Vec<_> = self.lines(name).collect();
        (!lines.is_empty()).then(|| lines.join(&b", "[..]))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.lines(name).next().is_some()
    }

    fn lines(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| &value[..])
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.0 {
            out.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| write!(f, " | {name}: {}", String::from_utf8_lossy(value)))
    }
}

/// A message that was read.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The request line or the status line.
    pub(crate) start: String,
    pub(crate) fields: Fields,
    /// What came of the body, and whether it came to its end.
    pub(crate) body: Vec<u8>,
    pub(crate) is_whole: bool,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{} {:?}", self.start, self.fields, String::from_utf8_lossy(&self.body))
    }
}

/// Reads a head. `None` at the end of the connection.
pub(crate) async fn read_head(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Message>> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if from.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        match line.trim_ascii_end() {
            [] if lines.is_empty() => {}
            [] => break,
            line => lines.push(line.to_vec()),
        }
    }
    let field = |line: &Vec<u8>| {
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        (String::from_utf8_lossy(&line[..colon]).to_lowercase(), value.trim_ascii().to_vec())
    };
    let fields = Fields(lines[1..].iter().map(field).collect());
    let start = String::from_utf8_lossy(&lines[0]).into_owned();
    Ok(Some(Message { start, fields, body: Vec::new(), is_whole: true }))
}

/// Reads the body that belongs to a head.
pub(crate) async fn read_body(
    from: &mut (impl AsyncBufRead + Unpin),
    message: &mut Message,
    until_close: bool,
) {
    let fields = &message.fields;
    let chunked = fields.get("transfer-encoding").is_some_and(|coding| coding == b"chunked");
    let length = fields.get("content-length").and_then(|length| str::from_utf8(&length).ok()?.parse().ok());
    let read = match length {
        _ if chunked => read_chunks(from, &mut message.body).await,
        Some(length) => read_exactly(from, length, &mut message.body).await,
        None if until_close => from.read_to_end(&mut message.body).await.map(drop),
        None => Ok(()),
    };
    message.is_whole = read.is_ok();
}

async fn read_exactly(
    from: &mut (impl AsyncBufRead + Unpin),
    length: u64,
    body: &mut Vec<u8>,
) -> io::Result<()> {
    let read = from.take(length).read_to_end(body).await?;
    if read as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn read_chunks(from: &mut (impl AsyncBufRead + Unpin), body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line).await?;
        let size = u64::from_str_radix(line.trim_end(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        read_exactly(from, size, body).await?;
        read_exactly(from, 2, &mut Vec::new()).await?;
        if size == 0 {
            return Ok(());
        }
    }
}
