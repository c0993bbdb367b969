//! What a request needs beside its nodes if it has limits of time, may be hedged, or waits.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use super::{
    super::{
        Classify, Complete,
        future::{Attempt, Outcome},
        hedge::Lap,
    },
    plan::{Rules, Schedule, Slot, Timer},
};
use crate::cluster::NodeId;

pin_project! {
    pub(super) struct Timed<S, Req, J, C>
    where
        S: Service<Req>,
    {
        start: Instant,
        deadline: Option<Instant>,
        schedule: Schedule,
        #[pin]
        sleep: Option<Sleep>,
        // Since when a node has the try.
        since: [Option<Instant>; 2],
        // The try beside the main one.
        #[pin]
        hedge: Option<Attempt<S, Req, J, C>>,
        // Whether its chance has come: there is only one.
        was_hedged: bool,
        // The first try, while it is measured.
        lap: Option<Lap>,
        // What the next try sends.
        next: Option<Req>,
        // The nodes that want to be asked again, and when.
        comebacks: Vec<(NodeId, Instant)>,
    }
}

/// The time that tokio's timers follow.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl<S: Service<Req>, Req, J, C> Timed<S, Req, J, C> {
    pub(super) fn new(start: Instant, deadline: Option<Instant>) -> Pin<Box<Self>> {
        let mut schedule = Schedule::default();
        schedule.set(Timer::Deadline, deadline);
        Box::pin(Self {
            start,
            deadline,
            schedule,
            sleep: None,
            since: [None; 2],
            hedge: None,
            was_hedged: false,
            lap: None,
            next: None,
            comebacks: Vec::new(),
        })
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long the request had in all.
    pub(super) fn limit(&self) -> Duration {
        self.deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(self.start))
    }

    /// The try beside the main one.
    pub(super) fn hedge(&self) -> Option<&Attempt<S, Req, J, C>> {
        self.hedge.as_ref()
    }

    /// Since when a node has the try.
    pub(super) fn since(&self, slot: Slot) -> Option<Instant> {
        self.since[slot as usize]
    }

    /// Waits for the next timer, and takes it off the schedule.
    pub(super) fn poll_timer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Timer> {
        let mut this = self.project();
        let Some((at, timer)) = this.schedule.first() else { return Poll::Pending };
        let at = tokio::time::Instant::from_std(at);
        if this.sleep.is_none() {
            this.sleep.set(Some(sleep_until(at)));
        }
        if let Some(mut sleep) = this.sleep.as_pin_mut() {
            if sleep.deadline() != at {
                sleep.as_mut().reset(at);
            }
            ready!(sleep.poll(cx));
        }
        this.schedule.set(timer, None);
        Poll::Ready(timer)
    }

    /// Starts what is timed about the main try, if it is news that a node has it.
    pub(super) fn see_main(self: Pin<&mut Self>, rules: &Rules, is_first: bool) {
        if self.since(Slot::Main).is_some() {
            return;
        }
        let this = self.project();
        let now = now();
        this.since[Slot::Main as usize] = Some(now);
        let after = |span: Duration| now.checked_add(span);
        this.schedule.set(Timer::Try(Slot::Main), rules.try_timeout.and_then(after));
        let Some(hedge) = &rules.hedge else { return };
        if is_first {
            *this.lap = hedge.lap();
        }
        if !*this.was_hedged {
            this.schedule.set(Timer::Hedge, hedge.delay().and_then(after));
        }
    }

    pub(super) fn start_hedge(self: Pin<&mut Self>, hedge: Attempt<S, Req, J, C>, rules: &Rules) {
        let mut this = self.project();
        let now = now();
        this.hedge.set(Some(hedge));
        *this.was_hedged = true;
        this.since[Slot::Hedge as usize] = Some(now);
        let end = rules.try_timeout.and_then(|limit| now.checked_add(limit));
        this.schedule.set(Timer::Try(Slot::Hedge), end);
    }

    pub(super) fn time_out_hedge(self: Pin<&mut Self>) -> Option<NodeId> {
        self.project().hedge.as_pin_mut()?.time_out()
    }

    /// Notes that a try has an answer worth having.
    pub(super) fn answered(self: Pin<&mut Self>, slot: Slot) {
        if let (Slot::Main, Some(lap)) = (slot, self.project().lap.take()) {
            lap.answered();
        }
    }

    /// Ends what is timed about a try that failed.
    pub(super) fn failed(self: Pin<&mut Self>, slot: Slot) {
        let mut this = self.project();
        this.since[slot as usize] = None;
        this.schedule.set(Timer::Try(slot), None);
        match slot {
            Slot::Main => {
                *this.lap = None;
                this.schedule.set(Timer::Hedge, None);
            }
            Slot::Hedge => this.hedge.set(None),
        }
    }

    /// Notes when a node wants to be asked again, if it does.
    pub(super) fn note_comeback(self: Pin<&mut Self>, node: Option<&NodeId>, at: Option<Instant>) {
        self.project().comebacks.extend(node.cloned().zip(at));
    }

    /// When the first node wants to be asked again.
    pub(super) fn first_comeback(&self) -> Option<Instant> {
        self.comebacks.iter().map(|(_, at)| *at).min()
    }

    /// Lets nodes be asked again whose time has come.
    pub(super) fn forgive(self: Pin<&mut Self>, tried: &mut Vec<NodeId>, now: Instant) {
        self.project().comebacks.retain(|(node, at)| {
            let is_early = *at > now;
            if !is_early {
                tried.retain(|tried| tried != node);
            }
            is_early
        });
    }

    /// Keeps what the next try sends until then.
    pub(super) fn wait(self: Pin<&mut Self>, until: Instant, next: Req) {
        let this = self.project();
        *this.next = Some(next);
        this.schedule.set(Timer::Retry, Some(until));
    }

    /// What the next try sends, after the wait.
    pub(super) fn resume(self: Pin<&mut Self>) -> Option<Req> {
        self.project().next.take()
    }
}

impl<S, Req, J, C> Timed<S, Req, J, C>
where
    S: Service<Req>,
    J: Classify<S::Response, S::Error>,
    C: Complete<S::Response>,
{
    pub(super) fn poll_hedge(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        tried: &mut Vec<NodeId>,
    ) -> Poll<Outcome<C::Response, S::Error>> {
        self.project().hedge.as_pin_mut().map_or(Poll::Pending, |hedge| hedge.poll_outcome(cx, tried))
    }
}
