//! Servers, clients and a proxy between them.

use std::{future::pending, net::SocketAddr, time::Duration};

use buttress::{
    balance::{Policy, Retry, RoundRobin},
    cluster::{Cluster, Node},
    forward::tcp::{Connect, Socket, TcpProxy, TcpUpstream},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{BoxError, Service};

/// Longer than anything here takes, so that a hang is a failure with a name.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what).await.expect("it hangs")
}

pub(crate) async fn until(holds: impl Fn() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// A server that is played by `handler`, one task for each connection.
pub(crate) async fn serve<H, F>(handler: H) -> SocketAddr
where
    H: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (listener, addr) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handler(stream));
        }
    });
    addr
}

/// A server that says its name and then what it hears.
pub(crate) async fn echo(name: &'static str) -> SocketAddr {
    serve(move |mut stream| async move {
        let (mut reader, mut writer) = stream.split();
        if writer.write_all(name.as_bytes()).await.is_ok() {
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        }
    })
    .await
}

/// An address that refuses connections.
pub(crate) async fn nobody() -> SocketAddr {
    listen().await.1
}

pub(crate) fn cluster(nodes: &[(&'static str, SocketAddr)]) -> Cluster<TcpUpstream> {
    Cluster::new(nodes.iter().map(|(name, addr)| (Node::new(*name), TcpUpstream::from(*addr)))).unwrap()
}

/// Runs a proxy until the test is over.
pub(crate) async fn run<S>(proxy: &TcpProxy<S>) -> SocketAddr
where
    S: Service<Connect> + Clone + Send + 'static,
    S::Response: Socket,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    let (listener, addr) = listen().await;
    let proxy = proxy.clone();
    tokio::spawn(async move { proxy.serve(listener, pending()).await });
    addr
}

/// A proxy over the nodes of a cluster, in turn.
pub(crate) async fn over(cluster: &Cluster<TcpUpstream>) -> SocketAddr {
    over_by(cluster, RoundRobin).await
}

pub(crate) async fn over_by(cluster: &Cluster<TcpUpstream>, policy: impl Policy) -> SocketAddr {
    run(&TcpProxy::new(Retry::tcp(cluster.clone(), policy))).await
}

pub(crate) async fn connect(addr: SocketAddr) -> TcpStream {
    soon(TcpStream::connect(addr)).await.unwrap()
}

/// As much as `length` bytes.
pub(crate) async fn take(stream: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    soon(stream.read_exact(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// All that comes until the end.
pub(crate) async fn rest(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut heard = String::new();
    soon(stream.read_to_string(&mut heard)).await.map(|_| heard)
}

pub(crate) async fn send(stream: &mut TcpStream, text: impl AsRef<[u8]>) {
    soon(stream.write_all(text.as_ref())).await.unwrap();
}

pub(crate) fn in_flight(cluster: &Cluster<TcpUpstream>) -> u32 {
    cluster.load().iter().map(|member| member.state.in_flight()).sum()
}
