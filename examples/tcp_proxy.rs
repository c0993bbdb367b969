//! A proxy for TCP connections: three servers, one of which dies, and clients that do not notice.
//!
//! `cargo run --example tcp_proxy`

use std::{error::Error, future::pending, io, net::SocketAddr};

use buttress::{
    balance::{LeastRequest, Retry},
    cluster::{Cluster, Node},
    forward::tcp::{TcpProxy, TcpUpstream},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (alice, _alice) = server("alice").await?;
    let (bob, bob_task) = server("bob").await?;
    let (carol, _carol) = server("carol").await?;
    let node = |name: &'static str, addr: SocketAddr| (Node::new(name), TcpUpstream::from(addr));
    let cluster = Cluster::new([node("alice", alice), node("bob", bob), node("carol", carol)])?;

    // A server that cannot be connected to is passed over for the next one: it has seen nothing of the client.
    let proxy = TcpProxy::new(Retry::tcp(cluster.clone(), LeastRequest::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let front = listener.local_addr()?;
    tokio::spawn(proxy.clone().serve(listener, pending()));

    println!("{}", talk(front).await?);
    for connection in 0..300 {
        if connection == 150 {
            bob_task.abort();
        }
        talk(front).await?;
    }

    println!("\n301 connections, all answered, though bob died half-way:\n");
    println!("{:8}{:>13}{:>10}", "node", "connections", "failures");
    for member in cluster.load().iter() {
        println!("{:8}{:>13}{:>10}", member.node.id, member.state.requests(), member.state.failures());
    }
    let stats = proxy.stats();
    println!("\n{} bytes to the servers, {} bytes back", stats.up, stats.down);
    Ok(())
}

/// A server that hears a client out and then answers.
async fn server(name: &'static str) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut heard = String::new();
            if stream.read_to_string(&mut heard).await.is_ok() {
                let _ = stream.write_all(format!("{name} heard {heard:?}").as_bytes()).await;
            }
        }
    });
    Ok((addr, task))
}

/// Says something, says that this was all, and listens to the end.
async fn talk(front: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(front).await?;
    stream.write_all(b"hello").await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
