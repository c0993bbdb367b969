//! What a node's answers make of its health.

use std::time::Duration;

use super::{Answer, CheckResult, pace::Pace};
use crate::cluster::Health;

/// The health of one node, by its answers so far.
#[derive(Debug)]
pub(super) struct Record {
    health: Health,
    /// Whether an answer has decided it.
    is_settled: bool,
    /// Whether the last check got an answer that is as it should be.
    is_alive: bool,
    /// How many checks in a row came out so.
    streak: u32,
}

impl Record {
    /// A node that is taken for this healthy until it has been checked.
    pub(super) fn new(health: Health) -> Self {
        Self { health, is_settled: false, is_alive: health.is_usable(), streak: 0 }
    }

    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// How many checks in a row went well, or did not, as the last one.
    pub(super) fn streak(&self) -> u32 {
        self.streak
    }

    /// Learns what came of a check; true if that changes the health.
    pub(super) fn learn(&mut self, result: &CheckResult, pace: &Pace) -> bool {
        let is_alive = result.is_ok();
        self.streak = if is_alive == self.is_alive { self.streak.saturating_add(1) } else { 1 };
        self.is_alive = is_alive;
        let needed = if self.is_changing() { if is_alive { pace.rise } else { pace.fall } } else { 0 };
        let before = self.health;
        if self.streak >= needed || !self.is_settled {
            self.health = match result {
                Ok(Answer::Healthy) => Health::Up,
                Ok(Answer::Draining) => Health::Draining,
                Err(_) => Health::Down,
            };
            self.is_settled = true;
        }
        self.health != before
    }

    /// Whether the last answers are not what is to be expected of a node in this health.
    fn is_changing(&self) -> bool {
        self.is_alive == (self.health == Health::Down)
    }

    /// How long to wait for the next check.
    pub(super) fn interval(&self, pace: &Pace) -> Duration {
        if self.is_changing() {
            pace.fast
        } else if self.health == Health::Down {
            pace.down
        } else {
            pace.interval
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::pace::Settings, *};
    use crate::health::Unhealthy;

    const UP: char = '+';
    const DRAINING: char = '~';

    fn pace(rise: u32, fall: u32) -> Pace {
        let down = Some(Duration::from_secs(3));
        Settings { down, rise, fall, ..Settings::default() }.check().expect("it makes sense")
    }

    fn result(sign: char) -> CheckResult {
        match sign {
            UP => Ok(Answer::Healthy),
            DRAINING => Ok(Answer::Draining),
            _ => Err(Unhealthy::new("no")),
        }
    }

    fn sign(health: Health) -> char {
        match health {
            Health::Unknown => '?',
            Health::Up => UP,
            Health::Draining => DRAINING,
            Health::Down => '-',
        }
    }

    /// The health after each answer, and the seconds to the next check.
    fn history(first: Health, rise: u32, fall: u32, answers: &str) -> (String, String) {
        let pace = pace(rise, fall);
        let mut record = Record::new(first);
        answers
            .chars()
            .map(|answer| {
                record.learn(&result(answer), &pace);
                let seconds = record.interval(&pace).as_secs().to_string();
                (sign(record.health()), seconds.chars().next().expect("a digit"))
            })
            .unzip()
    }

    #[test]
    fn the_first_answer_decides() {
        for first in [Health::Unknown, Health::Up, Health::Down, Health::Draining] {
            assert_eq!(history(first, 2, 3, "+").0, "+");
            assert_eq!(history(first, 2, 3, "~").0, "~");
            assert_eq!(history(first, 2, 3, "-").0, "-");
        }
    }

    #[test]
    fn a_node_falls_and_rises_with_answers_in_a_row_and_is_watched_closely_in_between() {
        let (health, seconds) = history(Health::Unknown, 2, 3, "++--+---+-++--+");
        assert_eq!(health, "+++++++----++++");
        assert_eq!(seconds, "551151131315115");
    }

    #[test]
    fn the_word_of_a_node_that_drains_counts_at_once() {
        let (health, seconds) = history(Health::Unknown, 2, 3, "+~~+~-~---~~+");
        assert_eq!(health, "+~~+~~~~~--~+");
        assert_eq!(seconds, "5555515113155");
    }

    #[test]
    fn thresholds_of_one_follow_each_answer() {
        let answers = "+-+-~-~+";
        let (health, seconds) = history(Health::Down, 1, 1, answers);
        assert_eq!(health, answers);
        assert!(!seconds.contains('1'), "there is nothing in between");
    }

    proptest! {
        /// Against a reading of the rules that keeps all answers.
        #[test]
        fn the_record_agrees_with_the_whole_history(
            rise in 1_u32..5,
            fall in 1_u32..5,
            answers in prop::collection::vec(prop::sample::select(vec![UP, DRAINING, '-']), 1..40),
        ) {
            let pace = pace(rise, fall);
            let mut record = Record::new(Health::Unknown);
            let mut expected = '?';
            for (index, &answer) in answers.iter().enumerate() {
                let before = record.health();
                let changed = record.learn(&result(answer), &pace);
                let is_same_kind = |other: &&char| (**other == '-') == (answer == '-');
                let row = answers[..=index].iter().rev().take_while(is_same_kind).count();
                let needed = match (expected, answer) {
                    ('?', _) => 1,
                    ('-', UP | DRAINING) => rise as usize,
                    (UP | DRAINING, '-') => fall as usize,
                    _ => 1,
                };
                if row >= needed {
                    expected = answer;
                }
                prop_assert_eq!(sign(record.health()), expected);
                prop_assert_eq!(changed, record.health() != before);
                prop_assert_eq!(record.streak() as usize, row);
            }
        }
    }
}
