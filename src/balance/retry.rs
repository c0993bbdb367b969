//! Trying again on another node.

use std::{
    fmt,
    future::Future,
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Affinity, Balance, Budget, Classify, Complete, Error, KeyOf,
    affinity::Wanted,
    future::{Attempt, Outcome},
};
use crate::cluster::{FailureKind, NodeId, Verdict};

/// How a request is sent more than once, and when that is safe.
pub trait Repeat<Req> {
    /// What each attempt sends.
    type Attempt;
    /// What is kept of the request until an answer is there.
    type Kept;

    /// Takes a request in and gives its first attempt.
    fn first(&self, request: Req) -> (Self::Kept, Self::Attempt);

    /// Whether the request may be sent again after this failure. If in doubt it may not: a payment made twice is worse
    /// than one refused.
    fn may_repeat(&self, kept: &Self::Kept, failure: FailureKind) -> bool;

    /// Another attempt, after [`may_repeat`](Self::may_repeat) allowed it. `None` if it cannot be made after all.
    fn again(&self, kept: &mut Self::Kept) -> Option<Self::Attempt>;
}

/// Sends clones of the request; `P` says which requests may be repeated after a failure that may have done something.
///
/// Failures before the node saw anything of it are always retried.
#[derive(Clone, Copy, Debug)]
pub struct Cloned<P> {
    is_idempotent: P,
}

impl<P> Cloned<P> {
    /// Repeats a request for which `is_idempotent` holds after any failure, and others only when no node has seen them.
    pub const fn new(is_idempotent: P) -> Self {
        Self { is_idempotent }
    }
}

impl<Req: Clone, P: Fn(&Req) -> bool> Repeat<Req> for Cloned<P> {
    type Attempt = Req;
    type Kept = Req;

    fn first(&self, request: Req) -> (Req, Req) {
        (request.clone(), request)
    }

    fn may_repeat(&self, kept: &Req, failure: FailureKind) -> bool {
        failure == FailureKind::Connect || (self.is_idempotent)(kept)
    }

    fn again(&self, kept: &mut Req) -> Option<Req> {
        Some(kept.clone())
    }
}

/// Sends a request that failed to the next node, within a [`Budget`].
///
/// Nodes that answered are not tried again. When no other node is left, the tries are used up or the budget is empty, the
/// last answer stands. (If the last node with room fills up at that very moment, the error says so instead.) Clones share
/// the budget.
///
/// ```
/// use buttress::{balance::{Balance, Cloned, LeastRequest, Retry}, cluster::{Cluster, Node}};
/// use tower::{Service, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = |works: bool| {
///     service_fn(move |request: u32| async move {
///         if works { Ok(request * 2) } else { Err(std::io::Error::other("out of order")) }
///     })
/// };
/// let cluster = Cluster::new([(Node::new("good"), node(true)), (Node::new("bad"), node(false))])?;
/// let mut service = Retry::new(Balance::new(cluster, LeastRequest::new()), Cloned::new(|_: &u32| true));
/// for _ in 0..20 {
///     assert_eq!(service.ready().await?.call(21).await?, 42);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Retry<B, R> {
    balance: B,
    repeat: R,
    budget: Arc<Budget>,
    tries: NonZeroU32,
}

/// Three nodes have a say; a request that fails on all of them fails.
const TRIES: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);

impl<B, R> Retry<B, R> {
    /// Retries on up to two more nodes, within the default [`Budget`].
    pub fn new(balance: B, repeat: R) -> Self {
        Self { balance, repeat, budget: Arc::default(), tries: TRIES }
    }

    /// Sets the budget, which may be shared with other services.
    #[must_use]
    pub fn budget(mut self, budget: impl Into<Arc<Budget>>) -> Self {
        self.budget = budget.into();
        self
    }

    /// Sets on how many nodes a request is tried in all; 0 counts as 1.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = NonZeroU32::new(tries).unwrap_or(NonZeroU32::MIN);
        self
    }
}

impl<B: Clone, R: Clone> Clone for Retry<B, R> {
    fn clone(&self) -> Self {
        let (balance, repeat) = (self.balance.clone(), self.repeat.clone());
        Self { balance, repeat, budget: Arc::clone(&self.budget), tries: self.tries }
    }
}

impl<B: fmt::Debug, R> fmt::Debug for Retry<B, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("balance", &self.balance)
            .field("budget", &self.budget)
            .field("tries", &self.tries)
            .finish_non_exhaustive()
    }
}

impl<Req, R, S, K, J, C> Service<Req> for Retry<Balance<S, K, J, C>, R>
where
    R: Repeat<Req> + Clone,
    R::Attempt: 'static,
    S: Service<R::Attempt> + Clone + Send + Sync + 'static,
    S::Error: Send + 'static,
    K: KeyOf<R::Attempt> + Clone,
    J: Classify<S::Response, S::Error> + Clone,
    C: Complete<S::Response> + Clone,
{
    type Response = C::Response;
    type Error = Error<S::Error>;
    type Future = RetryFuture<Req, R, S, K, J, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        self.budget.deposit();
        let (kept, first) = self.repeat.first(request);
        let affinity = self.balance.key.affinity(&first);
        let attempt = self.balance.attempt(first, &[]);
        RetryFuture { attempt, retry: self.clone(), kept, affinity, tried: Vec::new() }
    }
}

pin_project! {
    /// The answer of the first node that gives one worth having.
    #[must_use = "futures do nothing unless polled"]
    pub struct RetryFuture<Req, R, S, K, J, C>
    where
        R: Repeat<Req>,
        S: Service<R::Attempt>,
    {
        #[pin]
        attempt: Attempt<S, R::Attempt, J, C>,
        retry: Retry<Balance<S, K, J, C>, R>,
        kept: R::Kept,
        affinity: Option<Affinity>,
        tried: Vec<NodeId>,
    }
}

impl<Req, R: Repeat<Req>, S: Service<R::Attempt>, K, J, C> fmt::Debug for RetryFuture<Req, R, S, K, J, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture").field("tried", &self.tried).finish_non_exhaustive()
    }
}

impl<Req, R, S, K, J, C> Future for RetryFuture<Req, R, S, K, J, C>
where
    R: Repeat<Req>,
    R::Attempt: 'static,
    S: Service<R::Attempt> + Clone + Send + Sync + 'static,
    S::Error: Send + 'static,
    K: KeyOf<R::Attempt>,
    J: Classify<S::Response, S::Error> + Clone,
    C: Complete<S::Response> + Clone,
{
    type Output = Result<C::Response, Error<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let Outcome { result, verdict, failed } = ready!(this.attempt.as_mut().poll_outcome(cx));
            let (Some(Verdict::Failure(kind)), Some(node)) = (verdict, failed) else {
                return Poll::Ready(result);
            };
            this.tried.push(node);
            let Retry { balance, repeat, budget, tries } = this.retry;
            let may_repeat = this.tried.len() < tries.get() as usize
                && repeat.may_repeat(this.kept, kind)
                && balance.shared.could_pick(Wanted {
                    key: None,
                    affinity: this.affinity.as_ref(),
                    tried: this.tried,
                })
                && budget.withdraw();
            let again = if may_repeat { repeat.again(this.kept) } else { None };
            let Some(again) = again else { return Poll::Ready(result) };
            // Ends the failed attempt, and gives its node the request back, before the next one starts.
            drop(result);
            let next = balance.attempt(again, this.tried);
            this.attempt.set(next);
        }
    }
}

/// Puts a [`Retry`] around a [`Balance`].
#[derive(Clone, Debug)]
pub struct RetryLayer<R>(Retry<(), R>);

impl<R> RetryLayer<R> {
    /// A layer whose services share one default [`Budget`].
    pub fn new(repeat: R) -> Self {
        Self(Retry::new((), repeat))
    }

    /// As [`Retry::budget`].
    #[must_use]
    pub fn budget(self, budget: impl Into<Arc<Budget>>) -> Self {
        Self(self.0.budget(budget))
    }

    /// As [`Retry::tries`].
    #[must_use]
    pub fn tries(self, tries: u32) -> Self {
        Self(self.0.tries(tries))
    }
}

impl<B, R: Clone> Layer<B> for RetryLayer<R> {
    type Service = Retry<B, R>;

    fn layer(&self, balance: B) -> Retry<B, R> {
        let Retry { balance: (), repeat, budget, tries } = self.0.clone();
        Retry { balance, repeat, budget, tries }
    }
}
