//! The slow path to a node: when the one chosen is not ready, or all are full.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tower_service::Service;

use super::{Affinity, Error, NoNode, Queue, affinity::Wanted, service::Shared};
use crate::{
    cluster::{FailureKind, LoadGuard, NodeId, Place, Verdict},
    placement::KeyHash,
};

/// How many nodes that are not ready a request waits for at once.
const MAX_BUSY: usize = 3;

/// A node's service, and the guard that counts the request in there.
type Candidate<S> = (S, LoadGuard);

/// A node's service that is ready.
pub(super) struct Acquired<S> {
    pub(super) service: S,
    pub(super) guard: LoadGuard,
    /// The nodes that failed to become ready before.
    pub(super) failed: Vec<NodeId>,
}

/// A node that is ready, and not among those tried: the first of several that are asked in turn.
pub(super) async fn acquire<S, Req>(
    shared: Arc<Shared<S>>,
    mut search: Search<S, S::Error>,
) -> Result<Acquired<S>, Error<S::Error>>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
{
    let gate = shared.cluster.gate();
    let mut place = None;
    loop {
        // Taken before the look at the cluster: no change falls in between.
        let changed = pin!(gate.changed());
        search.leave_lost(&shared);
        // Nobody queues up behind himself.
        place = place.filter(|_| !search.busy.is_empty());
        let next = search.next(&shared);
        if let Some(place) = &place {
            shared.hand_on(place);
        }
        let candidate = match next {
            Ok(Next::Ask(service, guard)) => Some((service, guard)),
            Ok(Next::Wait { for_room }) => {
                // However long the line is: the request waits anyway.
                place = if for_room { place.or_else(|| gate.enter(usize::MAX)) } else { None };
                None
            }
            Ok(Next::QueueUp(queue)) => match search.queue_up(&shared, queue).await {
                Ok(candidate) => Some(candidate),
                Err(error) => return Err(search.error(error)),
            },
            Err(why) => return Err(search.error(Error::NoNode(why))),
        };
        let answer = match candidate {
            // While there are others to ask, those asked so far are only glanced at.
            Some((service, guard)) => {
                search.ask(service, guard);
                poll_fn(|cx| Poll::Ready(search.poll_busy(cx))).await
            }
            None => search.first_ready(place.as_ref(), changed).await,
        };
        match answer {
            Poll::Ready(Ok((service, guard))) => {
                return Ok(Acquired { service, guard, failed: std::mem::take(&mut search.failed) });
            }
            Poll::Ready(Err((guard, error))) => search.give_up(guard, error),
            Poll::Pending => {}
        }
    }
}

impl<S: Clone + Send + Sync + 'static> Shared<S> {
    /// Calls those behind to what the one at `place` leaves, or may not use because it tried that node before.
    fn hand_on(&self, place: &Place<'_>) {
        if place.is_shared() && self.could_pick(Wanted::default()) {
            place.pass_on();
        }
    }
}

/// The search for a node, by a request that has not found one at once.
pub(super) struct Search<S, E> {
    key: Option<KeyHash>,
    affinity: Option<Affinity>,
    /// Nodes not to be asked: they had the request before, failed to become ready, or are asked already.
    tried: Vec<NodeId>,
    /// Nodes that are not ready yet. They have seen nothing of the request.
    busy: Vec<Candidate<S>>,
    /// Nodes that failed to become ready.
    failed: Vec<NodeId>,
    /// What the last of them said.
    error: Option<Error<E>>,
    /// When the patience in the queue ends. Whoever comes back to it has the same patience left.
    patient_until: Option<Instant>,
}

/// What a search does next.
enum Next<S> {
    /// Asks this node too.
    Ask(S, LoadGuard),
    /// Waits for those that it has asked, and for others to have room if some are full.
    Wait { for_room: bool },
    /// Waits for a node to have room.
    QueueUp(Queue),
}

impl<S, E> Search<S, E> {
    /// A search for a node that is not among `tried`.
    pub(super) fn new(key: Option<KeyHash>, affinity: Option<Affinity>, tried: Vec<NodeId>) -> Self {
        Self { key, affinity, tried, busy: Vec::new(), failed: Vec::new(), error: None, patient_until: None }
    }

    /// The same, after a first node was found not to be ready yet.
    pub(super) fn waiting_for(mut self, service: S, guard: LoadGuard) -> Self {
        self.ask(service, guard);
        self
    }

    /// The same, after a first node failed to become ready.
    pub(super) fn without(mut self, guard: LoadGuard, error: E) -> Self {
        self.tried.push(guard.member().node.id.clone());
        self.give_up(guard, error);
        self
    }

    fn ask(&mut self, service: S, guard: LoadGuard) {
        self.tried.push(guard.member().node.id.clone());
        self.busy.push((service, guard));
    }

    fn give_up(&mut self, mut guard: LoadGuard, source: E) {
        // The node has seen nothing of the request.
        guard.judge(Verdict::Failure(FailureKind::Connect));
        let node = guard.member().node.id.clone();
        self.failed.push(node.clone());
        self.error = Some(Error::Node { node, source });
    }

    /// Why there is no node. What one of them said tells more than that all others are full.
    fn error(&mut self, error: Error<E>) -> Error<E> {
        self.error.take().unwrap_or(error)
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted { key: self.key, affinity: self.affinity.as_ref(), tried: &self.tried }
    }
}

impl<S: Clone + Send + Sync + 'static, E> Search<S, E> {
    /// Leaves nodes that were removed, changed or found down since they were asked.
    fn leave_lost(&mut self, shared: &Shared<S>) {
        let lost = |(_, guard): &mut Candidate<S>| !shared.is_current(guard);
        for (_, guard) in self.busy.extract_if(.., lost) {
            self.tried.retain(|id| *id != guard.member().node.id);
            guard.withdraw();
        }
    }

    fn next(&self, shared: &Shared<S>) -> Result<Next<S>, NoNode> {
        if self.busy.len() == MAX_BUSY {
            return Ok(Next::Wait { for_room: false });
        }
        let waits = !self.busy.is_empty();
        let queue = shared.queue.filter(|_| !waits);
        // Whoever comes while others wait for room stands behind them.
        if let Some(queue) = queue.filter(|_| shared.cluster.gate().is_crowded()) {
            return Ok(Next::QueueUp(queue));
        }
        match (shared.pick(self.wanted()), queue) {
            (Ok((service, guard)), _) => Ok(Next::Ask(service, guard)),
            (Err(why), _) if waits => Ok(Next::Wait { for_room: why.full > 0 }),
            (Err(why), Some(queue)) if why.full > 0 => Ok(Next::QueueUp(queue)),
            (Err(why), _) => Err(why),
        }
    }

    /// Waits in the queue for a node to have room.
    async fn queue_up(&mut self, shared: &Shared<S>, queue: Queue) -> Result<Candidate<S>, Error<E>> {
        let Queue { limit, patience } = queue;
        let place = shared.cluster.gate().enter(limit.get()).ok_or(Error::QueueFull)?;
        let deadline = *self.patient_until.get_or_insert_with(|| after(patience));
        let mut timeout = pin!(sleep_until(deadline));
        loop {
            let called = poll_fn(|cx| match place.poll_called(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => timeout.as_mut().poll(cx).map(|()| false),
            });
            if !called.await {
                return Err(Error::QueueTimeout(patience));
            }
            let picked = shared.pick(self.wanted());
            shared.hand_on(&place);
            match picked {
                Err(why) if why.full > 0 => {}
                picked => return picked.map_err(Error::NoNode),
            }
        }
    }
}

impl<S, E> Search<S, E> {
    /// The first of the busy nodes to be ready or to fail, taken out. Pending if the cluster changes before, or whoever
    /// stands at `place` is called.
    async fn first_ready<Req>(
        &mut self,
        place: Option<&Place<'_>>,
        mut changed: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<Result<Candidate<S>, (LoadGuard, E)>>
    where
        S: Service<Req, Error = E>,
    {
        poll_fn(|cx| match self.poll_busy(cx) {
            Poll::Pending if place.is_some_and(|place| place.poll_called(cx).is_ready()) => {
                Poll::Ready(Poll::Pending)
            }
            Poll::Pending => changed.as_mut().poll(cx).map(|()| Poll::Pending),
            ready @ Poll::Ready(_) => Poll::Ready(ready),
        })
        .await
    }

    fn poll_busy<Req>(&mut self, cx: &mut Context<'_>) -> Poll<Result<Candidate<S>, (LoadGuard, E)>>
    where
        S: Service<Req, Error = E>,
    {
        for index in 0..self.busy.len() {
            if let Poll::Ready(ready) = self.busy[index].0.poll_ready(cx) {
                let (service, guard) = self.busy.swap_remove(index);
                return Poll::Ready(match ready {
                    Ok(()) => Ok((service, guard)),
                    Err(error) => Err((guard, error)),
                });
            }
        }
        Poll::Pending
    }
}

/// The request does not count for nodes that it leaves.
impl<S, E> Drop for Search<S, E> {
    fn drop(&mut self) {
        for (_, guard) in self.busy.drain(..) {
            guard.withdraw();
        }
    }
}

/// The end of a span from now on, or a time that nobody lives to see.
fn after(span: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(span).unwrap_or(now + Duration::from_secs(30 * 365 * 86_400))
}
