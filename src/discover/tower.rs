//! From `tower`'s way of saying who is there to ours.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tower::discover::{self, Discover};

use super::Update;
use crate::cluster::{Change, Node};

/// Turns a `tower` [`Discover`] into a stream of updates for [`follow`](super::follow).
///
/// `node` describes the node behind a key; equal keys must get equal ids. Where the key is a name already,
/// `|key| Node::new(key.clone())` will do.
///
/// ```
/// use buttress::{cluster::{Cluster, Node}, discover};
/// use tower::{discover::ServiceList, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let echo = || service_fn(|request: u32| async move { Ok::<_, std::io::Error>(request) });
/// let list = ServiceList::new::<u32>(vec![echo(), echo()]);
///
/// let cluster = Cluster::new([])?;
/// let updates = discover::from_tower(list, |key| Node::new(format!("node-{key}")));
/// discover::follow(cluster.clone(), updates, |_| {}).await;
/// assert!(cluster.get("node-1").is_some());
/// # Ok(())
/// # }
/// ```
pub fn from_tower<D, F>(source: D, node: F) -> FromTower<D, F>
where
    D: Discover,
    F: FnMut(&D::Key) -> Node,
{
    FromTower { source, node }
}

pin_project! {
    /// The stream that [`from_tower`] gives.
    pub struct FromTower<D, F> {
        #[pin]
        source: D,
        node: F,
    }
}

impl<D, F> Stream for FromTower<D, F>
where
    D: Discover,
    F: FnMut(&D::Key) -> Node,
{
    type Item = Result<Update<D::Service>, D::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let change = match ready!(this.source.poll_discover(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            Some(Ok(discover::Change::Insert(key, service))) => Change::Insert((this.node)(&key), service),
            Some(Ok(discover::Change::Remove(key))) => Change::Remove((this.node)(&key).id),
        };
        Poll::Ready(Some(Ok(Update::Changes(vec![change]))))
    }
}

impl<D: fmt::Debug, F> fmt::Debug for FromTower<D, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromTower").field("source", &self.source).finish_non_exhaustive()
    }
}
