//! Who is in a cluster: follows a source that knows, while requests run.
//!
//! A fixed set of nodes needs nothing from here: [`Cluster::new`](crate::cluster::Cluster::new) takes it. Where nodes
//! come and go, spawn a future that follows the source: [`follow`] for streams of updates with services, [`follow_nodes`]
//! for streams of node lists, [`from_tower`] for what implements `tower`'s `Discover`, and `dns::Dns` (feature `dns`)
//! for DNS.
//!
//! All of them share these rules:
//!
//! * The last good set stays while the source fails, says nothing, or names no node at all (unless the cluster was
//!   built with [`allow_empty`](crate::cluster::ClusterBuilder::allow_empty)).
//! * Nodes that stay keep their state. Those that leave get no new picks, and what they have in flight goes on.
//! * What the operator sets on a node stays until a list says something new of it.
//! * A source is the whole truth: a list takes out nodes that it does not name, whoever put them in.
//! * Dropping the future stops following, and the set stays as it is. The future holds the cluster; a task that runs
//!   it keeps the cluster alive until it is aborted or the source ends.
//!
//! ```
//! use buttress::{cluster::{Change, Cluster, Node, NodeId}, discover::{self, Event, Update}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::new([])?;
//! let (updates, source) = tokio::sync::mpsc::unbounded_channel::<Result<_, std::io::Error>>();
//! let source = tokio_stream::wrappers::UnboundedReceiverStream::new(source);
//! let task = tokio::spawn(discover::follow(cluster.clone(), source, |event| match event {
//!     Event::Failed(error) => eprintln!("discovery fails, the last good set stays: {error}"),
//!     Event::Refused(error) => eprintln!("discovery makes no sense: {error}"),
//!     _ => {}
//! }));
//!
//! updates.send(Ok(Update::Full(vec![(Node::new("a"), "service a"), (Node::new("b"), "service b")])))?;
//! updates.send(Ok(Update::Changes(vec![Change::Remove(NodeId::from("a"))])))?;
//! drop(updates);
//! task.await?;
//! assert_eq!(cluster.load().iter().map(|member| member.node.id.as_str()).collect::<Vec<_>>(), ["b"]);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "dns")]
pub mod dns;
mod stream;
mod tower;

pub use self::{
    stream::{Update, follow, follow_nodes},
    tower::{FromTower, from_tower},
};
use crate::cluster::ClusterError;

/// What happened while following a source, for logs and metrics.
///
/// Observers are called in the task that follows, under no lock: they may look at the cluster and change it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<E> {
    /// What the source said is in use.
    Applied {
        /// How many nodes the cluster has now.
        nodes: usize,
    },
    /// The source failed. The last good set stays.
    Failed(E),
    /// The source said what the cluster does not accept. The last good set stays.
    Refused(ClusterError),
    /// The source named more nodes than are allowed. The first ones, in the order of priority and address, are in use.
    Surplus {
        /// How many it named.
        named: usize,
        /// How many of them are kept.
        kept: usize,
    },
}
