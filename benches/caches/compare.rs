//! Caches in turns: a little of each, again and again, so that a noisy machine disturbs all of them alike.

use std::time::Duration;

use super::{Contender, Workload};

const ROUNDS: usize = 15;
/// Of one cache in one round.
const TURN: Duration = Duration::from_millis(8);

/// What came out, for one line of the summary.
pub(crate) struct Row {
    label: String,
    /// Of each contender, with the nanoseconds of each round.
    rounds: Vec<(&'static str, Vec<f64>)>,
}

impl Row {
    pub(crate) fn measure(
        workload: Workload,
        entries: u32,
        threads: usize,
        contenders: &[Contender],
    ) -> Self {
        let operations: Vec<_> = contenders
            .iter()
            .map(|contender| {
                let trial = 20_000;
                let took = contender.time(workload, threads, trial);
                (TURN.as_nanos() as f64 * trial as f64 / took.as_nanos().max(1) as f64) as u64 + 1
            })
            .collect();
        let mut rounds: Vec<_> = contenders.iter().map(|contender| (contender.name, Vec::new())).collect();
        for _ in 0..ROUNDS {
            for ((contender, operations), (_, times)) in contenders.iter().zip(&operations).zip(&mut rounds) {
                let took = contender.time(workload, threads, *operations);
                times.push(took.as_nanos() as f64 / *operations as f64);
            }
        }
        let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        Self { label: format!("{}, {entries} entries, {threads}", workload.name()), rounds }
    }

    fn of(&self, name: &str) -> Option<&[f64]> {
        self.rounds.iter().find(|(other, _)| *other == name).map(|(_, times)| times.as_slice())
    }

    /// Times in ns per operation, the fastest first.
    pub(crate) fn print(&self) {
        println!("{}", self.label);
        let mut medians: Vec<_> = self.rounds.iter().map(|(name, times)| (median(times), *name)).collect();
        medians.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (time, name) in medians {
            println!("  {name:18}{time:9.1} ns");
        }
    }
}

/// A line for each row: `ours` against each of `peers` and against the fastest of them.
pub(crate) fn summary(rows: &[Row], ours: &str, peers: &[&'static str]) {
    println!(
        "\n| {ours}: ns, and as a part of what the peer takes | ns | fastest peer | of fastest | of {} |",
        peers[0]
    );
    println!("|---|---|---|---|---|");
    for row in rows {
        let Some(mine) = row.of(ours) else { continue };
        let theirs = peers.iter().filter_map(|name| Some((*name, row.of(name)?)));
        let Some((fastest, best)) = theirs.min_by(|a, b| median(a.1).total_cmp(&median(b.1))) else {
            continue;
        };
        let first = row.of(peers[0]).map_or(f64::NAN, |first| part(mine, first));
        println!(
            "| {} | {:.1} | {fastest} {:.1} | {:.2} | {first:.2} |",
            row.label,
            median(mine),
            median(best),
            part(mine, best)
        );
    }
}

/// The median of what the rounds say, each about itself.
fn part(mine: &[f64], theirs: &[f64]) -> f64 {
    median(&mine.iter().zip(theirs).map(|(mine, theirs)| mine / theirs).collect::<Vec<_>>())
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
