//! How connections end.

use std::{io::ErrorKind, time::Duration};

use buttress::{
    balance::{Retry, RoundRobin},
    forward::tcp::{Ending, Socket, TcpProxy, TcpUpstream},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};
use tower::Service;

use crate::support::{
    cluster, connect, echo, in_flight, listen, over, rest, run, send, serve, soon, take, until,
};

const MILLI: Duration = Duration::from_millis(1);

#[tokio::test]
async fn what_is_said_comes_back() {
    let nodes = cluster(&[("a", echo("hi ").await)]);
    let mut client = connect(over(&nodes).await).await;
    assert_eq!(take(&mut client, 3).await, "hi ");
    send(&mut client, "ping").await;
    assert_eq!(take(&mut client, 4).await, "ping");
    assert_eq!(in_flight(&nodes), 1);
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), "");
    until(|| in_flight(&nodes) == 0).await;
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut rng = buttress::rng::Rng::seeded(seed);
    (0..length / 8).flat_map(|_| rng.next_u64().to_le_bytes()).collect()
}

const LARGE: usize = 8 << 20;

/// The client says all and ends its direction; only then the server answers, and the other way round.
#[tokio::test]
async fn large_payloads_pass_half_closed_connections_whole() {
    let server = serve(|mut stream| async move {
        let mut question = Vec::new();
        stream.read_to_end(&mut question).await.unwrap();
        assert!(question == noise(LARGE, 1));
        stream.write_all(&noise(LARGE, 2)).await.unwrap();
    })
    .await;
    let mut client = connect(over(&cluster(&[("a", server)])).await).await;
    let mut answer = Vec::new();
    soon(async {
        client.write_all(&noise(LARGE, 1)).await.unwrap();
        client.shutdown().await.unwrap();
        client.read_to_end(&mut answer).await.unwrap();
    })
    .await;
    assert!(answer == noise(LARGE, 2));

    let (whole, heard) = oneshot::channel();
    let whole = std::sync::Mutex::new(Some(whole));
    let server = serve(move |mut stream| {
        let whole = whole.lock().unwrap().take().unwrap();
        async move {
            stream.write_all(&noise(LARGE, 3)).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            whole.send(rest == noise(LARGE, 4)).unwrap();
        }
    })
    .await;
    let mut client = connect(over(&cluster(&[("a", server)])).await).await;
    let mut first = Vec::new();
    soon(client.read_to_end(&mut first)).await.unwrap();
    assert!(first == noise(LARGE, 3));
    soon(client.write_all(&noise(LARGE, 4))).await.unwrap();
    drop(client);
    assert!(soon(heard).await.unwrap());
}

#[tokio::test]
async fn both_directions_carry_large_payloads_at_once() {
    let nodes = cluster(&[("a", echo("").await)]);
    let client = connect(over(&nodes).await).await;
    let (mut reader, mut writer) = client.into_split();
    let write = async move {
        writer.write_all(&noise(LARGE, 5)).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let ((), read) = soon(async { tokio::join!(write, reader.read_to_end(&mut heard)) }).await;
    read.unwrap();
    assert!(heard == noise(LARGE, 5));
}

/// A proxy for one connection, whose ending it tells; the client, and the server's end.
async fn one(
    configure: impl FnOnce(TcpProxy<TcpUpstream>) -> TcpProxy<TcpUpstream>,
) -> (TcpStream, tokio::task::JoinHandle<buttress::forward::tcp::Traffic>, TcpStream) {
    let (behind, server) = listen().await;
    let mut proxy = configure(TcpProxy::new(TcpUpstream::from(server)));
    let (front, addr) = listen().await;
    let client = connect(addr).await;
    let (accepted, _) = soon(front.accept()).await.unwrap();
    let traffic = tokio::spawn(async move { proxy.call(accepted).await.unwrap() });
    let (server, _) = soon(behind.accept()).await.unwrap();
    (client, traffic, server)
}

async fn is_reset(stream: &mut TcpStream) -> bool {
    rest(stream).await.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn a_silent_connection_is_reset() {
    let (mut client, traffic, mut server) = one(|proxy| proxy.idle_timeout(50 * MILLI)).await;
    send(&mut client, "x").await;
    assert!(matches!(soon(traffic).await.unwrap().ending, Ending::Idle(_)));
    assert!(is_reset(&mut client).await);
    assert_eq!(take(&mut server, 1).await, "x");
    assert!(is_reset(&mut server).await);
}

#[tokio::test]
async fn a_half_closed_connection_is_bounded_too() {
    let (mut client, traffic, mut server) = one(|proxy| proxy.half_close_timeout(50 * MILLI)).await;
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut server).await.unwrap(), "");
    let traffic = soon(traffic).await.unwrap();
    assert!(matches!(traffic.ending, Ending::HalfClosed(_)), "{traffic:?}");
    assert!(is_reset(&mut client).await, "it was told nothing of an end");
}

#[tokio::test]
async fn a_reset_goes_through_to_the_other_side() {
    let (mut client, traffic, server) = one(|proxy| proxy).await;
    send(&mut client, "question").await;
    let mut server = server;
    take(&mut server, 8).await;
    send(&mut server, "half an ans").await;
    assert_eq!(take(&mut client, 11).await, "half an ans");
    server.reset();
    drop(server);
    assert!(is_reset(&mut client).await, "it must not take the half for the whole");
    let traffic = soon(traffic).await.unwrap();
    assert!(matches!(traffic.ending, Ending::Server(_)), "{traffic:?}");
    assert_eq!((traffic.up, traffic.down), (8, 11));

    let (mut client, traffic, mut server) = one(|proxy| proxy).await;
    send(&mut client, "half a quest").await;
    take(&mut server, 12).await;
    client.reset();
    drop(client);
    assert!(is_reset(&mut server).await);
    assert!(matches!(soon(traffic).await.unwrap().ending, Ending::Client(_)));
}

#[tokio::test]
async fn a_client_that_vanishes_frees_its_place() {
    let nodes =
        cluster(&[("a", serve(|stream| async move { drop((stream.readable().await, stream)) }).await)]);
    let proxy = TcpProxy::new(Retry::tcp(nodes.clone(), RoundRobin)).half_close_timeout(50 * MILLI);
    let addr = run(&proxy).await;
    for vanish in [false, true] {
        let mut client = connect(addr).await;
        until(|| in_flight(&nodes) == 1).await;
        if vanish {
            client.reset();
        }
        drop(client);
        until(|| in_flight(&nodes) == 0 && proxy.stats().open == 0).await;
    }
    assert_eq!(proxy.stats().connections, 2);
}

#[tokio::test]
async fn draining_lets_connections_end() {
    let nodes = cluster(&[("a", echo("").await)]);
    let proxy = TcpProxy::new(Retry::tcp(nodes.clone(), RoundRobin));
    let (listener, addr) = listen().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(proxy.clone().serve(listener, async { drop(stopped.await) }));
    let mut client = connect(addr).await;
    send(&mut client, "a").await;
    take(&mut client, 1).await;
    stop.send(()).unwrap();
    soon(async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    send(&mut client, "still there").await;
    assert_eq!(take(&mut client, 11).await, "still there");
    assert!(!served.is_finished());
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), "");
    assert_eq!(soon(served).await.unwrap(), 0);
    assert_eq!((in_flight(&nodes), proxy.stats().open), (0, 0));
}

#[tokio::test]
async fn draining_has_an_end() {
    let nodes = cluster(&[("a", echo("").await)]);
    let proxy = TcpProxy::new(Retry::tcp(nodes.clone(), RoundRobin)).drain_timeout(20 * MILLI);
    let (listener, addr) = listen().await;
    let mut clients = [connect(addr).await, connect(addr).await];
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(proxy.clone().serve(listener, async { drop(stopped.await) }));
    for client in &mut clients {
        send(client, "a").await;
        take(client, 1).await;
    }
    stop.send(()).unwrap();
    assert_eq!(soon(served).await.unwrap(), 2);
    for client in &mut clients {
        assert!(is_reset(client).await);
    }
    assert_eq!((in_flight(&nodes), proxy.stats().open), (0, 0));
}

#[tokio::test]
async fn bytes_are_counted_both_ways() {
    let nodes = cluster(&[("a", echo("hello").await)]);
    let proxy = TcpProxy::new(Retry::tcp(nodes, RoundRobin));
    let mut client = connect(run(&proxy).await).await;
    send(&mut client, "abc").await;
    assert_eq!(take(&mut client, 8).await, "helloabc");
    until(|| proxy.stats().down == 8).await;
    let stats = proxy.stats();
    assert_eq!((stats.open, stats.connections, stats.up), (1, 1, 3));
}
