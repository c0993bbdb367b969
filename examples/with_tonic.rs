//! gRPC: tonic clients over a balancer over tonic channels. Each call picks a node, which one connection cannot do.
//!
//! `cargo run --example with_tonic`

use std::{collections::BTreeMap, convert::Infallible, error::Error, net::SocketAddr};

use buttress::{
    balance::{Balance, LeastRequest},
    cluster::{Cluster, Node},
};
use bytes::{Buf, BufMut};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Endpoint, Server, server::TcpIncoming},
};
use tower::service_fn;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::new([])?;
    for name in ["red", "green", "blue"] {
        let addr = serve(name).await?;
        cluster.insert(Node::new(name), Endpoint::from_shared(format!("http://{addr}"))?.connect_lazy())?;
    }

    // Generated clients take it as well: `GreeterClient::new(balance)`.
    let balance = Balance::http(cluster, LeastRequest::new());
    let mut served = BTreeMap::new();
    for number in 0..300 {
        let mut client = Grpc::new(balance.clone());
        client.ready().await?;
        let request = Request::new(format!("caller {number}"));
        let path = "/greeter.Greeter/Hello".parse()?;
        let answer = client.unary(request, path, Text).await?.into_inner();
        let name = answer.split(' ').next().unwrap_or_default().to_owned();
        *served.entry(name).or_insert(0) += 1;
    }
    println!("300 calls: {served:?}");
    Ok(())
}

/// A gRPC server on a port of its own.
async fn serve(name: &'static str) -> Result<SocketAddr, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let hello = move |request: Request<String>| async move {
        Ok::<_, Status>(Response::new(format!("{name} greets {}", request.into_inner())))
    };
    // What generated code does: decode, call, encode.
    let greeter = service_fn(move |request: hyper::Request<axum::body::Body>| async move {
        Ok::<_, Infallible>(tonic::server::Grpc::new(Text).unary(service_fn(hello), request).await)
    });
    let routes = tonic::service::Routes::from(axum::Router::new().fallback_service(greeter));
    tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(TcpIncoming::from(listener)));
    Ok(addr)
}

/// Messages that are plain text, where generated code has protocol buffers.
#[derive(Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        String::from_utf8(bytes.into()).map(Some).map_err(|_| Status::invalid_argument("not text"))
    }
}
