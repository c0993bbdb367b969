//! How the nodes are: what they answer when asked, and what their traffic says of them.
//!
//! | what | finds |
//! |---|---|
//! | a [`Monitor`], the active way | nodes that do not answer a check, or say that they drain: before a request meets them |
//! | [`OutlierDetection`], the passive way | nodes that pass every check and yet fail or slow down real requests |
//!
//! They go together: a node takes traffic while neither of them finds fault with it.
//!
//! # Checks
//!
//! A [`Monitor`] checks every node of a cluster with a [`HealthCheck`], which may be any async function. There is one
//! monitor for a cluster, however many balancers use it, and all of them follow what it finds at once. Membership is the
//! cluster's: nodes that join are checked from then on, those that leave no longer, and a change of weight, zone, service
//! or admin state changes nothing about health.
//!
//! | check | feature | finds a node healthy that |
//! |---|---|---|
//! | any async function | | it says so of |
//! | `TcpCheck` | `tcp` | accepts a connection |
//! | `HttpCheck` | `proxy` | answers a request with the expected status, and text |
//! | `GrpcCheck` | `grpc` | says `SERVING` (`grpc.health.v1`) |
//!
//! ```
//! use std::{io, sync::Arc, time::Duration};
//! use buttress::{cluster::{Cluster, Endpoint, Health, Node}, health::{Answer, CheckResult, Monitor}};
//!
//! /// What reaches a node; a real one would send a request.
//! #[derive(Clone)]
//! struct Client { works: bool }
//!
//! async fn ping(endpoint: Arc<Endpoint<Client>>) -> CheckResult {
//!     if !endpoint.service.works {
//!         Err(io::Error::other("connection refused"))?;
//!     }
//!     Ok(Answer::Healthy)
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = |name: &'static str, works| (Node::new(name), Client { works });
//! let cluster = Cluster::new([node("a", true), node("b", false)])?;
//! let monitor = Monitor::builder().interval(Duration::from_secs(2)).start(&cluster, ping)?;
//!
//! tokio::time::sleep(Duration::from_secs(2)).await;
//! for node in monitor.report() {
//!     println!("{node}");
//! }
//! assert_eq!(cluster.get("b").unwrap().member.state.health(), Health::Down);
//! # Ok(())
//! # }
//! ```
//!
//! # How checks change the health of a node
//!
//! * The first answer decides at once. Until then a node takes traffic, or counts as down if
//!   [`down_until_checked`](MonitorBuilder::down_until_checked) is on.
//! * After that, a node goes down with [`fall`](MonitorBuilder::fall) failed checks in a row, and is back with
//!   [`rise`](MonitorBuilder::rise) good ones in a row. In between it is checked at the
//!   [`fast interval`](MonitorBuilder::fast_interval).
//! * A node that says that it drains gets no new picks from there on, and takes part again when it no longer says so: it
//!   is the node's own word, so one answer is enough. What the operator wants of a node is
//!   [`Admin`](crate::cluster::Admin), which checks never touch.
//!
//! No interval is longer than it says, and a check that gives no answer in time has failed. So whatever goes wrong, a node
//! is down at most `fall` intervals and one timeout after it broke.

mod agenda;
mod check;
#[cfg(feature = "grpc")]
mod grpc;
#[cfg(feature = "proxy")]
mod http;
mod monitor;
mod outlier;
mod pace;
mod record;
mod report;
mod rounds;
#[cfg(feature = "tcp")]
mod tcp;

#[cfg(feature = "grpc")]
pub use self::grpc::GrpcCheck;
#[cfg(feature = "proxy")]
pub use self::http::{HttpCheck, InvalidPath};
#[cfg(feature = "tcp")]
pub use self::tcp::TcpCheck;
pub use self::{
    check::{Answer, CheckResult, HealthCheck, Unhealthy},
    monitor::{Monitor, MonitorBuilder},
    outlier::{Cause, Ejection, Ejections, OutlierDetection, OutlierError},
    pace::MonitorError,
    report::{HealthChange, NodeReport},
};
