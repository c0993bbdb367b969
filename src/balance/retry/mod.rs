//! Trying again on another node.

mod future;
mod plan;
mod repeat;
mod timed;

use std::{
    fmt,
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower_layer::Layer;
use tower_service::Service;

use self::plan::Rules;
pub use self::{
    future::RetryFuture,
    repeat::{Cloned, Repeat},
};
use super::{Backoff, Balance, Budget, Classify, Complete, Error, Hedge, KeyOf};

/// Sends a request that failed to the next node, within a [`Budget`].
///
/// What may be sent again is for [`Repeat`] to say, and only before any of the answer has gone out. Nodes that failed the
/// request, or failed to become ready for it, are not tried again. When no other node is left, the tries are used up or
/// the budget is empty, the last answer stands. (If the nodes that are left fill up while the request is on its way there,
/// the error says so instead.) Clones share the budget.
///
/// A try can be [timed](Self::try_timeout), and so can [all of it](Self::timeout), and a try that takes long can be
/// [hedged](Self::hedge). Times end when an answer begins: a body takes as long as it takes. They need a tokio runtime with
/// its timer enabled; without them, there is no timer.
///
/// ```
/// use std::time::Duration;
/// use buttress::{balance::{Balance, Budget, Cloned, Hedge, LeastRequest, Retry}, cluster::{Cluster, Node}};
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
///
/// // With more rules:
/// let service = service
///     .tries(2)
///     .budget(Budget::new(0.1, 20)?)
///     .try_timeout(Duration::from_secs(2))
///     .timeout(Duration::from_secs(5))
///     .hedge(Hedge::quantile(0.95)?);
/// # let _ = service;
/// # Ok(())
/// # }
/// ```
///
/// # Nodes that say when
///
/// A node that turns a request away with `Retry-After` is taken at its word. With 503 it speaks for itself, so others are
/// asked at once; if there is none, and the request has a deadline that is later, the node is asked again at the time it
/// gave. With 429 it speaks for the service: no node is asked before that time, and without such a deadline the answer
/// stands.
pub struct Retry<B, R> {
    balance: B,
    repeat: R,
    rules: Arc<Rules>,
}

impl<B, R> Retry<B, R> {
    /// Retries on up to two more nodes, within the default [`Budget`], at once and with no limit of time.
    pub fn new(balance: B, repeat: R) -> Self {
        Self { balance, repeat, rules: Arc::default() }
    }

    /// Sets the budget, which may be shared with other services. Hedges are paid from it too.
    #[must_use]
    pub fn budget(self, budget: impl Into<Arc<Budget>>) -> Self {
        self.rule(|rules| rules.budget = budget.into())
    }

    /// Sets on how many nodes a request is tried in all, hedges included; 0 counts as 1.
    #[must_use]
    pub fn tries(self, tries: u32) -> Self {
        self.rule(|rules| rules.tries = NonZeroU32::new(tries).unwrap_or(NonZeroU32::MIN))
    }

    /// Waits before each retry. Unless set, another node is asked at once: what ails one node mostly does not ail the next.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.rule(|rules| rules.backoff = Some(backoff))
    }

    /// Sends a request that a node is slow to answer to another one too, once. Never to the same node, nor where health is
    /// ignored because too few nodes are well, and only requests that [may be hedged](Repeat::may_hedge). A request that is
    /// with the node that it [belongs to](super::Affinity) stays there alone.
    ///
    /// The first answer that is no failure wins, and the other try is cancelled at once. A failure is not retried while the
    /// other try is under way.
    #[must_use]
    pub fn hedge(self, hedge: Hedge) -> Self {
        self.rule(|rules| rules.hedge = Some(hedge))
    }

    /// Sets how long a node may take to begin its answer, from when it gets the request, whose body it is sent in this time
    /// too. Then the try is given up, and counts as a [timeout](crate::cluster::FailureKind::Timeout) of that node.
    #[must_use]
    pub fn try_timeout(self, limit: Duration) -> Self {
        self.rule(|rules| rules.try_timeout = Some(limit))
    }

    /// Sets how long it may take in all until an answer begins: tries, waits and the queue. If the request
    /// [says itself](Repeat::deadline) when that is over, what comes first counts.
    ///
    /// A node that has the request at the end counts as too slow only if it had it for half of this time or more.
    #[must_use]
    pub fn timeout(self, limit: Duration) -> Self {
        self.rule(|rules| rules.timeout = Some(limit))
    }

    fn rule(mut self, set: impl FnOnce(&mut Rules)) -> Self {
        set(Arc::make_mut(&mut self.rules));
        self
    }
}

impl<B: Clone, R: Clone> Clone for Retry<B, R> {
    fn clone(&self) -> Self {
        let (balance, repeat) = (self.balance.clone(), self.repeat.clone());
        Self { balance, repeat, rules: Arc::clone(&self.rules) }
    }
}

impl<B: fmt::Debug, R> fmt::Debug for Retry<B, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("balance", &self.balance)
            .field("rules", &self.rules)
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
        self.rules.budget.deposit();
        RetryFuture::start(self.clone(), request)
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

    /// As [`Retry::backoff`].
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self(self.0.backoff(backoff))
    }

    /// As [`Retry::hedge`].
    #[must_use]
    pub fn hedge(self, hedge: Hedge) -> Self {
        Self(self.0.hedge(hedge))
    }

    /// As [`Retry::try_timeout`].
    #[must_use]
    pub fn try_timeout(self, limit: Duration) -> Self {
        Self(self.0.try_timeout(limit))
    }

    /// As [`Retry::timeout`].
    #[must_use]
    pub fn timeout(self, limit: Duration) -> Self {
        Self(self.0.timeout(limit))
    }
}

impl<B, R: Clone> Layer<B> for RetryLayer<R> {
    type Service = Retry<B, R>;

    fn layer(&self, balance: B) -> Retry<B, R> {
        let Retry { balance: (), repeat, rules } = self.0.clone();
        Retry { balance, repeat, rules }
    }
}
