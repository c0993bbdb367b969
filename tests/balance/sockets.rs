//! The stack of a gateway over real sockets, while servers come, go, slow down and fail.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use buttress::{
    balance::{Balance, Budget, LeastRequest, LeastResponseTime, Queue, RoundRobin, WeightedRoundRobin},
    cluster::{Cluster, Node},
    forward::{PeerAddr, Proxy},
    rng::Rng,
};
use http_body_util::BodyExt;
use hyper::{Method, Request, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{Service, ServiceExt};

use crate::{
    servers::{
        Load, Mood, Outcome, Server, assert_none_seen_twice, cluster, request, retried, send, servers,
    },
    support::in_flight,
};

const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
const IDEMPOTENT: &[Method] = &[Method::GET, Method::PUT, Method::DELETE];
const MIXED: &[Method] = &[Method::GET, Method::POST, Method::PUT];

fn failures(outcomes: &[(Method, Outcome)]) -> Vec<&(Method, Outcome)> {
    outcomes.iter().filter(|(_, outcome)| *outcome != Outcome::Fine).collect()
}

#[tokio::test]
async fn weights_divide_the_requests() {
    let servers = servers(3, Duration::ZERO).await;
    let cluster = cluster(&servers);
    for (id, weight) in [("0", 5), ("1", 3), ("2", 2)] {
        cluster.set_weight(id, weight).unwrap();
    }
    let outcomes = Load::start(&retried(&cluster, WeightedRoundRobin), 1, 500, MIXED).finish().await;
    assert!(failures(&outcomes).is_empty());
    for (server, expected) in servers.iter().zip([250, 150, 100_u64]) {
        let served = server.served();
        assert!(served.abs_diff(expected) <= 1, "{served} of {expected}");
    }
}

#[tokio::test]
async fn fast_servers_get_most_of_the_requests() {
    let servers = servers(3, Duration::from_millis(2)).await;
    // Slow beside whatever the machine is busy with.
    servers[2].switch.slow_down(Duration::from_millis(200));
    let cluster = cluster(&servers);
    let outcomes = Load::start(&retried(&cluster, LeastResponseTime::new()), 4, 1500, GET).finish().await;
    assert!(failures(&outcomes).is_empty());
    let served: Vec<_> = servers.iter().map(Server::served).collect();
    assert!(served[2] < 75, "{served:?}: a twentieth at most goes to the slow one");
    assert!(served[0].min(served[1]) > 500, "{served:?}: the fast ones share the rest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idempotent_requests_outlive_servers_that_die_stall_and_fail() {
    let mut servers = servers(4, Duration::from_millis(1)).await;
    let switches: Vec<_> = servers.iter().map(|server| Arc::clone(&server.switch)).collect();
    let cluster = cluster(&servers);
    let load = Load::start(&retried(&cluster, LeastResponseTime::new()), 12, 4000, IDEMPOTENT);
    load.reach(500).await;
    drop(servers.remove(0));
    load.reach(1500).await;
    switches[1].slow_down(Duration::from_millis(20));
    load.reach(2500).await;
    switches[2].turn(Mood::Failing);
    let outcomes = load.finish().await;
    assert_eq!(outcomes.len(), 4000);
    assert!(failures(&outcomes).is_empty(), "{:?}", failures(&outcomes));
    assert_eq!(in_flight(&cluster), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_fails_fast_attracts_next_to_nothing() {
    let servers = servers(6, Duration::from_millis(2)).await;
    let cluster = cluster(&servers);
    let balance = Balance::http(cluster.clone(), LeastResponseTime::new());
    let load = Load::start(&balance, 12, 12_000, GET);
    load.reach(1000).await;
    servers[0].switch.turn(Mood::Failing);
    let outcomes = load.finish().await;
    let failed = failures(&outcomes);
    assert!(failed.len() <= 12, "{} of 12,000 failed, with no retries", failed.len());
    assert!(failed.iter().all(|(_, outcome)| *outcome == Outcome::Status(500)), "{failed:?}");
    assert!(!failed.is_empty(), "somebody must find out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posts_are_repeated_only_where_no_server_has_seen_them() {
    let mut servers = servers(3, Duration::from_millis(1)).await;
    let switches: Vec<_> = servers.iter().map(|server| Arc::clone(&server.switch)).collect();
    let cluster = cluster(&servers);
    // Round robin sends every third request to the dead one: more retries than the default budget grants.
    let retry = retried(&cluster, RoundRobin).budget(Budget::new(1.0, 10).unwrap());
    let callers = 8;

    let load = Load::start(&retry, callers, 1500, POST);
    load.reach(300).await;
    drop(servers.remove(0));
    let outcomes = load.finish().await;
    let failed = failures(&outcomes);
    // Those that the server had when it died, and no more: after that, its connections are refused.
    assert!(failed.len() <= callers, "{failed:?}");
    assert!(
        failed.iter().all(|(_, outcome)| matches!(outcome, Outcome::Error(why) if why.contains("broke"))),
        "{failed:?}"
    );
    let state = &cluster.get("0").unwrap().member.state;
    assert!(state.failures() > failed.len() as u64, "refused connections failed nobody");

    // The next two see each request and fail.
    for (mood, word) in [(Mood::Failing, "500"), (Mood::Breaking, "broke")] {
        switches[1].turn(mood);
        switches[2].turn(mood);
        let before: u64 = switches.iter().map(|switch| switch.served.load(SeqCst)).sum();
        for number in 0..20 {
            let number = 10_000 * (mood as u64 + 1) + number;
            let outcome = send(retry.clone(), Method::POST, number).await;
            assert!(format!("{outcome:?}").contains(word), "{outcome:?}");
        }
        let after: u64 = switches.iter().map(|switch| switch.served.load(SeqCst)).sum();
        assert_eq!(after - before, 20, "each was sent once");
    }
    assert_none_seen_twice(switches.iter().map(|switch| &**switch));
}

#[tokio::test]
async fn the_budget_bounds_attempts_when_everything_fails() {
    let servers = servers(4, Duration::ZERO).await;
    for server in &servers {
        server.switch.turn(Mood::Failing);
    }
    let (ratio, burst, requests) = (0.1, 10, 600);
    let budget = Budget::new(ratio, burst).unwrap();
    let retry = retried(&cluster(&servers), LeastRequest::new()).budget(budget);
    let outcomes = Load::start(&retry, 4, requests, GET).finish().await;
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Status(500)), "the last answer stands");
    let attempts: u64 = servers.iter().map(Server::served).sum();
    let extra = requests / 10 + u64::from(burst);
    assert!(attempts <= requests + extra, "{attempts} attempts at {requests} requests");
    assert!(attempts >= requests + extra - 2, "{attempts} attempts: the budget was not used");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_and_go_under_load() {
    let servers = servers(4, Duration::from_millis(2)).await;
    let cluster = cluster(&servers[..3]);
    let balance = Balance::http(cluster.clone(), LeastResponseTime::new());
    // Without retries: nothing here may fail in the first place.
    let load = Load::start(&balance, 8, u64::MAX, MIXED);
    load.reach(500).await;

    cluster.insert(Node::new("3"), servers[3].upstream()).unwrap();
    tokio::time::timeout(Duration::from_secs(1), async {
        while servers[3].served() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the new node gets traffic within a second");

    // It leaves with a slow request on it.
    servers[0].switch.slow_down(Duration::from_millis(300));
    let leaving = cluster.get("0").unwrap();
    while leaving.member.state.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(cluster.remove("0"));
    tokio::time::timeout(Duration::from_secs(10), async {
        while leaving.member.state.in_flight() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("what it has comes to its end");
    let served = (servers[0].served(), servers[1].served());
    while servers[1].served() < served.1 + 100 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(servers[0].served(), served.0, "no new requests after the removal");
    let outcomes = load.stop().await;
    assert!(failures(&outcomes).is_empty(), "{:?}", failures(&outcomes));
    assert_eq!(in_flight(&cluster), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_at_the_servers() {
    let servers = servers(2, Duration::from_millis(1)).await;
    let cluster = cluster(&servers);
    cluster.set_max_in_flight("0", 2).unwrap();
    cluster.set_max_in_flight("1", 3).unwrap();
    let balance =
        Balance::http(cluster.clone(), LeastRequest::new()).queue(Queue::new(50, Duration::from_secs(20)));
    let outcomes = Load::start(&balance, 20, 1500, GET).finish().await;
    assert!(failures(&outcomes).is_empty(), "{:?}", failures(&outcomes));
    let most: Vec<_> = servers.iter().map(|server| server.switch.most_at_once.load(SeqCst)).collect();
    assert!(most[0] <= 2 && most[1] <= 3, "{most:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_in_flight_after_3_000_requests_cut_off_on_the_way() {
    let servers = servers(3, Duration::from_millis(1)).await;
    let cluster = cluster(&servers);
    let retry = retried(&cluster, LeastResponseTime::new());
    let callers = (0..10).map(|seed| {
        let retry = retry.clone();
        tokio::spawn(async move {
            let (mut rng, mut cut) = (Rng::seeded(seed), 0);
            for number in 0..300 {
                let patience = Duration::from_micros(rng.below(6000) as u64);
                let method = MIXED[rng.below(3)].clone();
                let reads = rng.below(2) == 0;
                let all = async {
                    let response = retry.clone().oneshot(request(method, number)).await.unwrap();
                    if reads {
                        response.into_body().collect().await.unwrap();
                    }
                };
                cut += usize::from(tokio::time::timeout(patience, all).await.is_err());
            }
            cut
        })
    });
    let mut cut = 0;
    for caller in callers.collect::<Vec<_>>() {
        cut += caller.await.unwrap();
    }
    assert!(cut > 300, "{cut} were cut off");
    assert_eq!(in_flight(&cluster), 0);
    assert_eq!(send(retry, Method::PUT, 1).await, Outcome::Fine);
}

/// A gateway: the proxy in front of retries and a balancer, on a socket of its own.
async fn gateway(cluster: &Cluster<buttress::forward::Upstream>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let proxy = Proxy::new(retried(cluster, LeastResponseTime::new()));
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let proxy = proxy.clone();
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(PeerAddr(peer));
                proxy.clone().call(request)
            });
            let server = hyper::server::conn::http1::Builder::new();
            let connection = server.serve_connection(TokioIo::new(stream), service).with_upgrades();
            tokio::spawn(connection);
        }
    });
    addr
}

async fn settles(cluster: &Cluster<buttress::forward::Upstream>) {
    let settled = tokio::time::timeout(Duration::from_secs(5), async {
        while in_flight(cluster) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(settled.await.is_ok(), "{} stay in flight", in_flight(cluster));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_in_flight_after_clients_of_the_gateway_hang_up() {
    let servers = servers(3, Duration::from_millis(1)).await;
    let cluster = cluster(&servers);
    let addr = gateway(&cluster).await;
    let body = "x".repeat(100_000);
    let mut rng = Rng::seeded(11);
    for round in 0..40 {
        let clients = (0..15).map(|_| {
            let sent = rng.below(body.len() + 1);
            let patience = Duration::from_micros(rng.below(8000) as u64);
            let part = body[..sent].to_owned();
            let length = body.len();
            tokio::spawn(async move {
                let talk = async {
                    let mut stream = TcpStream::connect(addr).await.unwrap();
                    let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
                    stream.write_all(head.as_bytes()).await?;
                    stream.write_all(part.as_bytes()).await?;
                    stream.read_to_end(&mut Vec::new()).await
                };
                let _ = tokio::time::timeout(patience, talk).await;
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        if round % 10 == 0 {
            settles(&cluster).await;
        }
    }
    settles(&cluster).await;
    assert_eq!(send(retried(&cluster, RoundRobin), Method::PUT, 1).await, Outcome::Fine);
}

#[tokio::test]
async fn an_upgraded_connection_is_in_flight_until_a_side_hangs_up() {
    // Switches protocols, then echoes.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let answer =
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
                stream.write_all(answer.as_bytes()).await?;
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let upstream = buttress::forward::Upstream::new(&format!("http://{server}")).unwrap();
    let cluster = Cluster::new([(Node::new("0"), upstream)]).unwrap();
    let addr = gateway(&cluster).await;
    let mut clients = Vec::new();
    for number in 1..=5 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
            .await
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        stream.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ping");
        clients.push(stream);
        assert_eq!(in_flight(&cluster), number);
    }
    drop(clients);
    settles(&cluster).await;
}
