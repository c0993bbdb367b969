//! Tables for people and rows for machines.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{
    replay::{Outcome, Room},
    trace::Trace,
};

/// A trace and a capacity, and what every cache made of them.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) trace: String,
    pub(crate) room: Room,
    pub(crate) results: Vec<(String, Outcome)>,
}

impl Pair {
    /// The best of the peers that held so much of the capacity at most.
    fn best_peer(&self, at_most: f64) -> f64 {
        let peers =
            self.results.iter().filter(|(name, outcome)| is_peer(name) && self.fullness(outcome) <= at_most);
        peers.map(|(_, outcome)| outcome.hit_ratio()).fold(0.0, f64::max)
    }

    /// How much was held at the most, as a part of the capacity.
    fn fullness(&self, outcome: &Outcome) -> f64 {
        outcome.peak as f64 / self.room.capacity() as f64
    }

    fn label(&self) -> String {
        format!("{} {}", self.trace, self.room.capacity())
    }
}

pub(crate) fn is_peer(name: &str) -> bool {
    name.starts_with("peer:")
}

pub(crate) fn header(out: &mut dyn Write, bytes: bool) -> io::Result<()> {
    writeln!(
        out,
        "trace,capacity,policy,requests,hits,hit_ratio{}",
        if bytes { ",byte_hit_ratio" } else { "" }
    )
}

pub(crate) fn rows(out: &mut dyn Write, pair: &Pair) -> io::Result<()> {
    let (trace, capacity) = (quoted(&pair.trace), pair.room.capacity());
    for (name, outcome) in &pair.results {
        let Outcome { requests, hits, .. } = outcome;
        write!(out, "{trace},{capacity},{name},{requests},{hits},{:.6}", outcome.hit_ratio())?;
        if let Room::Bytes(_) = pair.room {
            write!(out, ",{:.6}", outcome.byte_hit_ratio())?;
        }
        writeln!(out)?;
    }
    out.flush()
}

/// A field as RFC 4180 has it.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// Hit ratios in per cent, a row for each cache, a column for each capacity.
pub(crate) fn table(out: &mut dyn Write, trace: &Trace, pairs: &[Pair]) -> io::Result<()> {
    write!(out, "{}: {} requests, {} keys", trace.name, trace.keys.len(), trace.distinct)?;
    let bytes = pairs.iter().any(|pair| matches!(pair.room, Room::Bytes(_)));
    if bytes {
        write!(out, ", {} bytes; hit ratio of objects / of bytes", trace.distinct_bytes)?;
    }
    write!(out, "\n\n{:22}", "% of requests")?;
    let width = if bytes { 16 } else { 11 };
    for pair in pairs {
        write!(out, "{:>width$}", pair.room.capacity())?;
    }
    writeln!(out, "{:>11}", "at most")?;
    let names = pairs.first().map_or(&[][..], |pair| &pair.results);
    for (row, (name, _)) in names.iter().enumerate() {
        write!(out, "{name:22}")?;
        for pair in pairs {
            let outcome = &pair.results[row].1;
            let (objects, of_bytes) = (outcome.hit_ratio() * 100.0, outcome.byte_hit_ratio() * 100.0);
            let cell = if bytes { format!("{objects:.2} / {of_bytes:.2}") } else { format!("{objects:.2}") };
            write!(out, "{cell:>width$}")?;
        }
        let fullest = pairs.iter().map(|pair| pair.fullness(&pair.results[row].1)).fold(0.0, f64::max);
        writeln!(out, "{:>9.1} %", fullest * 100.0)?;
    }
    writeln!(out, "\n(at most: how full, of its capacity, after any request)\n")?;
    out.flush()
}

/// A peer that held more than this part of its capacity is not compared with: in a larger cache anybody finds more.
const FAIR: f64 = 1.05;

/// Of a cache, over all pairs of a trace and a capacity.
#[derive(Default)]
struct Standing {
    pairs: f64,
    ratios: f64,
    byte_ratios: f64,
    gaps: f64,
    worst: (f64, String),
    fullest: f64,
}

impl Standing {
    /// The mean of a sum over all pairs, in per cent.
    fn percent(&self, sum: f64) -> f64 {
        sum * 100.0 / self.pairs
    }
}

/// Means over all pairs, the best first.
pub(crate) fn summary(out: &mut dyn Write, pairs: &[Pair]) -> io::Result<()> {
    let mut ranking: Vec<_> = standings(pairs, FAIR).into_iter().collect();
    ranking.sort_by(|(_, a), (_, b)| (b.ratios / b.pairs).total_cmp(&(a.ratios / a.pairs)));
    let bytes = pairs.iter().any(|pair| matches!(pair.room, Room::Bytes(_)));
    writeln!(
        out,
        "over {} pairs of a trace and a capacity; gap: to the best peer of each pair that held no more than {:.0} % of \
         its capacity, in points\n",
        pairs.len(),
        FAIR * 100.0
    )?;
    write!(out, "{:22}{:>11}", "", "mean %")?;
    if bytes {
        write!(out, "{:>11}", "bytes %")?;
    }
    writeln!(out, "{:>11}{:>11}{:>11}  at", "at most", "mean gap", "worst gap")?;
    for (name, standing) in ranking {
        write!(out, "{name:22}{:>11.2}", standing.percent(standing.ratios))?;
        if bytes {
            write!(out, "{:>11.2}", standing.percent(standing.byte_ratios))?;
        }
        write!(out, "{:>9.1} %{:>+11.2}", standing.fullest * 100.0, standing.percent(standing.gaps))?;
        writeln!(out, "{:>+11.2}  {}", standing.worst.0 * 100.0, standing.worst.1)?;
    }
    if let Some(standing) = standings(pairs, f64::INFINITY).get("default") {
        let (mean, (worst, at)) = (standing.percent(standing.gaps), &standing.worst);
        let worst = worst * 100.0;
        writeln!(
            out,
            "\ndefault, beside those too that held more: mean gap {mean:+.2}, worst gap {worst:+.2} at {at}"
        )?;
    }
    Ok(())
}

/// Of each cache, beside the peers that held so much of their capacity at most.
fn standings(pairs: &[Pair], at_most: f64) -> BTreeMap<&str, Standing> {
    let mut standings: BTreeMap<&str, Standing> = BTreeMap::new();
    for pair in pairs {
        let best = pair.best_peer(at_most);
        for (name, outcome) in &pair.results {
            let standing = standings.entry(name).or_default();
            let gap = outcome.hit_ratio() - best;
            if standing.pairs == 0.0 || gap < standing.worst.0 {
                standing.worst = (gap, pair.label());
            }
            standing.pairs += 1.0;
            standing.ratios += outcome.hit_ratio();
            standing.byte_ratios += outcome.byte_hit_ratio();
            standing.gaps += gap;
            standing.fullest = standing.fullest.max(pair.fullness(outcome));
        }
    }
    standings
}
