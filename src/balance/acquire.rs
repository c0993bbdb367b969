//! The slow path to a node: when the one chosen is not ready, or all are full.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{Error, NoNode, Queue, service::Shared};
use crate::{
    cluster::{FailureKind, LoadGuard, NodeId, Verdict},
    placement::KeyHash,
};

/// How many nodes that are not ready a request waits for at once.
const MAX_BUSY: usize = 3;

/// A node's service that is ready, or why there is none.
type Found<S, E> = Result<(S, LoadGuard), Error<E>>;

/// What is known of a request that has not found its node at once.
pub(super) struct Search<S, E> {
    pub(super) key: Option<KeyHash>,
    pub(super) tried: Vec<NodeId>,
    /// A node that was not ready a moment ago.
    pub(super) busy: Option<(S, LoadGuard)>,
    /// A node that failed to become ready.
    pub(super) failed: Option<(LoadGuard, E)>,
}

/// A node that is ready, and not among those tried: the first of several that are asked in turn.
pub(super) async fn acquire<S, Req>(shared: Arc<Shared<S>>, search: Search<S, S::Error>) -> Found<S, S::Error>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
{
    let Search { key, mut tried, busy, failed } = search;
    let mut busy: Vec<_> = busy.into_iter().collect();
    tried.extend(busy.iter().map(|(_, guard)| guard.member().node.id.clone()));
    let mut failure = failed.map(|(guard, error)| {
        tried.push(guard.member().node.id.clone());
        not_ready(guard, error)
    });
    loop {
        let picked = if busy.len() < MAX_BUSY { Some(shared.pick(key, &tried)) } else { None };
        let more = matches!(picked, Some(Ok(_)));
        let candidate = match (picked, failure.take()) {
            (Some(Ok(candidate)), kept) => {
                failure = kept;
                Some(candidate)
            }
            (Some(Err(_)), Some(failure)) if busy.is_empty() => return Err(failure),
            (Some(Err(why)), None) if busy.is_empty() => Some(queue_up(&shared, key, &tried, why).await?),
            (_, kept) => {
                failure = kept;
                None
            }
        };
        if let Some(candidate) = candidate {
            tried.push(candidate.1.member().node.id.clone());
            busy.push(candidate);
        }
        // While there are others to ask, those asked so far are only glanced at.
        let ready = poll_fn(|cx| match poll_any(&mut busy, cx) {
            Poll::Pending if more => Poll::Ready(None),
            ready => ready.map(Some),
        });
        match ready.await {
            Some(Ok(candidate)) => return Ok(candidate),
            Some(Err(error)) => failure = Some(error),
            None => {}
        }
    }
}

/// The first service to be ready or to fail, taken out of `busy`.
fn poll_any<S, Req>(busy: &mut Vec<(S, LoadGuard)>, cx: &mut Context<'_>) -> Poll<Found<S, S::Error>>
where
    S: Service<Req>,
{
    for index in 0..busy.len() {
        match busy[index].0.poll_ready(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(busy.swap_remove(index))),
            Poll::Ready(Err(error)) => {
                let (_, guard) = busy.swap_remove(index);
                return Poll::Ready(Err(not_ready(guard, error)));
            }
        }
    }
    Poll::Pending
}

fn not_ready<E>(mut guard: LoadGuard, source: E) -> Error<E> {
    // The node has seen nothing of the request.
    guard.judge(Verdict::Failure(FailureKind::Connect));
    Error::Node { node: guard.member().node.id.clone(), source }
}

/// Waits for a node to have room, if nodes are full and there is a queue with a place in it.
async fn queue_up<S, E>(
    shared: &Shared<S>,
    key: Option<KeyHash>,
    tried: &[NodeId],
    mut why: NoNode,
) -> Found<S, E>
where
    S: Clone + Send + Sync + 'static,
{
    let Some(Queue { limit, patience }) = shared.queue else { return Err(Error::NoNode(why)) };
    let place = shared.cluster.gate().enter(limit.get()).ok_or(Error::QueueFull)?;
    let mut timeout = pin!(tokio::time::sleep(patience));
    while why.full > 0 {
        let mut freed = pin!(place.freed());
        // Registered before the try, so that room which appears in between is not missed.
        freed.as_mut().enable();
        match shared.pick(key, tried) {
            Ok(candidate) => return Ok(candidate),
            Err(reason) => why = reason,
        }
        let freed = poll_fn(|cx| match freed.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => timeout.as_mut().poll(cx).map(|()| false),
        });
        if !freed.await {
            return Err(Error::QueueTimeout(patience));
        }
    }
    Err(Error::NoNode(why))
}
