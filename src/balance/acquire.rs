//! The slow path to a node: when the one chosen is not ready, or all are full.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tower_service::Service;

use super::{Affinity, Error, Queue, affinity::Wanted, service::Shared};
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
    pub(super) affinity: Option<Affinity>,
    pub(super) tried: Vec<NodeId>,
    /// Nodes that were not ready a moment ago.
    pub(super) busy: Waiting<S>,
    /// A node that failed to become ready.
    pub(super) failed: Option<(LoadGuard, E)>,
}

/// Nodes that a request waits for. They have seen nothing of it, and it does not count for those that it leaves.
pub(super) struct Waiting<S>(pub(super) Vec<(S, LoadGuard)>);

impl<S> Drop for Waiting<S> {
    fn drop(&mut self) {
        for (_, guard) in self.0.drain(..) {
            guard.withdraw();
        }
    }
}

/// A node that is ready, and not among those tried: the first of several that are asked in turn.
pub(super) async fn acquire<S, Req>(shared: Arc<Shared<S>>, search: Search<S, S::Error>) -> Found<S, S::Error>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
{
    let Search { key, affinity, mut tried, mut busy, failed } = search;
    let mut deadline = None;
    tried.extend(busy.0.iter().map(|(_, guard)| guard.member().node.id.clone()));
    let mut failure = failed.map(|(guard, error)| {
        tried.push(guard.member().node.id.clone());
        not_ready(guard, error)
    });
    loop {
        let queue = shared.queue.filter(|_| busy.0.is_empty());
        let (candidate, waits) = if queue.is_some() && shared.cluster.gate().is_crowded() {
            (None, queue)
        } else if busy.0.len() == MAX_BUSY {
            (None, None)
        } else {
            match shared.pick(Wanted { key, affinity: affinity.as_ref(), tried: &tried }) {
                Ok(candidate) => (Some(candidate), None),
                Err(why) if busy.0.is_empty() && (queue.is_none() || why.full == 0) => {
                    return Err(failure.unwrap_or(Error::NoNode(why)));
                }
                Err(_) => (None, queue),
            }
        };
        let candidate = match waits {
            Some(queue) => {
                let wanted = Wanted { key, affinity: affinity.as_ref(), tried: &tried };
                match queue_up(&shared, queue, &mut deadline, wanted).await {
                    Ok(candidate) => Some(candidate),
                    // What a node said tells more.
                    Err(error) => return Err(failure.unwrap_or(error)),
                }
            }
            None => candidate,
        };
        let more = candidate.is_some();
        if let Some(candidate) = candidate {
            tried.push(candidate.1.member().node.id.clone());
            busy.0.push(candidate);
        }
        // While there are others to ask, those asked so far are only glanced at.
        let ready = poll_fn(|cx| match poll_any(&mut busy.0, cx) {
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

/// The end of a span from now on, or a time that nobody lives to see.
fn after(span: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(span).unwrap_or(now + Duration::from_secs(30 * 365 * 86_400))
}

/// Waits in the queue for a node to have room.
async fn queue_up<S, E>(
    shared: &Shared<S>,
    queue: Queue,
    deadline: &mut Option<Instant>,
    wanted: Wanted<'_>,
) -> Found<S, E>
where
    S: Clone + Send + Sync + 'static,
{
    let Queue { limit, patience } = queue;
    let place = shared.cluster.gate().enter(limit.get()).ok_or(Error::QueueFull)?;
    // Whoever comes back, because its node failed to become ready, has the same patience left.
    let deadline = *deadline.get_or_insert_with(|| after(patience));
    let mut timeout = pin!(sleep_until(deadline));
    loop {
        let called = poll_fn(|cx| match place.poll_called(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => timeout.as_mut().poll(cx).map(|()| false),
        });
        if !called.await {
            return Err(Error::QueueTimeout(patience));
        }
        let picked = shared.pick(wanted);
        // What this one leaves, or may not use because it tried that node before, is for those behind.
        if place.is_shared() && shared.could_pick(Wanted::default()) {
            place.pass_on();
        }
        match picked {
            Err(why) if why.full > 0 => {}
            picked => return picked.map_err(Error::NoNode),
        }
    }
}
