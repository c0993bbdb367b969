//! What becomes of a request, and when: told everything, does nothing.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use super::super::{Backoff, Budget, Hedge};
use crate::rng::Rng;

/// Three nodes have a say; a request that fails on all of them fails.
const TRIES: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);

/// What holds for every request.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) budget: Arc<Budget>,
    pub(super) tries: NonZeroU32,
    pub(super) backoff: Option<Backoff>,
    pub(super) hedge: Option<Hedge>,
    pub(super) try_timeout: Option<Duration>,
    pub(super) timeout: Option<Duration>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            budget: Arc::default(),
            tries: TRIES,
            backoff: None,
            hedge: None,
            try_timeout: None,
            timeout: None,
        }
    }
}

/// Where a request stands that may be sent again, but for the budget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) now: Instant,
    /// When all must be over.
    pub(super) deadline: Option<Instant>,
    /// How many retries there were.
    pub(super) retries: u32,
    /// Whether there is a node that it was not tried on, and that can take it.
    pub(super) elsewhere: bool,
    /// When the first node that turned it away wants to be asked again.
    pub(super) comeback: Option<Instant>,
}

/// What follows a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The answer stands.
    Stop,
    /// The next node is asked.
    Now,
    /// The next node is asked then.
    At(Instant),
}

impl Rules {
    /// Whether requests need a clock even if they say nothing of time themselves.
    pub(super) fn are_timed(&self) -> bool {
        self.timeout.is_some() || self.try_timeout.is_some() || self.hedge.is_some()
    }

    /// When a request that starts now must be over, whose own deadline is the other.
    pub(super) fn deadline(&self, now: Instant, own: Option<Instant>) -> Option<Instant> {
        let ours = self.timeout.and_then(|timeout| now.checked_add(timeout));
        ours.into_iter().chain(own).min()
    }

    /// Whether a node that had a request for so long, when its time was over, was too slow. A client that asks for an answer
    /// in no time shall not bring the nodes into disrepute.
    pub(super) fn is_too_slow(&self, had_it: Duration) -> bool {
        self.timeout.is_some_and(|timeout| had_it >= timeout / 2)
    }

    /// Another node is asked after the backoff, if there is one. Otherwise those that want to be asked again are, after the
    /// time that they asked for. Only that a request with a deadline waits for, and no request waits beyond its deadline.
    pub(super) fn next(&self, standing: Standing, rng: &mut Rng) -> Next {
        let Standing { now, deadline, retries, elsewhere, comeback } = standing;
        let from = match comeback {
            _ if elsewhere => now,
            Some(comeback) if deadline.is_some() => comeback.max(now),
            _ => return Next::Stop,
        };
        // Those that were told the same time would all come at once.
        let delay = self.backoff.map_or(Duration::ZERO, |backoff| backoff.delay(retries, rng));
        match from.checked_add(delay) {
            Some(at) if deadline.is_some_and(|deadline| at >= deadline) => Next::Stop,
            Some(at) if at == now => Next::Now,
            Some(at) => Next::At(at),
            None => Next::Stop,
        }
    }
}

/// What a request waits for beside its nodes. Of those due at the same time, the first is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The end of all.
    Deadline,
    /// The end of a try.
    Try(Slot),
    /// A second node is asked beside the first.
    Hedge,
    /// The next node is asked.
    Retry,
}

/// One of the two tries that may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Main,
    Hedge,
}

/// When which timer goes off.
#[derive(Clone, Debug, Default)]
pub(super) struct Schedule([Option<Instant>; 5]);

impl Schedule {
    const TIMERS: [Timer; 5] =
        [Timer::Deadline, Timer::Try(Slot::Main), Timer::Try(Slot::Hedge), Timer::Hedge, Timer::Retry];

    fn slot(timer: Timer) -> usize {
        match timer {
            Timer::Deadline => 0,
            Timer::Try(Slot::Main) => 1,
            Timer::Try(Slot::Hedge) => 2,
            Timer::Hedge => 3,
            Timer::Retry => 4,
        }
    }

    /// Sets a timer, or with `None` stops it.
    pub(super) fn set(&mut self, timer: Timer, at: Option<Instant>) {
        self.0[Self::slot(timer)] = at;
    }

    /// The timer that goes off next, and when.
    pub(super) fn first(&self) -> Option<(Instant, Timer)> {
        let set = self.0.iter().zip(Self::TIMERS).filter_map(|(at, timer)| Some(((*at)?, timer)));
        set.min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{option, prop_assert, proptest};

    use super::*;
    use crate::time::{Clock, ManualClock};

    const SECOND: Duration = Duration::from_secs(1);

    fn standing() -> Standing {
        let now = ManualClock::new().now();
        Standing { now, deadline: None, retries: 0, elsewhere: true, comeback: None }
    }

    fn next(rules: &Rules, standing: Standing) -> Next {
        rules.next(standing, &mut Rng::seeded(1))
    }

    #[test]
    fn another_node_is_asked_at_once() {
        let at = standing();
        let rules = Rules::default();
        assert_eq!(next(&rules, at), Next::Now);
        assert_eq!(next(&rules, Standing { comeback: Some(at.now + SECOND), ..at }), Next::Now);
        assert_eq!(next(&rules, Standing { elsewhere: false, ..at }), Next::Stop);
    }

    #[test]
    fn a_node_that_wants_to_be_asked_again_is_waited_for_if_the_deadline_allows() {
        let rules = Rules::default();
        let at = Standing { elsewhere: false, ..standing() };
        let at = Standing { comeback: Some(at.now + SECOND), ..at };
        assert_eq!(next(&rules, at), Next::Stop, "nobody said how long it may take");
        let early = Standing { deadline: Some(at.now + SECOND), ..at };
        assert_eq!(next(&rules, early), Next::Stop);
        let late = Standing { deadline: Some(at.now + 2 * SECOND), ..at };
        assert_eq!(next(&rules, late), Next::At(at.now + SECOND));
        let past = Standing { now: at.now + SECOND, ..late };
        assert_eq!(next(&rules, past), Next::Now);
    }

    #[test]
    fn a_backoff_never_ends_beyond_the_deadline() {
        let rules = Rules { backoff: Backoff::new(SECOND, SECOND).ok(), ..Rules::default() };
        let mut rng = Rng::seeded(7);
        let at = standing();
        let deadline = at.now + SECOND / 2;
        let mut stopped = 0;
        for _ in 0..1000 {
            match rules.next(Standing { deadline: Some(deadline), ..at }, &mut rng) {
                Next::At(at) => assert!(at < deadline),
                Next::Stop => stopped += 1,
                Next::Now => {}
            }
        }
        assert!((400..600).contains(&stopped), "{stopped}");
    }

    #[test]
    fn of_timers_due_together_the_deadline_is_first() {
        let now = standing().now;
        let mut schedule = Schedule::default();
        assert_eq!(schedule.first(), None);
        for timer in Schedule::TIMERS.into_iter().rev() {
            schedule.set(timer, Some(now));
            assert_eq!(schedule.first(), Some((now, timer)));
        }
        schedule.set(Timer::Deadline, Some(now + SECOND));
        assert_eq!(schedule.first(), Some((now, Timer::Try(Slot::Main))));
    }

    proptest! {
        #[test]
        fn nobody_comes_too_early_or_too_late(
            deadline in option::of(0..10_000_u64), comeback in option::of(0..10_000_u64),
            elsewhere: bool, retries in 0..100_u32, backs_off: bool, seed: u64,
        ) {
            let backoff = backs_off.then(|| Backoff::new(SECOND / 100, SECOND).unwrap());
            let rules = Rules { backoff, ..Rules::default() };
            let now = standing().now;
            let after = |millis: u64| now + Duration::from_millis(millis);
            let (deadline, comeback) = (deadline.map(after), comeback.map(after));
            let standing = Standing { now, deadline, retries, elsewhere, comeback };
            let when = match rules.next(standing, &mut Rng::seeded(seed)) {
                Next::Stop => {
                    prop_assert!(!elsewhere || deadline.is_some());
                    return Ok(());
                }
                Next::Now => now,
                Next::At(at) => at,
            };
            prop_assert!(when >= now && deadline.is_none_or(|deadline| when < deadline));
            prop_assert!(elsewhere || comeback.is_some_and(|comeback| comeback <= when && deadline.is_some()));
            prop_assert!(when <= comeback.filter(|_| !elsewhere).unwrap_or(now) + SECOND);
        }
    }
}
