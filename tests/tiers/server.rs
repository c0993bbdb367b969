//! A real Redis (or Valkey) server of our own: on a free loopback port, with nothing kept.

use std::{
    env,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::support::Folder;

const NAMES: [&str; 2] = ["redis-server", "valkey-server"];
const STEP: Duration = Duration::from_millis(10);

pub(crate) struct Server {
    folder: Folder,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// # Panics
    /// If there is no server to start: these tests are nothing without it.
    pub(crate) fn start() -> Self {
        let mut server = Self { folder: Folder::new(), port: free_port(), child: None };
        // Somebody else may take the port in between.
        for _ in 0..10 {
            if server.launch() {
                return server;
            }
            server.port = free_port();
        }
        panic!("the Redis server does not start: {}", server.log());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again on the same port, with nothing in it.
    pub(crate) fn revive(&mut self) {
        for _ in 0..50 {
            if self.launch() {
                return;
            }
            thread::sleep(STEP);
        }
        panic!("the Redis server does not start again: {}", self.log());
    }

    /// Makes it stand still: it accepts connections, and answers nothing.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// The reply to one command, as the server sends it.
    pub(crate) fn tell(&self, command: &[&[u8]]) -> Vec<u8> {
        ask(self.port, command).expect("the server does not answer")
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Whether it came up.
    fn launch(&mut self) -> bool {
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let mut child = Command::new(executable())
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .arg("--dir")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("the Redis server can be run");
        for _ in 0..1000 {
            if ask(self.port, &[b"PING"]).is_some_and(|reply| reply == b"+PONG\r\n") {
                // Not another one that was there before.
                if child.try_wait().unwrap().is_none() {
                    self.child = Some(child);
                    return true;
                }
            }
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            thread::sleep(STEP);
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Also when it is paused.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn executable() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian keeps servers in /usr/sbin at times, which is not on everybody's PATH.
    let folders: Vec<_> = env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]).collect();
    let mut candidates = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.find(|file| file.is_file()).expect(
        "these tests need a Redis server and there is no redis-server or valkey-server on the PATH: run scripts/test, \
         which installs it, or `apt-get install redis-server`",
    )
}

/// One command on a connection of its own.
fn ask(port: u16, command: &[&[u8]]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for part in command {
        bytes.extend(format!("${}\r\n", part.len()).into_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    stream.write_all(&bytes).ok()?;
    // It closes when we do: until then there is no end to read to.
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).ok()?;
    (!reply.is_empty()).then_some(reply)
}
