//! Scaling building blocks for Rust services: what takes a [`tower`] service from one server to many.
//!
//! Each block works alone and fits between the parts that you already have: hyper, axum, tonic, or a plain function.
//!
//! | block | what it does |
//! |---|---|
//! | [`cluster`] | knows the nodes that can serve a request, and how each of them is doing |
//! | [`discover`] | keeps a cluster up to date: from streams, from tower's `Discover`, from DNS |
//! | [`health`] | asks each node how it is, and ejects those whose traffic goes wrong |
//! | [`balance`] | sends each request to one node, by a policy; tries another where that is safe |
//! | [`overload`] | limits what a service does at once, and turns away what it cannot do in time |
//! | [`placement`] | says which node owns a key, the same on every machine and for ever |
//! | `route` (feature `http`) | says which service a request is for: by host, path, method and headers |
//! | `forward` (features `http`, `tcp`) | what a proxy must pass on, what it must not, and who the client is |
//! | `cdn` (feature `cdn`) | answers from a shared HTTP cache, as far as RFC 9111 allows it; purge, stale serving |
//! | `sticky` (feature `signed`) | keeps each client with the node that knows it |
//! | [`cache`] | one trait for caches, with adapters for those that people have |
//!
//! # Five minutes
//!
//! ```
//! use buttress::{
//!     balance::{Balance, LeastResponseTime},
//!     cluster::{Cluster, Node},
//! };
//! use tower::{Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = |name: &'static str| {
//!     let reply = move |_: ()| async move { Ok::<_, std::io::Error>(name) };
//!     (Node::new(name), service_fn(reply))
//! };
//! // The application keeps the handle, services get clones of it.
//! let cluster = Cluster::new([node("a"), node("b")])?;
//! let mut service = Balance::new(cluster.clone(), LeastResponseTime::new());
//! println!("{} answered", service.ready().await?.call(()).await?);
//!
//! cluster.remove("a");
//! assert_eq!(service.ready().await?.call(()).await?, "b");
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! By default there is no HTTP and no socket in it. Each feature compiles alone, adds API and changes no behaviour.
//!
//! | feature | adds |
//! |---|---|
//! | `http` | [`balance::http`](balance): verdicts on HTTP answers, guards in bodies, retries; [`overload::http`](overload): 503 with `Retry-After`; `forward`: headers, client addresses; `route` |
//! | `tcp` | `forward::tcp` and [`balance::tcp`](balance): a proxy for TCP connections; `forward::proxy_protocol`: whose they are; `health::TcpCheck` |
//! | `proxy` | `forward::Proxy` and `forward::Upstream`: a reverse proxy on hyper; `health::HttpCheck` |
//! | `tls` | servers behind `forward::Upstream` over https, with rustls |
//! | `grpc` | `health::GrpcCheck`: a health check by gRPC |
//! | `dns` | `discover::dns`: nodes found through DNS |
//! | `cdn` | `cdn`: a shared HTTP cache as a layer; with `disk` it survives restarts, with `redis` purges reach all nodes |
//! | `signed` | `sticky`: clients pinned to nodes, by signed cookies or by the application's own |
//! | `serde` | node ids and admin states in configuration files |
//! | `hashring`, `ketama` | placements that agree with the `hashring` crate, and with nginx and `pingora-ketama` |
//! | `lru`, `moka` | caches from these crates behind the [`cache::Cache`] trait |
//! | `disk`, `redis` | [`cache::tier`]: a cache on disk that survives restarts, and one that many nodes share |
//!
//! # How it is built
//!
//! Every decision is made by a synchronous core that is given the time ([`time::Clock`]) and the randomness
//! ([`rng::Rng`]) it uses; the services around it only do I/O. State lives in cheap handles, such as
//! [`cluster::Cluster`]. A change of membership never makes a request wait, and the usual path takes no lock (weighted round
//! robin takes one, for some 50 ns). Whoever drops a future, at any point, leaves the counts right.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod balance;
pub mod cache;
#[cfg(feature = "http")]
mod causes;
#[cfg(feature = "cdn")]
pub mod cdn;
pub mod cluster;
pub mod discover;
#[cfg(any(feature = "http", feature = "tcp"))]
pub mod forward;
pub mod health;
pub mod overload;
pub mod placement;
pub mod rng;
#[cfg(feature = "http")]
pub mod route;
#[cfg(feature = "signed")]
pub mod sticky;
mod sync;
pub mod time;

/// The README's code compiles and runs.
#[cfg(all(doctest, feature = "cdn", feature = "proxy", feature = "signed"))]
#[doc = include_str!("../README.md")]
struct Readme;
