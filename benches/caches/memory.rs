//! What an entry costs in memory: what a process of its own grows by, as the system tells (Linux only).

use std::{env, fs, process::Command};

use super::Table;

/// Says to a process that it is here to fill this cache.
const ROLE: &str = "CACHE_BENCH_MEMORY";

/// The name of the cache that this process is here to fill, if it is.
pub(crate) fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// Fills a cache and prints the bytes per entry, keys and values included: filled, and after three times as many
/// insertions more.
pub(crate) fn act<C: Table>(entries: u32, cache: impl FnOnce(usize) -> C) {
    let (entries, before) = (u64::from(entries), resident());
    let cache = cache(usize::try_from(entries).expect("it was a u32"));
    for keys in [0..entries, entries..4 * entries] {
        let until = keys.end;
        keys.for_each(|key| cache.insert(key, key));
        let grown = resident().zip(before).map(|(now, before)| now.saturating_sub(before));
        // After the measurement, as asking may take memory too.
        let kept = (0..until).filter(|key| cache.get(*key).is_some()).count();
        if let Some(grown) = grown {
            print!("{:.1} ", grown as f64 / kept as f64);
        }
    }
}

/// What [`act`] printed in a process of its own.
pub(crate) fn ask(name: &str) -> Option<Vec<f64>> {
    let output = Command::new(env::current_exe().ok()?)
        .env(ROLE, name)
        // Large blocks go back to the system when they are freed: tables that grew would count twice.
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .env("MALLOC_TRIM_THRESHOLD_", "0")
        .output()
        .ok()?;
    let costs: Result<Vec<f64>, _> =
        str::from_utf8(&output.stdout).ok()?.split_whitespace().map(str::parse).collect();
    costs.ok().filter(|costs| costs.len() == 2)
}

/// Bytes of this process that are in memory.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
