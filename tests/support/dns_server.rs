//! A DNS server with a script: answers over UDP, encoded by hand (RFC 1035, section 4).

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{net::UdpSocket, task::JoinHandle};

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;

/// How a name is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// With records of one kind, or the code of an error.
    Message { kind: u16, code: u8, ttl: u32, records: Vec<Vec<u8>> },
    /// Not at all.
    Silence,
}

impl Reply {
    pub(crate) fn a(ttl: u32, ips: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let records = ips.into_iter().map(|ip| ip.octets().to_vec()).collect();
        Self::Message { kind: A, code: NO_ERROR, ttl, records }
    }

    pub(crate) fn aaaa(ttl: u32, ips: impl IntoIterator<Item = Ipv6Addr>) -> Self {
        let records = ips.into_iter().map(|ip| ip.octets().to_vec()).collect();
        Self::Message { kind: AAAA, code: NO_ERROR, ttl, records }
    }

    /// Priority, weight, port and host.
    pub(crate) fn srv(ttl: u32, records: &[(u16, u16, u16, &str)]) -> Self {
        let encode = |&(priority, weight, port, host): &(u16, u16, u16, &str)| {
            let mut record = [priority, weight, port].map(u16::to_be_bytes).concat();
            for label in host.split('.').filter(|label| !label.is_empty()) {
                record.push(u8::try_from(label.len()).expect("a short label"));
                record.extend(label.as_bytes());
            }
            record.push(0);
            record
        };
        Self::Message { kind: SRV, code: NO_ERROR, ttl, records: records.iter().map(encode).collect() }
    }

    pub(crate) fn server_failure() -> Self {
        Self::Message { kind: A, code: SERVER_FAILURE, ttl: 0, records: Vec::new() }
    }

    pub(crate) fn no_such_name() -> Self {
        Self::Message { kind: A, code: NO_SUCH_NAME, ttl: 0, records: Vec::new() }
    }

    fn kind(&self) -> u16 {
        match self {
            Self::Message { kind, .. } => *kind,
            Self::Silence => A,
        }
    }
}

type Script = Arc<Mutex<HashMap<(String, u16), Reply>>>;

/// Runs until dropped.
pub(crate) struct Server {
    address: SocketAddr,
    script: Script,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await?;
        let address = socket.local_addr()?;
        let script = Script::default();
        let task = tokio::spawn(serve(socket, Arc::clone(&script)));
        Ok(Self { address, script, task })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets how questions for `name` and this kind of record are answered. Others learn that there is no such record.
    pub(crate) fn set(&self, name: &str, reply: Reply) {
        self.script.lock().expect("no panic").insert((name.to_owned(), reply.kind()), reply);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, script: Script) {
    let mut buffer = [0; 4096];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        let query = &buffer[..length];
        let Some((name, kind, end)) = question(query) else { continue };
        let reply = script.lock().expect("no panic").get(&(name, kind)).cloned();
        let none = Reply::Message { kind, code: NO_ERROR, ttl: 0, records: Vec::new() };
        if let Reply::Message { code, ttl, records, .. } = reply.unwrap_or(none) {
            let answer = answer(query, end, kind, code, ttl, &records);
            let _ = socket.send_to(&answer, client).await;
        }
    }
}

/// The name and kind that are asked for, and where the question ends.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let mut at = 12;
    let mut name = String::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        name.push_str(std::str::from_utf8(query.get(at..at + length)?).ok()?);
        name.push('.');
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    Some((name.to_ascii_lowercase(), kind, at + 4))
}

fn answer(query: &[u8], end: usize, kind: u16, code: u8, ttl: u32, records: &[Vec<u8>]) -> Vec<u8> {
    let count = |number: usize| u16::try_from(number).expect("a short answer").to_be_bytes();
    let mut message = query[..2].to_vec();
    // A response; recursion was desired and is available.
    message.extend([0x81, 0x80 | code]);
    for number in [1, records.len(), 0, 0] {
        message.extend(count(number));
    }
    message.extend(&query[12..end]);
    for record in records {
        // The name: see the question.
        message.extend([0xc0, 12]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend(count(record.len()));
        message.extend(record);
    }
    message
}
