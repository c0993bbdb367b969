//! The command line.

use std::{ffi::OsString, path::PathBuf};

pub(crate) const HELP: &str = "\
Hit ratios of caches on traces: every policy of this crate, its peers and Belady's optimum.

usage: hit_ratio [--csv] [--bytes] [--capacity N,…] [--plot FILE.svg] [FILE…]

FILE…           traces, one request per record, little-endian: .u64 holds keys of 64 bits, .kv64 pairs of a key and
                a size in bytes; .u64.zst and .kv64.zst are the same compressed. Without any, a small synthetic set.
--capacity N,…  how many entries the caches keep; without it 1, 5, 10 and 20 % of a trace's distinct keys
--bytes         capacities count bytes: object and byte hit ratio of the caches that can, on traces with sizes
--csv           rows `trace,capacity,policy,requests,hits,hit_ratio` and nothing else on standard output
--plot FILE     where the plot goes; without it target/hit_ratio.svg, with --csv nowhere";

#[derive(Debug)]
pub(crate) enum Command {
    Run(Args),
    Help,
}

#[derive(Debug, Default)]
pub(crate) struct Args {
    pub(crate) csv: bool,
    pub(crate) bytes: bool,
    /// Empty: shares of what a trace has.
    pub(crate) capacities: Vec<u64>,
    pub(crate) plot: Option<PathBuf>,
    /// Empty: the synthetic set.
    pub(crate) files: Vec<PathBuf>,
}

pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut words = words;
    let mut args = Args::default();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--help" | "-h") => return Ok(Command::Help),
            Some("--csv") => args.csv = true,
            Some("--bytes") => args.bytes = true,
            Some("--capacity") => {
                let list = words.next().ok_or("--capacity needs numbers, such as --capacity 100,1000")?;
                args.capacities = capacities(&list.to_string_lossy())?;
            }
            Some("--plot") => args.plot = Some(words.next().ok_or("--plot needs a file")?.into()),
            Some(option) if option.starts_with('-') => {
                return Err(format!("unknown option {option:?}: --help tells which there are"));
            }
            _ => args.files.push(word.into()),
        }
    }
    if args.bytes && args.files.is_empty() {
        return Err("--bytes needs a trace with sizes: FILE.kv64 or FILE.kv64.zst".into());
    }
    if args.plot.is_none() && !args.csv {
        args.plot = Some("target/hit_ratio.svg".into());
    }
    Ok(Command::Run(args))
}

fn capacities(list: &str) -> Result<Vec<u64>, String> {
    let mut capacities = Vec::new();
    for number in list.split(',') {
        match number.trim().parse::<u64>() {
            Ok(0) => return Err("a capacity of 0 keeps nothing: 1 is the least".into()),
            // What the counters of every peer can take.
            Ok(capacity) if capacity > 1 << 40 => {
                return Err(format!("{capacity} is too much: 2^40 is the most"));
            }
            Ok(capacity) => capacities.push(capacity),
            Err(_) => {
                return Err(format!("{number:?} is no capacity: --capacity takes numbers, such as 100,1000"));
            }
        }
    }
    capacities.sort_unstable();
    capacities.dedup();
    Ok(capacities)
}
