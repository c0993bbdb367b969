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
    /// The best of the peers.
    fn best_peer(&self) -> Option<f64> {
        let peers = self.results.iter().filter(|(name, _)| is_peer(name));
        peers.map(|(_, outcome)| outcome.hit_ratio()).max_by(f64::total_cmp)
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
        let fullest = pairs.iter().map(|pair| fullness(pair, row)).fold(0.0, f64::max);
        writeln!(out, "{:>9.1} %", fullest * 100.0)?;
    }
    writeln!(out, "\n(at most: how full, of its capacity, after any request)\n")?;
    out.flush()
}

fn fullness(pair: &Pair, row: usize) -> f64 {
    pair.results[row].1.peak as f64 / pair.room.capacity() as f64
}

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

/// Means over all pairs, the best first.
pub(crate) fn summary(out: &mut dyn Write, pairs: &[Pair]) -> io::Result<()> {
    let mut standings: BTreeMap<&str, Standing> = BTreeMap::new();
    for pair in pairs {
        let best = pair.best_peer().unwrap_or(0.0);
        for (row, (name, outcome)) in pair.results.iter().enumerate() {
            let standing = standings.entry(name).or_default();
            let gap = outcome.hit_ratio() - best;
            if standing.pairs == 0.0 || gap < standing.worst.0 {
                standing.worst = (gap, pair.label());
            }
            standing.pairs += 1.0;
            standing.ratios += outcome.hit_ratio();
            standing.byte_ratios += outcome.byte_hit_ratio();
            standing.gaps += gap;
            standing.fullest = standing.fullest.max(fullness(pair, row));
        }
    }
    let mut standings: Vec<_> = standings.into_iter().collect();
    standings.sort_by(|(_, a), (_, b)| (b.ratios / b.pairs).total_cmp(&(a.ratios / a.pairs)));
    let bytes = pairs.iter().any(|pair| matches!(pair.room, Room::Bytes(_)));
    writeln!(
        out,
        "over {} pairs of a trace and a capacity; gap: to the best peer of each pair, in points\n",
        pairs.len()
    )?;
    write!(out, "{:22}{:>11}", "", "mean %")?;
    if bytes {
        write!(out, "{:>11}", "bytes %")?;
    }
    writeln!(out, "{:>11}{:>11}{:>11}  at", "at most", "mean gap", "worst gap")?;
    for (name, standing) in standings {
        let percent = |sum: f64| sum * 100.0 / standing.pairs;
        write!(out, "{name:22}{:>11.2}", percent(standing.ratios))?;
        if bytes {
            write!(out, "{:>11.2}", percent(standing.byte_ratios))?;
        }
        let Standing { worst: (worst, at), fullest, .. } = &standing;
        write!(out, "{:>9.1} %{:>+11.2}", fullest * 100.0, percent(standing.gaps))?;
        writeln!(out, "{:>+11.2}  {at}", worst * 100.0)?;
    }
    Ok(())
}
