//! Who the client is, told in and told on.

use std::net::SocketAddr;

use buttress::{
    balance::{Retry, RoundRobin},
    cluster::{Cluster, Node},
    forward::{
        TrustedProxies,
        proxy_protocol::{Header, Parsed, Receiver, Version},
        tcp::{TcpProxy, TcpUpstream},
    },
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{connect, rest, run, send, serve};

/// A proxy that hears of clients through `receiver` and tells its server of them in this version. The server answers with
/// all that it has heard.
async fn proxy(receiver: Option<Receiver>, version: Option<Version>) -> SocketAddr {
    let server = serve(|mut stream| async move {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        stream.write_all(&heard).await.unwrap();
    })
    .await;
    let node = TcpUpstream::from(server).proxy_protocol(version);
    let cluster = Cluster::new([(Node::new("a"), node)]).unwrap();
    let proxy = TcpProxy::new(Retry::tcp(cluster, RoundRobin));
    run(&match receiver {
        Some(receiver) => proxy.proxy_protocol(receiver),
        None => proxy,
    })
    .await
}

fn trusting() -> Receiver {
    Receiver::new(TrustedProxies::loopback())
}

fn strict() -> Receiver {
    Receiver::new(TrustedProxies::parse(["10.0.0.0/8"]).unwrap())
}

/// Sends `pieces` and gives back what the server heard: the header, and the rest.
async fn heard(proxy: SocketAddr, pieces: impl IntoIterator<Item = &[u8]>) -> (Option<Header>, Vec<u8>) {
    let mut client = connect(proxy).await;
    client.set_nodelay(true).unwrap();
    for piece in pieces {
        send(&mut client, piece).await;
        tokio::task::yield_now().await;
    }
    client.shutdown().await.unwrap();
    let mut heard = Vec::new();
    crate::support::soon(client.read_to_end(&mut heard)).await.unwrap();
    match Header::parse(&heard) {
        Ok(Parsed::Done { header, length }) => (Some(header), heard.split_off(length)),
        _ => (None, heard),
    }
}

#[tokio::test]
async fn the_server_is_told_who_the_client_is() {
    for version in [Version::V1, Version::V2] {
        let proxy = proxy(None, Some(version)).await;
        let mut client = connect(proxy).await;
        let header = Header::tcp(client.local_addr().unwrap(), proxy);
        send(&mut client, "hello").await;
        client.shutdown().await.unwrap();
        let mut heard = Vec::new();
        crate::support::soon(client.read_to_end(&mut heard)).await.unwrap();
        assert_eq!(heard, [&header.encode(version)[..], b"hello"].concat());
    }
}

#[tokio::test]
async fn a_header_goes_through_byte_by_byte() {
    let told = Header::tcp("[2001:db8::1]:4711".parse().unwrap(), "[2001:db8::2]:443".parse().unwrap());
    for (heard_in, told_in) in
        [(Version::V1, Version::V2), (Version::V2, Version::V1), (Version::V2, Version::V2)]
    {
        let proxy = proxy(Some(trusting()), Some(told_in)).await;
        let bytes = [&told.encode(heard_in)[..], b"hello"].concat();
        assert_eq!(heard(proxy, bytes.chunks(1)).await, (Some(told.clone()), b"hello".into()));
        assert_eq!(heard(proxy, [&bytes[..]]).await, (Some(told.clone()), b"hello".into()));
    }
}

#[tokio::test]
async fn tlvs_are_passed_on() {
    let told = Header::tcp("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
    let told = told.with_tlv(Header::AUTHORITY, b"example.com").unwrap();
    let proxy = proxy(Some(trusting()), Some(Version::V2)).await;
    let (header, _) = heard(proxy, [&told.encode(Version::V2)[..]]).await;
    assert_eq!(header.unwrap().authority(), Some("example.com"));
}

#[tokio::test]
async fn a_header_is_for_the_proxy_alone_unless_the_server_wants_one() {
    let told = Header::tcp("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
    let proxy = proxy(Some(trusting()), None).await;
    let bytes = [&told.encode(Version::V1)[..], b"hello"].concat();
    assert_eq!(heard(proxy, [&bytes[..]]).await, (None, b"hello".into()));
}

#[tokio::test]
async fn a_spoofed_header_is_refused_or_payload_but_never_believed() {
    let spoofed = Header::tcp("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
    for version in [Version::V1, Version::V2] {
        let bytes = spoofed.encode(version);
        let mut client = connect(proxy(Some(strict()), Some(Version::V2)).await).await;
        let _ = client.write_all(&bytes).await;
        assert!(rest(&mut client).await.is_err(), "reset");

        let lenient = proxy(Some(strict().allow_direct(true)), Some(Version::V2)).await;
        let (header, payload) = heard(lenient, [&bytes[..]]).await;
        assert_eq!(header.unwrap().source().unwrap().ip(), lenient.ip(), "the client's true address");
        assert_eq!(payload, bytes);
    }
    // Nobody asked for a header: whatever looks like one is payload.
    let plain = proxy(None, Some(Version::V2)).await;
    let (header, payload) = heard(plain, [&spoofed.encode(Version::V1)[..]]).await;
    assert_eq!(header.unwrap().source().unwrap().ip(), plain.ip());
    assert_eq!(payload, spoofed.encode(Version::V1));
}

#[tokio::test]
async fn a_trusted_proxy_that_sends_none_is_refused() {
    let proxy = proxy(Some(trusting()), None).await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXY TCP4 1.2.3.4 1.2.3.4 1 02\r\n", b"\0"] {
        let mut client = connect(proxy).await;
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        assert!(rest(&mut client).await.is_err(), "{bytes:?}");
    }
}
