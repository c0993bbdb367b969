//! Nodes in process, for paused time: they are as the schedule says.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    balance::Classify,
    cluster::{FailureKind, Verdict},
    health::{Answer, CheckResult},
    rng::Rng,
};
use tokio::{sync::watch, time::sleep};
use tower::Service;

use crate::schedule::Condition;

/// What a healthy node takes for a request, on average.
const WORK: Duration = Duration::from_millis(10);

/// A node that does what its condition allows.
#[derive(Clone)]
pub(crate) struct Actor {
    condition: watch::Receiver<Condition>,
}

/// What came of a request at a node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Mishap {
    #[error("refused")]
    Refused,
    #[error("broken off")]
    BrokenOff,
    #[error("it answered that it failed")]
    Failed,
}

impl Actor {
    pub(crate) fn new(condition: watch::Receiver<Condition>) -> Self {
        Self { condition }
    }

    /// What it says to a health check.
    pub(crate) async fn check(&self) -> CheckResult {
        self.clone().answer(0.0).await?;
        Ok(Answer::Healthy)
    }

    async fn answer(mut self, factor: f64) -> Result<(), Mishap> {
        let mut condition = self.condition.clone();
        match *condition.borrow_and_update() {
            Condition::Killed => return Err(Mishap::Refused),
            Condition::Failing => return Err(Mishap::Failed),
            _ => {}
        }
        let work = async {
            // Who hangs goes on where it stood once revived.
            let awake = |condition: &Condition| *condition != Condition::Hung;
            let _ = condition.wait_for(awake).await;
            let slowness = if *condition.borrow() == Condition::Slow { 20.0 } else { 1.0 };
            sleep(WORK.mul_f64(factor * slowness)).await;
            let _ = condition.wait_for(awake).await;
        };
        tokio::select! {
            biased;
            _ = self.condition.wait_for(|condition| *condition == Condition::Killed) => Err(Mishap::BrokenOff),
            () = work => Ok(()),
        }
    }
}

impl Service<()> for Actor {
    type Response = ();
    type Error = Mishap;
    type Future = Pin<Box<dyn Future<Output = Result<(), Mishap>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Mishap>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let factor = 0.5 + Rng::from_thread().unit();
        Box::pin(self.clone().answer(factor))
    }
}

/// The verdict on an actor's answer.
#[derive(Clone, Copy)]
pub(crate) struct Critic;

impl Classify<(), Mishap> for Critic {
    fn classify(&self, answer: Result<&(), &Mishap>) -> Verdict {
        match answer {
            Ok(()) => Verdict::Success,
            Err(Mishap::Refused) => Verdict::Failure(FailureKind::Connect),
            Err(Mishap::BrokenOff) => Verdict::Failure(FailureKind::Transport),
            Err(Mishap::Failed) => Verdict::Failure(FailureKind::Response),
        }
    }
}
