//! Clients behind a proxy that speaks the PROXY protocol.

use buttress::forward::proxy_protocol::{Header, Receiver, Version};
use buttress::forward::{ForwardHeaders, PeerAddr, Proxy, TrustedProxies};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tower::Service;

use crate::support::{Raw, full, serve, upstream};

#[tokio::test]
async fn the_client_of_the_header_is_the_client_of_the_requests() {
    let server = serve(|request: Request<Incoming>| async move {
        // The header came from a trusted proxy, so its client is the peer: and what that claims, nobody believes.
        assert_eq!(request.headers()["x-forwarded-for"], "192.0.2.7");
        Response::new(full("seen"))
    })
    .await;
    let proxy = Proxy::new(upstream(server)).headers(ForwardHeaders::new().trust(TrustedProxies::loopback()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, peer) = listener.accept().await.unwrap();
        let received = Receiver::new(TrustedProxies::loopback()).receive(&mut stream, peer).await.unwrap();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(PeerAddr(received.client));
            proxy.clone().call(request)
        });
        Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await.unwrap();
    });
    let mut client = Raw::connect(addr).await;
    let header = Header::tcp("192.0.2.7:4711".parse().unwrap(), addr);
    client.send(header.encode(Version::V2)).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\nConnection: close\r\n\r\n").await;
    assert!(client.rest().await.ends_with("seen"));
}
