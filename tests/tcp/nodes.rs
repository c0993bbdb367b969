//! Which server a connection goes to.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    balance::{Balance, IpHash, Random, Retry, RoundRobin},
    cluster::{Admin, Cluster, Health, Node},
    forward::{
        TrustedProxies,
        proxy_protocol::{Header, Receiver, Version},
        tcp::{Connect, ConnectError, Socket, TcpProxy, TcpUpstream},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tower::{Service, service_fn};

use crate::support::{
    cluster, connect, echo, in_flight, listen, nobody, over, over_by, rest, run, send, soon, take, until,
};

#[tokio::test]
async fn a_connection_goes_on_to_the_next_node_when_one_refuses() {
    let nodes = cluster(&[("dead", nobody().await), ("gone", nobody().await), ("live", echo("live").await)]);
    let proxy = over_by(&nodes, Random).await;
    for _ in 0..100 {
        let mut client = connect(proxy).await;
        send(&mut client, "!").await;
        assert_eq!(take(&mut client, 5).await, "live!");
    }
    let failures = |id: &str| nodes.get(id).unwrap().member.state.failures();
    assert!(failures("dead") > 0 && failures("gone") > 0 && failures("live") == 0);
    until(|| in_flight(&nodes) == 0).await;
}

#[tokio::test]
async fn with_no_server_to_be_had_the_client_is_reset() {
    let dead = cluster(&[("dead", nobody().await)]);
    let mut client = connect(over(&dead).await).await;
    assert!(rest(&mut client).await.is_err());
    assert_eq!(in_flight(&dead), 0);

    let empty = Cluster::<TcpUpstream>::new([]).unwrap();
    let mut client = connect(over(&empty).await).await;
    assert!(rest(&mut client).await.is_err());
}

/// The kernel keeps a few connections for a listener that never accepts, and then drops what comes.
async fn black_hole() -> (TcpListener, SocketAddr, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut kept = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(addr)).await
    {
        kept.push(stream);
    }
    (listener, addr, kept)
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_left_for_another() {
    let (_listener, hole, _kept) = black_hole().await;
    let quick = |addr| TcpUpstream::from(addr).connect_timeout(Duration::from_millis(30));
    let nodes =
        Cluster::new([(Node::new("hole"), quick(hole)), (Node::new("live"), echo("live").await.into())]);
    let nodes = nodes.unwrap();
    let proxy = over(&nodes).await;
    for _ in 0..4 {
        assert_eq!(take(&mut connect(proxy).await, 4).await, "live");
    }
    assert!(nodes.get("hole").unwrap().member.state.failures() > 0);
    until(|| in_flight(&nodes) == 0).await;

    let outcome: Result<_, ConnectError> = quick(hole).call(Connect::new(hole, hole)).await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(error.to_string(), format!("cannot connect to {hole}"));
}

#[tokio::test]
async fn a_client_stays_at_its_node_by_its_address() {
    let names = ["a", "b", "c", "d", "e"];
    let mut servers = Vec::new();
    for name in names {
        servers.push((name, echo(name).await));
    }
    let nodes = cluster(&servers);
    let receiver = Receiver::new(TrustedProxies::loopback());
    let proxy = TcpProxy::new(Retry::tcp(nodes.clone(), IpHash::new())).proxy_protocol(receiver);
    let proxy = run(&proxy).await;
    let at = async |client: &str, port: u16| {
        let source = SocketAddr::new(client.parse().unwrap(), port);
        let mut stream = connect(proxy).await;
        send(&mut stream, Header::tcp(source, proxy).encode(Version::V2)).await;
        take(&mut stream, 1).await
    };
    let mut used = std::collections::BTreeSet::new();
    for host in 0..20 {
        let home = at(&format!("192.0.2.{host}"), 1).await;
        assert_eq!(at(&format!("192.0.2.{host}"), 60_000).await, home, "whatever the port");
        assert_eq!(at(&format!("::ffff:192.0.2.{host}"), 3).await, home, "mapped into IPv6");
        let home6 = at(&format!("2001:db8:0:{host}::1"), 1).await;
        assert_eq!(at(&format!("2001:db8:0:{host}:ffff:1:2:3"), 2).await, home6, "anywhere in its /64");
        used.extend([home, home6]);
    }
    assert_eq!(used.len(), names.len(), "{used:?}");
}

#[tokio::test]
async fn connections_to_a_node_that_leaves_go_on() {
    let nodes = cluster(&[("a", echo("a").await), ("b", echo("b").await), ("c", echo("c").await)]);
    let proxy = over(&nodes).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = connect(proxy).await;
        clients.push((take(&mut client, 1).await, client));
    }
    clients.sort_by(|(a, _), (b, _)| a.cmp(b));
    nodes.remove("a");
    nodes.set_admin("b", Admin::Draining).unwrap();
    nodes.set_health("b", Health::Down).unwrap();
    for (_, client) in &mut clients {
        send(client, "still there").await;
        assert_eq!(take(client, 11).await, "still there");
    }
    for _ in 0..3 {
        assert_eq!(take(&mut connect(proxy).await, 1).await, "c");
    }
    assert_eq!(nodes.get("b").unwrap().member.state.in_flight(), 1);
}

#[tokio::test]
async fn a_full_node_is_passed_by() {
    let nodes = cluster(&[("a", echo("a").await), ("b", echo("b").await)]);
    nodes.set_max_in_flight("a", 1).unwrap();
    let proxy = over(&nodes).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = connect(proxy).await;
        take(&mut client, 1).await;
        clients.push(client);
    }
    let in_flight = |id: &str| nodes.get(id).unwrap().member.state.in_flight();
    assert_eq!((in_flight("a"), in_flight("b")), (1, 5));
}

#[tokio::test]
async fn no_more_connections_are_open_than_allowed() {
    let nodes = cluster(&[("a", echo("a").await)]);
    let proxy = TcpProxy::new(Retry::tcp(nodes, RoundRobin)).max_connections(2);
    let addr = run(&proxy).await;
    let mut clients: Vec<TcpStream> = Vec::new();
    for _ in 0..5 {
        clients.push(connect(addr).await);
    }
    for served in 0..5 {
        assert_eq!(take(&mut clients[0], 1).await, "a", "in the order in which they came");
        until(|| proxy.stats().open == 2.min(5 - served)).await;
        drop(clients.remove(0));
    }
    assert_eq!(proxy.stats().connections, 5);
}

#[tokio::test]
async fn a_listener_that_nobody_comes_to_takes_no_place_from_another() {
    let nodes = cluster(&[("a", echo("a").await)]);
    let proxy = TcpProxy::new(Retry::tcp(nodes, RoundRobin)).max_connections(1);
    let listeners = [run(&proxy).await, run(&proxy).await];
    for addr in [listeners[1], listeners[0], listeners[1]] {
        let mut client = connect(addr).await;
        assert_eq!(take(&mut client, 1).await, "a");
    }
}

/// Any service that makes connections will do, and connections of any kind.
#[tokio::test(start_paused = true)]
async fn a_pipe_can_be_a_connection() {
    struct Pipe(DuplexStream);

    impl Socket for Pipe {
        fn reset(&mut self) {}
    }

    impl AsyncRead for Pipe {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            to: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, to)
        }
    }

    impl AsyncWrite for Pipe {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            from: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, from)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    let dial = service_fn(|_: Connect| async {
        let (near, mut far) = duplex(100);
        far.write_all(b"from memory").await?;
        Ok::<_, std::io::Error>(Pipe(near))
    });
    let cluster = Cluster::new([(Node::new("a"), dial)]).unwrap();
    let mut proxy = TcpProxy::new(Balance::tcp(cluster, RoundRobin));
    let (listener, addr) = listen().await;
    let mut client = connect(addr).await;
    let (accepted, _) = listener.accept().await.unwrap();
    let traffic = tokio::spawn(async move { proxy.call(accepted).await });
    assert_eq!(rest(&mut client).await.unwrap(), "from memory");
    drop(client);
    assert_eq!(soon(traffic).await.unwrap().unwrap().down, 11);
}
