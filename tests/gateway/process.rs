//! The gateway as a process.

use std::{
    env, fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Output, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

use crate::support::{BoxBody, empty, full, http1, soon};

/// A gateway that runs until it is dropped.
pub(crate) struct Gateway {
    pub(crate) addr: SocketAddr,
    /// Where it speaks TLS, if it does.
    pub(crate) tls: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) lines: mpsc::UnboundedReceiver<String>,
    child: Child,
}

impl Gateway {
    /// Starts it on free ports.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::spawn(command().args(arguments)).await
    }

    /// Starts it where this file holds the certificates that the system trusts.
    pub(crate) async fn start_trusting(roots: &File, arguments: &[&str]) -> Self {
        Self::spawn(command().args(arguments).env("SSL_CERT_FILE", roots.path())).await
    }

    async fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, mut lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                sender.send(line).ok();
            }
        });
        let mut line = async || soon(lines.recv()).await.expect("it prints its addresses");
        let addr = address(&line().await, "gateway  http://").unwrap();
        let mut next = line().await;
        let tls = address(&next, "gateway  https://");
        if tls.is_some() {
            next = line().await;
        }
        let admin = address(&next, "admin    http://").unwrap();
        Self { addr, tls, admin, lines, child }
    }

    /// Starts it in front of these servers.
    pub(crate) async fn before(servers: &[SocketAddr]) -> Self {
        let arguments: Vec<_> = servers.iter().map(|addr| format!("--upstream=http://{addr}")).collect();
        Self::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// Starts it with a file of this text.
    pub(crate) async fn with(config: &str) -> Self {
        let file = File::new(config);
        Self::start(&["--config", file.path()]).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = send(self.addr, Request::get(path).header("host", "a").body(empty()).unwrap()).await;
        (answer.status().as_u16(), text(answer).await)
    }

    pub(crate) async fn status(&self) -> Value {
        let request = Request::get("/status").header("host", "a").body(empty()).unwrap();
        serde_json::from_str(&text(send(self.admin, request).await).await).unwrap()
    }

    /// What the status says of one node.
    pub(crate) async fn node(&self, id: impl ToString) -> Value {
        let id = id.to_string();
        let status = self.status().await;
        let nodes = status["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["id"] == id).cloned().unwrap_or(Value::Null)
    }

    /// Sends a command to the admin port.
    pub(crate) async fn command(&self, method: &str, path: &str, body: &'static str) -> u16 {
        let request =
            Request::builder().method(method).uri(path).header("host", "a").body(full(body)).unwrap();
        send(self.admin, request).await.status().as_u16()
    }

    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().await.unwrap();
        assert!(sent.success());
    }

    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        soon(self.child.wait()).await.unwrap().code()
    }
}

/// Runs it to its end, which comes soon: with arguments that make no sense.
pub(crate) async fn run(arguments: &[&str]) -> Output {
    soon(command().args(arguments).output()).await.unwrap()
}

/// Sends a request on a connection of its own.
pub(crate) async fn send(addr: SocketAddr, request: Request<BoxBody>) -> Response<Incoming> {
    soon(http1(addr).await.send_request(request)).await.unwrap()
}

pub(crate) async fn text(answer: Response<Incoming>) -> String {
    let body = soon(answer.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// A file that is gone when dropped.
pub(crate) struct File(PathBuf);

impl File {
    pub(crate) fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("gateway-test-{}-{}.toml", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

/// The binary stands beside the directory of the tests.
fn command() -> Command {
    let tests = env::current_exe().unwrap();
    let binary = tests.ancestors().nth(2).unwrap().join("examples/gateway");
    assert!(binary.exists(), "{} is missing: run `cargo build --examples` first", binary.display());
    let mut command = Command::new(binary);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn address(line: &str, label: &str) -> Option<SocketAddr> {
    let addr = line.strip_prefix(label)?.trim_end_matches("/status");
    Some(addr.parse().unwrap_or_else(|_| panic!("{line}")))
}
