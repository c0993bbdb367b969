use std::io::ErrorKind;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufStream, DuplexStream, duplex, join, repeat, sink},
    net::TcpStream,
    task::JoinHandle,
    time::{advance, sleep},
};
use tokio_test::{assert_pending, io::Builder, task};

use super::*;
use crate::rng::Rng;

const SECOND: Duration = Duration::from_secs(1);

/// A tunnel over pipes that hold so many bytes, and its two ends.
fn tunnel(room: usize) -> (DuplexStream, JoinHandle<Traffic>, DuplexStream) {
    let ((client, left), (right, server)) = (duplex(room), duplex(room));
    let tunnel = Tunnel::new(left, right).idle_timeout(10 * SECOND).half_close_timeout(3 * SECOND);
    (client, tokio::spawn(tunnel), server)
}

async fn heard(end: &mut DuplexStream) -> String {
    let mut heard = String::new();
    end.read_to_string(&mut heard).await.unwrap();
    heard
}

/// Sends `bytes` in pieces of any length, with pauses, and ends the direction; reads the other in pieces meanwhile.
async fn talk(end: DuplexStream, bytes: Vec<u8>, mut rng: Rng) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(end);
    let mut dice = Rng::seeded(rng.next_u64());
    let write = async move {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + dice.below(rest.len().min(40_000)));
            writer.write_all(piece).await.unwrap();
            rest = after;
            if dice.below(4) == 0 {
                sleep(Duration::from_millis(dice.next_u64() % 2000)).await;
            }
        }
        writer.shutdown().await.unwrap();
    };
    let read = async move {
        let mut heard = Vec::new();
        loop {
            let mut piece = vec![0; 1 + rng.below(40_000)];
            match reader.read(&mut piece).await.unwrap() {
                0 => return heard,
                read => heard.extend(&piece[..read]),
            }
            if rng.below(4) == 0 {
                sleep(Duration::from_millis(rng.next_u64() % 2000)).await;
            }
        }
    };
    tokio::join!(write, read).1
}

#[tokio::test(start_paused = true)]
async fn every_byte_arrives_in_order_whatever_the_pieces() {
    for seed in 0..40 {
        let mut rng = Rng::seeded(seed);
        let mut some = |below| (0..rng.below(below)).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
        let (up, down): (Vec<u8>, Vec<u8>) = (some(300_000), some(300_000));
        let (client, tunnel, server) = tunnel(1 + rng.below(100_000));
        let mut dice = || Rng::seeded(rng.next_u64());
        let (at_client, at_server) =
            tokio::join!(talk(client, up.clone(), dice()), talk(server, down.clone(), dice()));
        assert!(at_server == up && at_client == down, "seed {seed}");
        let traffic = tunnel.await.unwrap();
        assert!(matches!(traffic.ending, Ending::Closed), "seed {seed}: {traffic:?}");
        assert_eq!((traffic.up, traffic.down), (up.len() as u64, down.len() as u64), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_direction_goes_on_after_the_other_has_ended() {
    for swapped in [false, true] {
        let (client, tunnel, server) = tunnel(100);
        let (mut first, mut second) = if swapped { (server, client) } else { (client, server) };
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        assert_eq!(heard(&mut second).await, "question");
        // More than the half-close timeout in all, but never silent for as long.
        for _ in 0..5 {
            sleep(2 * SECOND).await;
            second.write_all(b"yes ").await.unwrap();
        }
        drop(second);
        assert_eq!(heard(&mut first).await, "yes yes yes yes yes ");
        assert!(matches!(tunnel.await.unwrap().ending, Ending::Closed));
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_tunnel_and_any_byte_puts_it_off() {
    let (mut client, tunnel, mut server) = tunnel(10);
    let start = Instant::now();
    for (end, byte) in [(&mut client, b"a"), (&mut server, b"b")] {
        sleep(9 * SECOND).await;
        end.write_all(byte).await.unwrap();
    }
    let traffic = tunnel.await.unwrap();
    assert!(matches!(traffic.ending, Ending::Idle(limit) if limit == 10 * SECOND), "{traffic:?}");
    assert_eq!((traffic.up, traffic.down), (1, 1));
    assert_eq!(start.elapsed().as_secs(), 28);
    assert_eq!((heard(&mut client).await, heard(&mut server).await), ("b".into(), "a".into()));
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_tunnel_does_not_live_for_ever() {
    let (mut client, tunnel, mut server) = tunnel(10);
    sleep(9 * SECOND).await;
    let start = Instant::now();
    client.shutdown().await.unwrap();
    assert_eq!(heard(&mut server).await, "");
    let traffic = tunnel.await.unwrap();
    assert!(matches!(traffic.ending, Ending::HalfClosed(limit) if limit == 3 * SECOND), "{traffic:?}");
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_takes_nothing_is_silent() {
    let (mut client, tunnel, server) = tunnel(10);
    let start = Instant::now();
    // More than both pipes and the tunnel hold.
    let write = tokio::spawn(async move { client.write_all(&vec![7; 100_000]).await });
    let traffic = tunnel.await.unwrap();
    assert!(matches!(traffic.ending, Ending::Idle(_)), "{traffic:?}");
    assert_eq!((start.elapsed().as_secs(), traffic.up), (10, 10));
    assert_eq!(write.await.unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn timeouts_can_be_off() {
    let ((mut client, left), (right, server)) = (duplex(10), duplex(10));
    let mut tunnel = task::spawn(Tunnel::new(left, right).idle_timeout(None).half_close_timeout(None));
    assert_pending!(tunnel.poll());
    client.shutdown().await.unwrap();
    for _ in 0..10 {
        advance(Duration::from_secs(365 * 86_400)).await;
        assert_pending!(tunnel.poll());
    }
    drop(server);
    assert!(tunnel.is_woken());

    let (_client, left) = duplex(10);
    let (right, _server) = duplex(10);
    let mut patient = task::spawn(Tunnel::new(left, right).idle_timeout(Duration::MAX));
    assert_pending!(patient.poll());
}

#[tokio::test]
async fn what_came_before_a_break_is_passed_on_and_the_break_has_a_side() {
    let broken = || Builder::new().read(b"last words").read_error(ErrorKind::ConnectionReset.into()).build();
    let (left, mut server) = duplex(100);
    let traffic = Tunnel::new(broken(), left).await;
    assert!(
        matches!(&traffic.ending, Ending::Client(error) if error.kind() == ErrorKind::ConnectionReset),
        "{traffic:?}"
    );
    assert_eq!((traffic.up, traffic.down), (10, 0));
    assert_eq!(heard(&mut server).await, "last words");

    let (mut client, right) = duplex(100);
    let traffic = Tunnel::new(right, broken()).await;
    assert!(matches!(&traffic.ending, Ending::Server(_)), "{traffic:?}");
    assert_eq!((traffic.up, traffic.down), (0, 10));
    assert_eq!(heard(&mut client).await, "last words");
}

#[tokio::test]
async fn an_answer_is_passed_on_though_the_request_can_no_longer_be() {
    // The server says no and goes, while the client is still sending.
    let server = Builder::new().write_error(ErrorKind::BrokenPipe.into()).read(b"no").wait(SECOND).build();
    let (mut client, left) = duplex(100);
    client.write_all(b"a long story").await.unwrap();
    let traffic = Tunnel::new(left, server).await;
    assert!(matches!(&traffic.ending, Ending::Server(_)), "{traffic:?}");
    assert_eq!(heard(&mut client).await, "no");
}

#[tokio::test(start_paused = true)]
async fn what_a_buffered_end_keeps_back_is_flushed_out() {
    let ((mut client, left), (right, mut server)) = (duplex(100), duplex(100));
    let tunnel = tokio::spawn(Tunnel::new(BufStream::new(left), BufStream::new(right)));
    let mut word = [0; 4];
    client.write_all(b"ping").await.unwrap();
    server.read_exact(&mut word).await.unwrap();
    server.write_all(&word).await.unwrap();
    client.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"ping");
    drop((client, server));
    assert!(matches!(tunnel.await.unwrap().ending, Ending::Closed));
}

#[tokio::test]
async fn an_endless_sender_lets_others_run() {
    let (left, right) = (join(repeat(1), sink()), join(repeat(2), sink()));
    let mut tunnel = task::spawn(Tunnel::new(left, right));
    assert_pending!(tunnel.poll());
    assert!(tunnel.is_woken());
}

#[tokio::test]
async fn dropping_it_drops_both_ends() {
    let (mut client, tunnel, mut server) = tunnel(10);
    client.write_all(b"x").await.unwrap();
    let mut byte = [0];
    server.read_exact(&mut byte).await.unwrap();
    tunnel.abort();
    assert_eq!((heard(&mut client).await, heard(&mut server).await), (String::new(), String::new()));
}

/// What it copies with is not part of it.
#[test]
fn a_silent_tunnel_is_small() {
    let size = size_of::<Tunnel<TcpStream, TcpStream>>();
    assert!(size < 600, "{size}");
}

#[tokio::test(start_paused = true)]
async fn the_shorter_limit_holds_for_what_is_half_closed() {
    for (idle, half, expected) in
        [(Some(2), Some(5), 2), (Some(5), Some(2), 2), (None, Some(2), 2), (Some(2), None, 2)]
    {
        let (mut client, left) = duplex(10);
        let (right, _server) = duplex(10);
        client.shutdown().await.unwrap();
        let seconds = |limit: Option<u32>| limit.map(|limit| limit * SECOND);
        let tunnel = Tunnel::new(left, right).idle_timeout(seconds(idle)).half_close_timeout(seconds(half));
        let start = Instant::now();
        tunnel.await;
        assert_eq!(start.elapsed(), expected * SECOND, "{idle:?}, {half:?}");
    }
}
