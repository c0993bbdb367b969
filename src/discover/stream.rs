//! Follows a stream: takes what is ready, applies it as one, and lets others have a turn.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
};

use futures_core::Stream;

use super::Event;
use crate::cluster::{Change, Cluster, ClusterError, Node};

/// How many changes are applied as one at most. Enough to take in a rollout at one go, and few enough that it takes
/// only milliseconds until other tasks get their turn.
const BATCH: usize = 1024;

/// What a list counts for in a batch. Looking through one takes far longer than noting a change.
const LIST: usize = 32;

/// What a source says of the nodes.
#[derive(Clone, Debug)]
pub enum Update<S> {
    /// All nodes that there are. Those not named here leave.
    Full(Vec<(Node, S)>),
    /// Some changes; nodes not named stay as they are.
    Changes(Vec<Change<S>>),
}

/// Applies a stream of updates to a cluster until the stream ends.
///
/// Updates that come in a burst are applied as one, and a stream that is always ready does not keep other tasks from
/// running. An error of the stream is passed to `observe`, and following goes on: a stream that fails again and again
/// should pace itself. The end of the stream is no failure: the set stays, and the future is done.
///
/// The future waits for the source between updates, so it belongs in a task of its own.
pub async fn follow<S, E>(
    cluster: Cluster<S>,
    updates: impl Stream<Item = Result<Update<S>, E>>,
    observe: impl FnMut(Event<E>),
) {
    drive(Updates { cluster, full: None, changes: Vec::new() }, updates, observe).await;
}

/// Applies a stream of node lists to a cluster until the stream ends, and makes the services of new nodes.
///
/// Each list names all nodes that there are. Nodes that stay keep their services, and so their connections, even
/// where their weight or zone has changed. Of the lists that come in a burst, only the last one is applied. Errors and
/// the end of the stream are treated as by [`follow`].
///
/// ```
/// use buttress::{cluster::{Cluster, Node}, discover};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = Cluster::new([])?;
/// let list = vec![Node::new("10.0.0.1:80"), Node::new("10.0.0.2:80")];
/// let lists = tokio_stream::iter([Ok::<_, std::io::Error>(list)]);
/// discover::follow_nodes(cluster.clone(), lists, |node| format!("http://{}", node.id), |_| {}).await;
/// assert_eq!(*cluster.get("10.0.0.2:80").ok_or("missing")?.service, "http://10.0.0.2:80");
/// # Ok(())
/// # }
/// ```
pub async fn follow_nodes<S, E>(
    cluster: Cluster<S>,
    lists: impl Stream<Item = Result<Vec<Node>, E>>,
    make: impl FnMut(&Node) -> S,
    observe: impl FnMut(Event<E>),
) {
    drive(Lists { cluster, make, waiting: None }, lists, observe).await;
}

async fn drive<U, E>(
    mut inbox: impl Inbox<U>,
    source: impl Stream<Item = Result<U, E>>,
    mut observe: impl FnMut(Event<E>),
) {
    let mut source = pin!(source);
    let mut ended = false;
    while !ended {
        let mut work = 0;
        let mut item = next(source.as_mut()).await;
        // Trouble ends a batch, so that events are observed in the order in which the source caused them.
        let trouble = loop {
            match item {
                None => {
                    ended = true;
                    break None;
                }
                Some(Err(error)) => break Some(Event::Failed(error)),
                Some(Ok(update)) => match inbox.put(update) {
                    Ok(more) => work += more,
                    Err(error) => break Some(Event::Refused(error)),
                },
            }
            if work >= BATCH {
                break None;
            }
            match ready(source.as_mut()).await {
                Poll::Ready(another) => item = another,
                Poll::Pending => break None,
            }
        };
        match inbox.apply() {
            None => {}
            Some(Ok(nodes)) => observe(Event::Applied { nodes }),
            Some(Err(error)) => observe(Event::Refused(error)),
        }
        if let Some(event) = trouble {
            observe(event);
        }
        if !ended {
            tokio::task::yield_now().await;
        }
    }
}

async fn next<S: Stream>(mut source: Pin<&mut S>) -> Option<S::Item> {
    poll_fn(|cx| source.as_mut().poll_next(cx)).await
}

/// The next item if it is there already.
async fn ready<S: Stream>(mut source: Pin<&mut S>) -> Poll<Option<S::Item>> {
    // Tokio's channels feign to be empty after a while, so that tasks make room for others. Batches are bounded for
    // that already, and a burst that is cut short costs a version for each piece.
    tokio::task::unconstrained(poll_fn(|cx| Poll::Ready(source.as_mut().poll_next(cx)))).await
}

/// Updates that wait to be applied as one.
trait Inbox<U> {
    /// Takes an update in and says how much it counts for, or refuses it and keeps those that wait.
    fn put(&mut self, update: U) -> Result<usize, ClusterError>;

    /// Applies what waits, if anything does, and says how many nodes there are now.
    fn apply(&mut self) -> Option<Result<usize, ClusterError>>;
}

struct Updates<S> {
    cluster: Cluster<S>,
    full: Option<Vec<(Node, S)>>,
    /// Those that came after `full`.
    changes: Vec<Change<S>>,
}

impl<S> Inbox<Update<S>> for Updates<S> {
    fn put(&mut self, update: Update<S>) -> Result<usize, ClusterError> {
        match update {
            Update::Full(mut nodes) => {
                // Looked through now: only one that will be accepted may make those before it void.
                nodes.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
                self.cluster.review(nodes.iter().map(|(node, _)| &node.id))?;
                self.full = Some(nodes);
                self.changes.clear();
                Ok(LIST)
            }
            Update::Changes(changes) => {
                // A bad one must not spoil the updates that it is applied with.
                if changes
                    .iter()
                    .any(|change| matches!(change, Change::Insert(node, _) if node.id.as_str().is_empty()))
                {
                    return Err(ClusterError::EmptyId);
                }
                let count = changes.len();
                self.changes.extend(changes);
                Ok(count.max(1))
            }
        }
    }

    fn apply(&mut self) -> Option<Result<usize, ClusterError>> {
        let full = self.full.take();
        let changes = std::mem::take(&mut self.changes);
        if full.is_none() && changes.is_empty() {
            return None;
        }
        let replaced = full.map_or(Ok(()), |nodes| self.cluster.replace(nodes));
        let applied = if changes.is_empty() { Ok(()) } else { self.cluster.apply(changes) };
        Some(replaced.and(applied).map(|()| self.cluster.load().len()))
    }
}

struct Lists<S, F> {
    cluster: Cluster<S>,
    make: F,
    waiting: Option<Vec<Node>>,
}

impl<S, F: FnMut(&Node) -> S> Inbox<Vec<Node>> for Lists<S, F> {
    fn put(&mut self, mut nodes: Vec<Node>) -> Result<usize, ClusterError> {
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        self.cluster.review(nodes.iter().map(|node| &node.id))?;
        self.waiting = Some(nodes);
        Ok(LIST)
    }

    fn apply(&mut self) -> Option<Result<usize, ClusterError>> {
        let nodes = self.waiting.take()?;
        let applied = self.cluster.replace_with(nodes, &mut self.make);
        Some(applied.map(|()| self.cluster.load().len()))
    }
}
