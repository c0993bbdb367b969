//! Caches in turns: a little of each, again and again, so that a noisy machine disturbs all of them alike.

use std::time::Duration;

use super::{Contender, Workload};

const ROUNDS: usize = 40;
/// Of one cache in one round: short, so that many turns pass without an interruption.
const TURN: Duration = Duration::from_millis(2);

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
                let trial: u64 = 20_000;
                let took = contender.time(workload, threads, trial);
                u64::try_from(TURN.as_nanos() * u128::from(trial) / took.as_nanos().max(1))
                    .unwrap_or(trial)
                    .max(8)
            })
            .collect();
        let mut rounds: Vec<_> = contenders.iter().map(|contender| (contender.name, Vec::new())).collect();
        for _ in 0..ROUNDS {
            for ((contender, operations), (_, times)) in contenders.iter().zip(&operations).zip(&mut rounds) {
                // The others have filled the processor's caches.
                contender.time(workload, threads, *operations / 4);
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
        println!("{:52}{:>9}{:>9}", self.label, "ns", "median");
        let mut rows: Vec<_> =
            self.rounds.iter().map(|(name, times)| (typical(times), median(times), *name)).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (typical, median, name) in rows {
            println!("  {name:50}{typical:9.1}{median:9.1}");
        }
    }
}

/// A line for each row: `ours` beside each of `peers`, and beside the fastest of them.
pub(crate) fn summary(rows: &[Row], ours: &str, peers: &[&'static str]) {
    let first = peers[0];
    println!("\n| ns per operation | {ours} | {first} | ratio | fastest peer | | ratio |");
    println!("|---|---|---|---|---|---|---|");
    for row in rows {
        let Some(mine) = row.of(ours).map(typical) else { continue };
        let theirs = peers.iter().filter_map(|name| Some((typical(row.of(name)?), *name)));
        let Some((best, fastest)) = theirs.min_by(|a, b| a.0.total_cmp(&b.0)) else { continue };
        let first = row.of(first).map_or(f64::NAN, typical);
        println!(
            "| {} | {mine:.1} | {first:.1} | {:.2} | {fastest} | {best:.1} | {:.2} |",
            row.label,
            mine / first,
            mine / best
        );
    }
    println!();
}

/// The quarter that was disturbed least ends here.
fn typical(times: &[f64]) -> f64 {
    quantile(times, 1, 4)
}

fn median(times: &[f64]) -> f64 {
    quantile(times, 1, 2)
}

fn quantile(times: &[f64], part: usize, of: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() * part / of).copied().unwrap_or(f64::NAN)
}
