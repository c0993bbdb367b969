//! Balancing over hyper-util's HTTP client: connection pools, HTTP/1.1, real sockets.
//!
//! `cargo run --example with_hyper`

use std::{convert::Infallible, error::Error, net::SocketAddr};

use buttress::{
    balance::{Balance, LeastResponseTime, Retry, http::RepeatHttp},
    cluster::{Cluster, Node},
    forward::ReplayBody,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, Uri, body::Incoming, http::uri::PathAndQuery, server::conn::http1, service::service_fn,
};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;
use tower::{Service, ServiceExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // One client for all nodes: it keeps a pool of connections for each of them.
    let client = Client::builder(TokioExecutor::new()).build_http();

    let mut servers = Vec::new();
    for name in ["red", "green", "blue"] {
        servers.push((name, serve(name).await?));
    }
    // Nobody listens here: connections are refused, and the requests go on to other nodes.
    servers.push(("dead", ([127, 0, 0, 1], 1).into()));

    let nodes = servers.into_iter().map(|(name, addr)| {
        // The node's service says where its requests go. Their bodies can be sent again, to another node.
        let to_node = move |mut request: Request<ReplayBody<Full<Bytes>>>| {
            *request.uri_mut() = at(addr, request.uri());
            request
        };
        (Node::new(name), client.clone().map_request(to_node))
    });
    let cluster = Cluster::new(nodes)?;

    let balance = Balance::http(cluster.clone(), LeastResponseTime::new());
    let mut service = Retry::new(balance, RepeatHttp::new());
    for round in 0..30 {
        let mut answers = Vec::new();
        for number in 0..10 {
            let request = Request::get(format!("/{round}/{number}")).body(Full::default())?;
            answers.push(tokio::spawn(service.ready().await?.call(request)));
        }
        for answer in answers {
            // A request counts as in flight until its body is read.
            let body = answer.await??.into_body().collect().await?.to_bytes();
            assert!(body.starts_with(b"hello from "));
        }
    }

    println!("300 requests, all answered:\n");
    println!("{:8}{:>10}{:>10}{:>12}", "node", "requests", "failures", "latency");
    for member in cluster.load().iter() {
        let state = &member.state;
        let latency = state.latency().map_or("-".into(), |latency| format!("{latency:.1?}"));
        println!("{:8}{:>10}{:>10}{latency:>12}", member.node.id, state.requests(), state.failures());
    }
    Ok(())
}

/// The same path and query, on another server.
fn at(addr: SocketAddr, uri: &Uri) -> Uri {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let uri = Uri::builder().scheme("http").authority(addr.to_string()).path_and_query(path);
    uri.build().expect("an address and a path make a URL")
}

/// A server that answers with its name.
async fn serve(name: &'static str) -> Result<SocketAddr, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let answer = move |_: Request<Incoming>| async move {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(format!("hello from {name}"))))
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    Ok(addr)
}
