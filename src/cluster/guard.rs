//! One request in flight, and what is learned from it.

use std::{fmt, sync::Arc, time::Instant};

use super::{
    FailureKind, Member, Verdict,
    common::{Probe, nanos},
    latency::Stamp,
    state::{FAILING, NEW, Term},
};
use crate::rng::Rng;

/// One request in flight on a node.
///
/// Counts the request in when made and out when dropped, whatever ends it: an answer, an error, a dropped future, a
/// panic. It can be sent anywhere, so it can ride in a response body until the last byte. What the answer was worth
/// is said once with [`judge`](Self::judge); dropping an unjudged guard counts as cancelled.
#[must_use = "dropping the guard ends the request"]
pub struct LoadGuard {
    // Two words: it is moved around on every request.
    member: Arc<Member>,
    progress: Progress,
}

/// What is known of a request, in one word. From above: what became of it, how it was sent, the node's term when it was
/// sent, and at what time of the cluster's.
#[derive(Clone, Copy)]
struct Progress(u64);

impl Progress {
    /// What became of it: nothing yet, unless it is one of these.
    const WITHDRAWN: u64 = 1 << 62;
    const JUDGED: u64 = 2 << 62;
    /// Judged a failure: what else goes wrong with it is part of that.
    const FAILED: u64 = 3 << 62;

    /// Its latency is not asked for.
    const UNTIMED: u64 = 1 << 61;
    /// A success gives no sample of latency, and only giving up tells something.
    const QUIET: u64 = 1 << 60;
    /// It tries a node that is ejected.
    const PROBE: u64 = 1 << 59;
    /// It was sent while health was ignored: the node may be failing for what the others should have.
    const IN_PANIC: u64 = 1 << 58;

    /// Nanoseconds, which wrap around after 208 days: only differences are used.
    const SENT_AT: u64 = (1 << 54) - 1;

    #[inline]
    fn timed(nanos: u64) -> Self {
        Self(nanos & Self::SENT_AT)
    }

    #[inline]
    fn with(self, flag: u64, is_set: bool) -> Self {
        // Without a branch, so that what follows is not made twice.
        Self(self.0 | flag & u64::from(is_set).wrapping_neg())
    }

    #[inline]
    fn is(self, flags: u64) -> bool {
        self.0 & flags != 0
    }

    #[inline]
    fn is_open(self) -> bool {
        !self.is(Self::FAILED)
    }

    #[inline]
    fn is_judged(self) -> bool {
        self.is(Self::JUDGED)
    }

    fn has_failed(self) -> bool {
        self.0 & Self::FAILED == Self::FAILED
    }

    fn term(self) -> Term {
        Term::of(self.0)
    }

    #[inline]
    fn seconds_until(self, now: u64) -> f32 {
        let span = now.wrapping_sub(self.0) & Self::SENT_AT;
        // 0 if it lies ahead, as it may where two threads read the clock.
        (if span > Self::SENT_AT / 2 { 0 } else { span }) as f32 * 1e-9
    }
}

impl LoadGuard {
    /// Counts a request in, or gives `None` if the node is full.
    #[inline]
    #[must_use]
    pub fn start(member: &Arc<Member>) -> Option<Self> {
        Self::begin(member, Progress(Progress::UNTIMED))
    }

    /// Counts a request in that is sent at `now`, so that its latency is learned; `None` if the node is full.
    #[inline]
    #[must_use]
    pub fn start_at(member: &Arc<Member>, now: Instant) -> Option<Self> {
        let since = nanos(now.saturating_duration_since(member.state.common.origin));
        Self::begin(member, Progress::timed(since))
    }

    /// Counts a request in that a balancer sends, `in_panic` if health was ignored.
    #[inline]
    pub(crate) fn send(member: &Arc<Member>, in_panic: bool) -> Option<Self> {
        Self::begin(member, Progress(Progress::UNTIMED).with(Progress::IN_PANIC, in_panic))
    }

    /// As [`send`](Self::send), so many nanoseconds into the cluster's time, with a latency that is learned only now and
    /// then while the node gives an answer each millisecond: each would have next to no weight.
    #[inline]
    pub(crate) fn send_at(member: &Arc<Member>, nanos: u64, in_panic: bool, rng: &mut Rng) -> Option<Self> {
        // By chance: a rule would miss those requests that always come right after an answer.
        let is_quiet = member.state.is_sampled_at(Stamp::of(nanos)) && rng.next_u64() & 3 != 0;
        let progress = Progress::timed(nanos).with(Progress::QUIET, is_quiet);
        Self::begin(member, progress.with(Progress::IN_PANIC, in_panic))
    }

    /// Counts a request in that tries an ejected node, by a permit of this term.
    pub(crate) fn probe(member: &Arc<Member>, nanos: u64, term: Term) -> Option<Self> {
        let mut guard = Self::begin(member, Progress::timed(nanos).with(Progress::PROBE, true))?;
        guard.progress = Progress(guard.progress.0 & !Term::MASK | term.bits());
        Some(guard)
    }

    #[inline]
    fn begin(member: &Arc<Member>, progress: Progress) -> Option<Self> {
        let gauge = member.state.try_start()?;
        Some(Self { member: Arc::clone(member), progress: Progress(progress.0 | gauge & Term::MASK) })
    }

    /// The node that has the request.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Whether the request may go on waiting for its node: that is not down, nor ejected unless it is this request that
    /// tries it.
    pub(crate) fn may_wait(&self) -> bool {
        let state = &*self.member.state;
        state.is_fit() || self.progress.is(Progress::PROBE) && state.may_be_tried(self.progress.term())
    }

    /// Says what the answer was worth, as its head arrives. Only the first call counts.
    #[inline]
    pub fn judge(&mut self, verdict: Verdict) {
        if !self.progress.is_open() {
            return;
        }
        match verdict {
            Verdict::Success => self.succeed(),
            Verdict::Failure(kind) => self.fail(kind),
            Verdict::Neutral => {
                self.progress.0 |= Progress::JUDGED;
                if self.progress.is(Progress::PROBE) {
                    self.report(Probe::Void);
                }
            }
        }
    }

    /// Says that the answer broke after its head had been judged: its body ended early. An answer that failed anyway
    /// fails no more.
    pub fn break_off(&mut self) {
        if !self.progress.has_failed() {
            self.fail(FailureKind::Transport);
        }
    }

    #[inline]
    fn succeed(&mut self) {
        self.progress.0 |= Progress::JUDGED;
        let progress = self.progress;
        let state = &*self.member.state;
        let mut marks = FAILING;
        if !progress.is(Progress::UNTIMED | Progress::QUIET) {
            let now = state.common.nanos_now();
            state.learn(progress.seconds_until(now), Stamp::of(now));
            marks |= NEW;
            if state.common.attention.is_sweep_due(now) {
                self.sweep();
            }
        }
        if state.is_marked(marks) || progress.is(Progress::PROBE) {
            self.recover(marks);
        }
    }

    #[cold]
    fn recover(&self, marks: u64) {
        let state = &*self.member.state;
        let was_failing = state.recover(marks);
        if was_failing && let Some(observer) = state.common.observer() {
            observer.recovered(state);
        }
        if self.progress.is(Progress::PROBE) {
            self.report(Probe::Passed);
        }
    }

    #[cold]
    fn fail(&mut self, kind: FailureKind) {
        let is_news = self.progress.is_open();
        self.progress.0 |= Progress::FAILED;
        let state = &*self.member.state;
        state.fail();
        if is_news && self.progress.is(Progress::PROBE) {
            // A node that asks for patience has said nothing about whether it is well again.
            self.report(if kind == FailureKind::Throttled { Probe::Void } else { Probe::Failed });
        } else if !self.progress.is(Progress::IN_PANIC)
            && let Some(observer) = state.common.observer()
        {
            observer.failed(state, self.progress.term(), kind);
        }
    }

    #[cold]
    fn sweep(&self) {
        if let Some(observer) = self.member.state.common.observer() {
            observer.sweep();
        }
    }

    /// Says what came of a probe.
    #[cold]
    fn report(&self, outcome: Probe) {
        let state = &*self.member.state;
        if let Some(observer) = state.common.observer() {
            observer.probed(state, self.progress.term(), outcome);
        }
    }

    /// Takes the request back before the node has seen anything of it: it counts as if it had never been.
    pub(crate) fn withdraw(mut self) {
        if self.progress.is_open() {
            if self.progress.is(Progress::PROBE) {
                self.report(Probe::Void);
            }
            self.progress.0 |= Progress::WITHDRAWN;
        }
    }

    #[cold]
    fn cancel(&self) {
        let state = &*self.member.state;
        let sample = (!self.progress.is(Progress::UNTIMED)).then(|| {
            let now = state.common.nanos_now();
            (self.progress.seconds_until(now), Stamp::of(now))
        });
        state.cancel(sample);
        if self.progress.is(Progress::PROBE) {
            self.report(Probe::Void);
        }
    }
}

impl Drop for LoadGuard {
    #[inline]
    fn drop(&mut self) {
        if !self.progress.is_judged() {
            if self.progress.is(Progress::WITHDRAWN) {
                return self.member.state.leave();
            }
            self.cancel();
        }
        self.member.state.finish();
    }
}

impl fmt::Debug for LoadGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let judged = self.progress.is_judged();
        f.debug_struct("LoadGuard").field("node", &self.member.node.id).field("judged", &judged).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error, time::Duration};

    use super::*;
    use crate::{
        cluster::{Cluster, Node},
        time::ManualClock,
    };

    /// One node, whose estimate stands at 100 ms.
    struct World {
        clock: ManualClock,
        cluster: Cluster<()>,
        member: Arc<Member>,
    }

    impl World {
        fn new() -> Result<Self, Box<dyn Error>> {
            let clock = ManualClock::new();
            let cluster = Cluster::builder().clock(clock.clone()).build([(Node::new("a"), ())])?;
            let member = Arc::clone(&cluster.get("a").ok_or("it is there")?.member);
            let world = Self { clock, cluster, member };
            world.answers(100, Verdict::Success)?;
            world.pass(3000);
            assert_eq!(world.millis(), Some(100));
            Ok(world)
        }

        fn pass(&self, millis: u64) {
            self.clock.advance(Duration::from_millis(millis));
        }

        fn send(&self) -> Result<LoadGuard, &'static str> {
            LoadGuard::start_at(&self.member, crate::time::Clock::now(&self.clock)).ok_or("there is room")
        }

        /// A request that is judged after so long.
        fn answers(&self, millis: u64, verdict: Verdict) -> Result<(), &'static str> {
            let mut guard = self.send()?;
            self.pass(millis);
            guard.judge(verdict);
            Ok(())
        }

        /// What the estimate is, rounded.
        fn millis(&self) -> Option<u128> {
            self.member.state.latency().map(|latency| (latency.as_micros() + 500) / 1000)
        }
    }

    #[test]
    fn only_a_success_says_how_fast_a_node_is() -> Result<(), Box<dyn Error>> {
        let world = World::new()?;
        let kinds = [
            FailureKind::Connect,
            FailureKind::Transport,
            FailureKind::Timeout,
            FailureKind::Response,
            FailureKind::Gateway,
            FailureKind::Overloaded,
            FailureKind::Throttled,
        ];
        for verdict in kinds.map(Verdict::Failure).into_iter().chain([Verdict::Neutral]) {
            for millis in [0, 1, 5000] {
                world.answers(millis, verdict)?;
                assert_eq!(world.millis(), Some(100), "{verdict:?} after {millis} ms");
            }
        }
        // Failures put the node aside instead, and what a client did wrong does not.
        assert_eq!(world.member.state.failure_streak(), 3 * 7);
        assert_eq!(world.member.state.failures(), 3 * 7);
        world.answers(1000, Verdict::Success)?;
        assert!(world.millis() > Some(500), "{:?}", world.millis());
        assert_eq!(world.member.state.failure_streak(), 0);
        Ok(())
    }

    #[test]
    fn a_request_given_up_says_how_long_an_answer_would_have_taken_at_least() -> Result<(), Box<dyn Error>> {
        let world = World::new()?;
        for millis in [0, 1, 99] {
            let guard = world.send()?;
            world.pass(millis);
            drop(guard);
            assert_eq!(world.millis(), Some(100), "{millis} ms say nothing of a node that takes 100");
        }
        let guard = world.send()?;
        world.pass(2000);
        drop(guard);
        assert!(world.millis() > Some(1000), "{:?}", world.millis());
        let state = &world.member.state;
        assert_eq!((state.cancelled(), state.failures(), state.failure_streak()), (4, 0, 0));
        Ok(())
    }

    #[test]
    fn what_is_said_after_the_verdict_changes_nothing() -> Result<(), Box<dyn Error>> {
        let world = World::new()?;
        let mut guard = world.send()?;
        world.pass(100);
        guard.judge(Verdict::Success);
        world.pass(60_000);
        guard.judge(Verdict::Success);
        guard.judge(Verdict::Failure(FailureKind::Response));
        // The body streamed for a minute: that is no latency, and its end no cancellation.
        drop(guard);
        let state = &world.member.state;
        assert_eq!((world.millis(), state.failures(), state.cancelled()), (Some(100), 0, 0));
        Ok(())
    }

    #[test]
    fn a_newcomer_is_taken_for_as_fast_as_the_median() -> Result<(), Box<dyn Error>> {
        let world = World::new()?;
        for (name, millis) in [("b", 200), ("c", 900)] {
            world.cluster.insert(Node::new(name), ())?;
            let member = Arc::clone(&world.cluster.get(name).ok_or("it is there")?.member);
            world.pass(60_000);
            let mut guard =
                LoadGuard::start_at(&member, crate::time::Clock::now(&world.clock)).ok_or("there is room")?;
            world.pass(millis);
            guard.judge(Verdict::Success);
        }
        world.cluster.insert(Node::new("d"), ())?;
        let newcomer = world.cluster.get("d").ok_or("it is there")?.member.state.latency();
        let newcomer = newcomer.ok_or("it has an estimate")?.as_millis();
        assert!((190..=200).contains(&newcomer), "{newcomer} ms among 100, 200 and 900");
        let first = Cluster::new([(Node::new("a"), ())])?;
        assert_eq!(first.get("a").ok_or("it is there")?.member.state.latency(), None);
        Ok(())
    }
}
