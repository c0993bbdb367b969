//! The future of a request that may be tried on several nodes.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    super::{
        Affinity, Balance, Classify, Complete, Error, KeyOf,
        affinity::Wanted,
        future::{Attempt, Failure, Outcome},
    },
    Repeat, Retry,
    plan::{Next, Slot, Standing, Timer},
    timed::{Timed, now},
};
use crate::{
    cluster::{FailureKind, NodeId},
    rng::Rng,
};

pin_project! {
    /// The answer of the first node that gives one worth having.
    #[must_use = "futures do nothing unless polled"]
    pub struct RetryFuture<Req, R, S, K, J, C>
    where
        R: Repeat<Req>,
        S: Service<R::Attempt>,
    {
        #[pin]
        main: Attempt<S, R::Attempt, J, C>,
        // With what is there only for requests that are timed or wait: most are not.
        timed: Option<Pin<Box<Timed<S, R::Attempt, J, C>>>>,
        retry: Retry<Balance<S, K, J, C>, R>,
        kept: R::Kept,
        affinity: Option<Affinity>,
        // The nodes not to be asked again.
        tried: Vec<NodeId>,
        // How many tries there were, those under way included.
        tries: u32,
    }
}

type Answer<T, E> = Result<T, Error<E>>;

impl<Req, R, S, K, J, C> RetryFuture<Req, R, S, K, J, C>
where
    R: Repeat<Req>,
    R::Attempt: 'static,
    S: Service<R::Attempt> + Clone + Send + Sync + 'static,
    S::Error: Send + 'static,
    K: KeyOf<R::Attempt>,
    J: Classify<S::Response, S::Error> + Clone,
    C: Complete<S::Response> + Clone,
{
    #[inline]
    pub(super) fn start(retry: Retry<Balance<S, K, J, C>, R>, request: Req) -> Self {
        let Retry { balance, repeat, rules } = &retry;
        let (kept, first) = repeat.first(request);
        let affinity = balance.key.affinity(&first);
        let own = repeat.deadline(&kept);
        let (mut timed, mut is_late) = (None, false);
        if own.is_some() || rules.are_timed() {
            let now = now();
            let deadline = rules.deadline(now, own);
            is_late = deadline.is_some_and(|deadline| deadline <= now);
            timed = Some(Timed::new(now, deadline));
        }
        let main = if is_late {
            Attempt::failed(Error::Timeout { limit: Duration::ZERO, node: None, tries: 0 })
        } else {
            balance.attempt(first, &[])
        };
        Self { main, timed, retry, kept, affinity, tried: Vec::new(), tries: 1 }
    }

    /// What follows when a try is over: the answer, if it stands.
    #[inline]
    fn settle(
        self: Pin<&mut Self>,
        slot: Slot,
        outcome: Outcome<C::Response, S::Error>,
    ) -> Option<Answer<C::Response, S::Error>> {
        let Outcome { result, failure } = outcome;
        if let Some(failure) = failure {
            return self.try_again(slot, result, failure);
        }
        if let Some(timed) = self.project().timed {
            timed.as_mut().answered(slot);
        }
        Some(result)
    }

    /// What follows when a try has failed: its answer, if it stands.
    #[cold]
    fn try_again(
        mut self: Pin<&mut Self>,
        slot: Slot,
        result: Answer<C::Response, S::Error>,
        failure: Failure,
    ) -> Option<Answer<C::Response, S::Error>> {
        let this = self.as_mut().project();
        let now = now();
        let clock = this.retry.balance.cluster().clock();
        let comeback = failure.retry_after.and_then(|after| after.instant(now, clock.wall()));
        if let Some(timed) = this.timed {
            timed.as_mut().failed(slot);
            timed.as_mut().note_comeback(this.tried.last(), comeback);
            // The other try may still do better.
            if timed.hedge().is_some() || this.main.node().is_some() {
                return None;
            }
        }
        let Some((again, at)) = self.as_mut().again(now, failure, comeback) else { return Some(result) };
        let mut this = self.project();
        if let Some(at) = at {
            // Gives the node its request back: a node that has little room could not be asked again.
            drop(result);
            this.main.set(Attempt::over());
            this.timed.get_or_insert_with(|| Timed::new(now, None)).as_mut().wait(at, again);
            return None;
        }
        if let Some(timed) = this.timed {
            timed.as_mut().forgive(this.tried, now);
        }
        let next = this.retry.balance.attempt(again, this.tried);
        if next.has_failed() {
            return Some(result);
        }
        *this.tries += 1;
        this.main.set(next);
        None
    }

    /// What the next try sends, and when if not now. `None` if the answer stands.
    fn again(
        self: Pin<&mut Self>,
        now: Instant,
        Failure { kind, retry_after }: Failure,
        comeback: Option<Instant>,
    ) -> Option<(R::Attempt, Option<Instant>)> {
        let this = self.project();
        let Retry { balance, repeat, rules } = this.retry;
        if *this.tries >= rules.tries.get() || !repeat.may_repeat(this.kept, kind) {
            return None;
        }
        let wanted = Wanted { key: None, affinity: this.affinity.as_ref(), tried: this.tried };
        // Where the client asks too much, a node that says when speaks for all.
        let speaks_for_all = kind == FailureKind::Throttled && retry_after.is_some();
        let first_comeback = || this.timed.as_ref()?.first_comeback();
        let next = rules.next(
            Standing {
                now,
                deadline: this.timed.as_ref().and_then(|timed| timed.deadline()),
                retries: *this.tries - 1,
                elsewhere: !speaks_for_all && balance.shared.could_pick(wanted),
                comeback: if speaks_for_all { comeback } else { first_comeback() },
            },
            &mut Rng::from_thread(),
        );
        let at = match next {
            Next::Stop => return None,
            Next::Now => None,
            Next::At(at) => Some(at),
        };
        if rules.budget.withdraw() { Some((repeat.again(this.kept)?, at)) } else { None }
    }

    /// What follows when a timer goes off: the answer, if that is it.
    fn ring(mut self: Pin<&mut Self>, due: Timer) -> Option<Answer<C::Response, S::Error>> {
        match due {
            Timer::Deadline => self.expire().map(Err),
            Timer::Try(slot) => {
                let outcome = self.as_mut().give_up(slot)?;
                self.settle(slot, outcome)
            }
            Timer::Hedge => {
                self.hedge();
                None
            }
            Timer::Retry => {
                let mut this = self.project();
                let timed = this.timed.as_mut()?;
                timed.as_mut().forgive(this.tried, now());
                let again = timed.as_mut().resume()?;
                this.main.set(this.retry.balance.attempt(again, this.tried));
                *this.tries += 1;
                None
            }
        }
    }

    /// Sends the request to a second node, if all goes well otherwise.
    fn hedge(self: Pin<&mut Self>) {
        let this = self.project();
        let Retry { balance, repeat, rules } = this.retry;
        let (Some(timed), Some(slow)) = (this.timed, this.main.node()) else { return };
        // Others do not know a client that belongs to this node, and an answer of theirs would move it.
        let is_at_home = this.affinity.as_ref().is_some_and(|affinity| *affinity.node() == slow.node.id);
        if is_at_home
            || *this.tries >= rules.tries.get()
            || !repeat.may_hedge(this.kept)
            || balance.shared.is_in_panic(slow)
            || balance.shared.is_crowded()
        {
            return;
        }
        this.tried.push(slow.node.id.clone());
        let wanted = Wanted { key: None, affinity: this.affinity.as_ref(), tried: this.tried };
        if !balance.shared.could_pick(wanted) || !rules.budget.withdraw() {
            return;
        }
        let Some(again) = repeat.again(this.kept) else { return };
        let hedge = balance.attempt(again, this.tried);
        // One that would have to wait for its node would only add to the load.
        if hedge.node().is_some() {
            *this.tries += 1;
            timed.as_mut().start_hedge(hedge, rules);
        }
    }

    /// Gives up a try that takes too long.
    fn give_up(self: Pin<&mut Self>, slot: Slot) -> Option<Outcome<C::Response, S::Error>> {
        let this = self.project();
        let node = match slot {
            Slot::Main => this.main.time_out()?,
            Slot::Hedge => this.timed.as_mut()?.as_mut().time_out_hedge()?,
        };
        this.tried.push(node.clone());
        let limit = this.retry.rules.try_timeout.unwrap_or_default();
        let error = Error::Timeout { limit, node: Some(node), tries: *this.tries };
        let failure = Failure { kind: FailureKind::Timeout, retry_after: None };
        Some(Outcome { result: Err(error), failure: Some(failure) })
    }

    /// Gives the whole request up.
    fn expire(self: Pin<&mut Self>) -> Option<Error<S::Error>> {
        let mut this = self.project();
        let timed = this.timed.as_mut()?;
        let node = this.main.node().or_else(|| timed.hedge()?.node()).map(|member| member.node.id.clone());
        let tries = *this.tries - u32::from(this.main.is_waiting());
        let now = now();
        let is_too_slow = |since: Option<Instant>| {
            since.is_some_and(|since| this.retry.rules.is_too_slow(now.saturating_duration_since(since)))
        };
        if is_too_slow(timed.since(Slot::Main)) {
            this.main.as_mut().time_out();
        }
        if is_too_slow(timed.since(Slot::Hedge)) {
            timed.as_mut().time_out_hedge();
        }
        Some(Error::Timeout { limit: timed.limit(), node, tries })
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
    type Output = Answer<C::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let this = self.as_mut().project();
            let mut main = this.main;
            let answer = if let Poll::Ready(outcome) = main.as_mut().poll_outcome(cx, this.tried) {
                self.as_mut().settle(Slot::Main, outcome)
            } else {
                let Some(timed) = this.timed else { return Poll::Pending };
                if let Poll::Ready(outcome) = timed.as_mut().poll_hedge(cx, this.tried) {
                    self.as_mut().settle(Slot::Hedge, outcome)
                } else {
                    if main.node().is_some() {
                        timed.as_mut().see_main(&this.retry.rules, *this.tries == 1);
                    }
                    let Poll::Ready(due) = timed.as_mut().poll_timer(cx) else { return Poll::Pending };
                    self.as_mut().ring(due)
                }
            };
            if let Some(answer) = answer {
                let mut this = self.project();
                // Whatever else is under way is cancelled here and now.
                if this.timed.take().is_some() {
                    this.main.set(Attempt::over());
                }
                return Poll::Ready(answer);
            }
        }
    }
}

impl<Req, R: Repeat<Req>, S: Service<R::Attempt>, K, J, C> fmt::Debug for RetryFuture<Req, R, S, K, J, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture")
            .field("tried", &self.tried)
            .field("tries", &self.tries)
            .finish_non_exhaustive()
    }
}
