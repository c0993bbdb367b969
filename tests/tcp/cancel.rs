//! Counts are right wherever a connection is given up.

use std::time::Duration;

use buttress::{
    balance::{IpHash, Policy, Retry, RoundRobin},
    cluster::Cluster,
    forward::tcp::{Socket, TcpProxy, TcpUpstream},
    rng::Rng,
};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet, time::sleep};
use tower::Service;

use crate::support::{cluster, connect, echo, in_flight, listen, nobody, run, soon, take, until};

/// 500 clients at once, each of which leaves at some point, politely or not; a node dies and another is taken out meanwhile.
async fn storm(policy: impl Policy) {
    let nodes = cluster(&[
        ("a", echo("a").await),
        ("b", echo("b").await),
        ("c", echo("c").await),
        ("dead", nobody().await),
    ]);
    let proxy = TcpProxy::new(Retry::tcp(nodes.clone(), policy));
    let addr = run(&proxy).await;
    let mut clients = JoinSet::new();
    for seed in 0..500 {
        clients.spawn(async move {
            let mut rng = Rng::seeded(seed);
            let Ok(mut stream) = TcpStream::connect(addr).await else { return };
            if rng.below(2) == 0 {
                stream.reset();
            }
            for _ in 0..rng.below(4) {
                sleep(Duration::from_micros(rng.next_u64() % 3000)).await;
                let _ = stream.write_all(&vec![7; rng.below(200_000)]).await;
            }
            if rng.below(3) == 0 {
                let _ = stream.shutdown().await;
            }
        });
    }
    sleep(Duration::from_millis(5)).await;
    nodes.remove("c");
    soon(clients.join_all()).await;
    // Those in front of it in the backlog have been accepted then.
    take(&mut connect(addr).await, 1).await;
    until(|| in_flight(&nodes) == 0 && proxy.stats().open == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_clients_that_leave_at_random_leave_nothing_behind() {
    storm(RoundRobin).await;
    storm(IpHash::new()).await;
}

/// Drops the proxy's futures themselves, at every stage: before the first poll, while connecting, in the tunnel.
#[tokio::test]
async fn a_dropped_connection_leaves_the_counts_right() {
    let nodes: Cluster<TcpUpstream> = cluster(&[("dead", nobody().await), ("a", echo("hello").await)]);
    let mut proxy = TcpProxy::new(Retry::tcp(nodes.clone(), RoundRobin));
    let (listener, addr) = listen().await;
    for polls in 0..40 {
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(b"x").await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let mut connection = Box::pin(proxy.call(accepted));
        assert_eq!(proxy.stats().open, 1);
        for _ in 0..polls {
            let once = std::future::poll_fn(|cx| std::task::Poll::Ready(connection.as_mut().poll(cx)));
            assert!(once.await.is_pending());
            tokio::task::yield_now().await;
        }
        drop(connection);
        assert_eq!((in_flight(&nodes), proxy.stats().open), (0, 0), "after {polls} polls");
    }
}
