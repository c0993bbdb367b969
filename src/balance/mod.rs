//! Sends each request to one node of a cluster.
//!
//! A [`Policy`] says which node, [`Balance`] calls it: a cheap-clone `Service` that needs no worker task, sees the
//! request before it picks, and allocates nothing on the usual path. [`Retry`] goes on to another node where that is
//! safe, and asks a second one beside a slow one.
//!
//! ```
//! use buttress::{balance::{Balance, LeastRequest}, cluster::{Cluster, Node}};
//! use tower::{Service, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = |name: &'static str| {
//!     let reply = move |request: u32| async move { Ok::<_, std::io::Error>(format!("{name}: {request}")) };
//!     (Node::new(name), service_fn(reply))
//! };
//! let cluster = Cluster::new([node("a"), node("b"), node("c")])?;
//! let mut balance = Balance::new(cluster.clone(), LeastRequest::new());
//! println!("{}", balance.ready().await?.call(1).await?);
//!
//! cluster.remove("a");
//! let answer = balance.ready().await?.call(2).await?;
//! assert_ne!(answer, "a: 2");
//! # Ok(())
//! # }
//! ```
//!
//! # Which policy
//!
//! | policy | reach for it when |
//! |---|---|
//! | [`LeastResponseTime`] | nodes or requests differ, or you do not know: the one to begin with |
//! | [`LeastRequest`] | latency says little (streams, long polls), or every nanosecond counts |
//! | [`RoundRobin`] | nodes are alike and requests cost about the same |
//! | [`WeightedRoundRobin`] | as above, and capacities are known and fixed |
//! | [`Random`], [`WeightedRandom`] | there are many clients with few requests each |
//! | [`ConsistentHash`], [`IpHash`] | the same key should meet the same node: caches, sessions |
//! | a [`Policy`] of your own | none of these: it takes fifteen lines |

mod acquire;
mod affinity;
mod attend;
mod backoff;
mod budget;
mod chooser;
mod classify;
mod complete;
mod error;
mod future;
mod hedge;
#[cfg(feature = "http")]
pub mod http;
mod key;
mod layer;
mod nodes;
mod pick;
mod policy;
mod retry;
mod service;
#[cfg(feature = "tcp")]
pub mod tcp;

pub(crate) use self::pick::any_eligible;
pub use self::{
    affinity::Affinity,
    backoff::{Backoff, InvalidBackoff},
    budget::{Budget, InvalidRatio},
    chooser::Levels,
    classify::{Classify, ErrorsFail, RetryAfter},
    complete::{Complete, Guard, OnResponse},
    error::{Error, NoNode},
    future::ResponseFuture,
    hedge::{Hedge, InvalidQuantile},
    key::{KeyOf, NoKey},
    layer::BalanceLayer,
    nodes::Nodes,
    pick::{PickCx, Picker, Policy},
    policy::{
        ConsistentHash, IpHash, LeastRequest, LeastResponseTime, Random, RoundRobin, WeightedRandom,
        WeightedRoundRobin,
    },
    retry::{Cloned, Repeat, Retry, RetryFuture, RetryLayer},
    service::{Balance, Queue},
};
