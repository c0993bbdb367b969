//! The example as a process, as its users start it.

use std::{env, fs, net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
    time::{sleep, timeout},
};

use crate::stage::PATIENCE;

struct Gateway {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Gateway {
    fn start(arguments: &[&str]) -> Self {
        let mut child =
            Command::new(binary()).args(arguments).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The rest of the next line that begins like this.
    async fn line(&mut self, prefix: &str) -> String {
        let wait = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("it says more");
                if let Some(rest) = line.strip_prefix(prefix) {
                    return rest.to_owned();
                }
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("it does not say {prefix:?}"))
    }
}

/// Cargo puts examples beside the folder of the test executables.
fn binary() -> PathBuf {
    let mut path = env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    let binary = path.join("cdn").with_extension(env::consts::EXE_EXTENSION);
    assert!(binary.is_file(), "no binary: run `cargo build --example cdn`");
    binary
}

/// An origin that answers each connection once, with this.
async fn origin(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                assert!(stream.read(&mut head).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    addr
}

/// All that comes in answer to a request.
async fn ask(addr: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(format!("{request}host: a.test\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("it answers").unwrap();
    answer
}

#[tokio::test]
async fn it_stands_in_front_of_an_origin_and_stops_when_told() {
    let origin = origin(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 5\r\n\r\nhello",
    )
    .await;
    let mut gateway = Gateway::start(&["--listen", "127.0.0.1:0", "--origin", &format!("http://{origin}")]);
    let addr = gateway.line("listening on http://").await;
    let first = ask(&addr, "GET / HTTP/1.1\r\n").await;
    assert!(first.starts_with("HTTP/1.1 103 ") && first.contains("\r\nHTTP/1.1 200 "), "{first}");
    assert!(first.contains("fwd=") && first.ends_with("hello"), "{first}");
    sleep(Duration::from_millis(20)).await;
    let second = ask(&addr, "GET / HTTP/1.1\r\n").await;
    assert!(second.starts_with("HTTP/1.1 200 ") && second.contains("; hit"), "{second}");

    let pid = gateway.child.id().unwrap().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    let ended = timeout(PATIENCE, gateway.child.wait()).await.expect("it ends").unwrap();
    assert!(ended.success());
}

#[tokio::test]
async fn without_an_origin_it_shows_what_it_does() {
    let mut gateway = Gateway::start(&["--listen", "127.0.0.1:0"]);
    let again = gateway.line("again").await;
    assert!(again.contains("; hit"), "{again}");
    gateway.line("fetched meanwhile").await;
}

#[tokio::test]
async fn every_setting_can_be_set() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/cdn/cdn.toml")).unwrap();
    let origin = origin("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
    // What is not said holds by default: said, it must be understood too.
    let text = text.replace("#= ", "").replace("http://127.0.0.1:9000", &format!("http://{origin}"));
    let text = text.replace(":8080\"", ":0\"").replace(":8081\"", ":0\"");
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cdn.toml");
    fs::write(&file, text).unwrap();
    let mut gateway = Gateway::start(&["--config", file.to_str().unwrap()]);
    let addr = gateway.line("listening on http://").await;
    assert!(ask(&addr, "GET / HTTP/1.1\r\n").await.ends_with("hello"));
    let admin = gateway.line("statistics and purges on http://").await;
    let stats = ask(&admin, "GET /stats HTTP/1.1\r\n").await;
    assert!(stats.contains("\"misses\":1"), "{stats}");
    let denied = ask(&admin, "PURGE / HTTP/1.1\r\n").await;
    assert!(denied.starts_with("HTTP/1.1 401 "), "{denied}");
    let token = "authorization: Bearer replace-me-by-something-random";
    let purged = ask(&admin, &format!("PURGE / HTTP/1.1\r\n{token}\r\n")).await;
    assert!(purged.starts_with("HTTP/1.1 200 "), "{purged}");
}

#[tokio::test]
async fn mistakes_are_named() {
    for (arguments, says) in [
        (&["--origin"][..], "--origin wants a value"),
        (&["--origni", "x"], "\"--origni\" is no option"),
        (&["--listen", "8080"], "--listen \"8080\""),
        (&["--config", "/no/such/file"], "/no/such/file"),
        (&["--origin", "ftp://a"], "ftp"),
    ] {
        let output =
            timeout(PATIENCE, Command::new(binary()).args(arguments).output()).await.unwrap().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && complaint.contains(says), "{arguments:?}: {complaint}");
        assert!(!complaint.contains("panicked"), "{complaint}");
    }
}
