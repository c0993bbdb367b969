//! When to ask again: arithmetic over the last answer and a random number.

use std::time::Duration;

use crate::rng::Rng;

/// An answer is asked for again up to this much earlier or later than it expires, so that a fleet that began together
/// does not march in step.
const JITTER: f64 = 0.1;

/// Up to how long after a first failure to try again; each one after it in a row, twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// No two questions follow each other faster, whatever the settings and the dice say.
const FLOOR: Duration = Duration::from_millis(100);

/// As good as never.
const CEILING: Duration = Duration::from_secs(365 * 24 * 3600);

/// How a round of questions went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All of them were answered; the answers are valid for this long.
    Answered { ttl: Duration },
    /// Some of them were; the others should be asked again soon.
    Partial { ttl: Duration },
    /// Nothing usable came.
    Failed,
}

/// Says when to ask again.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    shortest: Duration,
    longest: Duration,
    /// In a row.
    failures: u32,
}

impl Schedule {
    /// A schedule that takes no answer to be valid for less than `shortest` or more than `longest`.
    pub(super) fn new(shortest: Duration, longest: Duration) -> Self {
        let shortest = shortest.clamp(FLOOR, CEILING);
        Self { shortest, longest: longest.clamp(shortest, CEILING), failures: 0 }
    }

    pub(super) fn next_delay(&mut self, outcome: Outcome, rng: &mut Rng) -> Duration {
        let delay = match outcome {
            Outcome::Answered { ttl } => {
                self.failures = 0;
                self.expiry(ttl, rng)
            }
            Outcome::Partial { ttl } => self.expiry(ttl, rng).min(self.retry(rng)),
            Outcome::Failed => self.retry(rng),
        };
        delay.max(FLOOR)
    }

    fn expiry(&self, ttl: Duration, rng: &mut Rng) -> Duration {
        ttl.clamp(self.shortest, self.longest).mul_f64(1.0 - JITTER + 2.0 * JITTER * rng.unit())
    }

    /// Full jitter: anything up to a bound that doubles. Those that failed together spread out best that way.
    fn retry(&mut self, rng: &mut Rng) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        FIRST_RETRY.saturating_mul(factor).min(LONGEST_RETRY).mul_f64(rng.unit())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::{
        prelude::{Just, Strategy, any, prop},
        prop_assert, prop_assert_eq, prop_oneof, proptest,
    };

    use super::{CEILING, FIRST_RETRY, FLOOR, LONGEST_RETRY, Outcome, Schedule};
    use crate::rng::Rng;

    const SECOND: Duration = Duration::from_secs(1);
    const FIVE_MINUTES: Duration = Duration::from_secs(300);

    fn schedule() -> Schedule {
        Schedule::new(SECOND, FIVE_MINUTES)
    }

    fn answered(seconds: u64) -> Outcome {
        Outcome::Answered { ttl: Duration::from_secs(seconds) }
    }

    #[test]
    fn an_answer_is_asked_for_again_around_its_expiry() {
        let mut rng = Rng::seeded(1);
        let delays: Vec<_> = (0..1000).map(|_| schedule().next_delay(answered(30), &mut rng)).collect();
        assert!(delays.iter().all(|delay| (27.0..=33.0).contains(&delay.as_secs_f64())));
        // Spread over the whole of it, not at one end.
        assert!(delays.iter().any(|delay| delay.as_secs_f64() < 27.5));
        assert!(delays.iter().any(|delay| delay.as_secs_f64() > 32.5));
    }

    #[test]
    fn a_ttl_of_zero_does_not_spin_and_a_long_one_does_not_last_for_ever() {
        let mut rng = Rng::seeded(1);
        for _ in 0..1000 {
            assert!(schedule().next_delay(answered(0), &mut rng) >= SECOND.mul_f64(0.9));
            assert!(schedule().next_delay(answered(u64::MAX), &mut rng) <= FIVE_MINUTES.mul_f64(1.1));
        }
        assert!(Schedule::new(Duration::ZERO, Duration::ZERO).next_delay(answered(0), &mut rng) >= FLOOR);
    }

    #[test]
    fn failures_in_a_row_are_retried_ever_more_slowly_up_to_a_minute() {
        let mut rng = Rng::seeded(1);
        let mean = |failures: u32, rng: &mut Rng| {
            let total: Duration = (0..1000)
                .map(|_| {
                    let mut schedule = schedule();
                    (0..failures)
                        .map(|_| schedule.next_delay(Outcome::Failed, rng))
                        .last()
                        .unwrap_or_default()
                })
                .sum();
            total.as_secs_f64() / 1000.0
        };
        for (failures, expected) in [(1, 0.5), (2, 1.0), (4, 4.0), (7, 30.0), (40, 30.0)] {
            let mean = mean(failures, &mut rng);
            assert!(
                (mean / expected - 1.0).abs() < 0.1,
                "after {failures} failures {mean} s, not {expected} s"
            );
        }
    }

    #[test]
    fn an_answer_ends_the_backoff() {
        let mut rng = Rng::seeded(1);
        let mut schedule = schedule();
        for _ in 0..10 {
            schedule.next_delay(Outcome::Failed, &mut rng);
        }
        schedule.next_delay(answered(5), &mut rng);
        assert!(schedule.next_delay(Outcome::Failed, &mut rng) <= FIRST_RETRY);
    }

    #[test]
    fn a_question_without_an_answer_does_not_wait_for_the_others_to_expire() {
        let mut rng = Rng::seeded(1);
        let mut schedule = schedule();
        let partial = |seconds| Outcome::Partial { ttl: Duration::from_secs(seconds) };
        assert!(schedule.next_delay(partial(300), &mut rng) <= FIRST_RETRY);
        for _ in 0..20 {
            schedule.next_delay(Outcome::Failed, &mut rng);
        }
        // And neither do the others wait for its backoff.
        assert!(schedule.next_delay(partial(2), &mut rng) <= Duration::from_millis(2200));
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        let ttl = || any::<Duration>();
        prop_oneof![
            ttl().prop_map(|ttl| Outcome::Answered { ttl }),
            ttl().prop_map(|ttl| Outcome::Partial { ttl }),
            Just(Outcome::Failed),
        ]
    }

    proptest! {
        #[test]
        fn no_delay_is_out_of_bounds(
            seed: u64,
            shortest: Duration,
            longest: Duration,
            outcomes in prop::collection::vec(outcome(), 1..100),
        ) {
            let bound = shortest.max(longest).clamp(LONGEST_RETRY, CEILING).mul_f64(1.1 + 1e-9);
            let (mut schedule, mut rng) = (Schedule::new(shortest, longest), Rng::seeded(seed));
            for outcome in outcomes {
                let delay = schedule.next_delay(outcome, &mut rng);
                prop_assert!((FLOOR..=bound).contains(&delay), "{delay:?}");
            }
        }

        #[test]
        fn the_same_seed_gives_the_same_delays(seed: u64, outcomes in prop::collection::vec(outcome(), 1..20)) {
            let run = || {
                let (mut schedule, mut rng) = (schedule(), Rng::seeded(seed));
                outcomes.iter().map(|&outcome| schedule.next_delay(outcome, &mut rng)).collect::<Vec<_>>()
            };
            prop_assert_eq!(run(), run());
        }
    }
}
