//! How it ends.

use hyper::{Request, Response, body::Incoming};
use tokio::net::TcpStream;

use crate::{
    process::Gateway,
    support::{Raw, channel, data, serve, serve_raw, soon},
};

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A server whose answer goes on when `sender` says so.
async fn slow() -> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedSender<&'static str>) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
    let receiver = std::sync::Arc::new(tokio::sync::Mutex::new(receiver));
    let addr = serve(move |_: Request<Incoming>| {
        let receiver = std::sync::Arc::clone(&receiver);
        async move {
            let (frames, body) = channel();
            frames.send(data("begin ")).unwrap();
            tokio::spawn(async move {
                while let Some(word) = receiver.lock().await.recv().await {
                    frames.send(data(word)).ok();
                    if word == "end" {
                        break;
                    }
                }
            });
            Response::new(body)
        }
    })
    .await;
    (addr, sender)
}

async fn refused(addr: std::net::SocketAddr) {
    soon(async { while TcpStream::connect(addr).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_download_is_finished_and_newcomers_are_refused() {
    for signal in ["TERM", "INT"] {
        let (server, words) = slow().await;
        let mut gateway = Gateway::before(&[server]).await;
        let mut idle = Raw::connect(gateway.addr).await;
        let mut client = Raw::connect(gateway.addr).await;
        client.send(ASK).await;
        client.until("begin ").await.unwrap();
        gateway.signal(signal).await;
        refused(gateway.addr).await;
        assert_eq!(idle.rest().await, "", "closed");
        // It still tells how it is getting on.
        assert_eq!(gateway.status().await["totals"]["in_flight"], 1);
        words.send("middle ").unwrap();
        client.until("middle ").await.unwrap();
        words.send("end").unwrap();
        assert!(client.rest().await.contains("end"));
        assert_eq!(gateway.exit_code().await, Some(0));
    }
}

#[tokio::test]
async fn a_tunnel_is_waited_for() {
    let server = serve_raw(|mut connection| async move {
        connection.head().await;
        connection
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        connection.until("bye").await.unwrap();
        connection.send("bye").await;
    })
    .await;
    let mut gateway = Gateway::before(&[server]).await;
    let mut client = Raw::connect(gateway.addr).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    client.head().await;
    gateway.signal("TERM").await;
    refused(gateway.addr).await;
    client.send("bye").await;
    assert_eq!(client.rest().await, "bye");
    drop(client);
    assert_eq!(gateway.exit_code().await, Some(0));
}

#[tokio::test]
async fn patience_ends_with_the_drain_timeout() {
    let (server, _words) = slow().await;
    let mut gateway = Gateway::with(&format!(
        "timeouts.drain = \"100ms\"\n[[upstream]]\nid = \"a\"\nurl = \"http://{server}\"\n"
    ))
    .await;
    let mut client = Raw::connect(gateway.addr).await;
    client.send(ASK).await;
    client.until("begin ").await.unwrap();
    gateway.signal("TERM").await;
    assert_eq!(gateway.exit_code().await, Some(1));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (server, _words) = slow().await;
    let mut gateway = Gateway::before(&[server]).await;
    let mut client = Raw::connect(gateway.addr).await;
    client.send(ASK).await;
    client.until("begin ").await.unwrap();
    gateway.signal("TERM").await;
    refused(gateway.addr).await;
    gateway.signal("TERM").await;
    assert_eq!(gateway.exit_code().await, Some(1));
}
