//! Traces made up, the same in every run: what caches meet, one difficulty at a time.

use buttress::rng::Rng;

use super::trace::Trace;

/// Few where the compiler has not optimised.
const REQUESTS: usize = if cfg!(debug_assertions) { 4_000 } else { 200_000 };
const KEYS: u64 = REQUESTS as u64 / 10;

pub(crate) fn traces() -> Vec<Trace> {
    let traces = [("zipf", zipf()), ("loop", looped()), ("scan", scan()), ("shift", shift())];
    traces
        .into_iter()
        .map(|(name, keys)| Trace::new(name, keys).expect("there are requests, and few"))
        .collect()
}

/// Popularity falls with rank, as it does on the web.
fn zipf() -> Vec<u64> {
    let (ranks, mut rng) = (Ranks::new(KEYS, 0.9), Rng::seeded(1));
    (0..REQUESTS).map(|_| ranks.draw(&mut rng)).collect()
}

/// Round and round, over ten per cent more than the third of the capacities takes.
fn looped() -> Vec<u64> {
    let mut keys: Vec<_> = (0..REQUESTS as u64 / 2).map(|i| i % (KEYS / 9)).collect();
    // The rest of the keys come once, so that the loop is a tenth of all.
    keys.extend((0..KEYS - KEYS / 9).map(|i| 1_000_000_000 + i));
    keys
}

/// A hot set, and every so often a scan over what nobody else asks for.
fn scan() -> Vec<u64> {
    let (ranks, mut rng) = (Ranks::new(KEYS / 2, 0.8), Rng::seeded(2));
    let mut fresh = KEYS..;
    let mut keys = Vec::with_capacity(REQUESTS);
    while keys.len() < REQUESTS {
        keys.extend((0..KEYS / 2).map(|_| ranks.draw(&mut rng)));
        keys.extend(fresh.by_ref().take(REQUESTS / 40));
    }
    keys
}

/// What is popular changes ten times, from one request to the next.
fn shift() -> Vec<u64> {
    let (ranks, mut rng) = (Ranks::new(KEYS, 1.0), Rng::seeded(3));
    (0..REQUESTS).map(|i| (ranks.draw(&mut rng) + (i * 10 / REQUESTS) as u64 * KEYS / 10) % KEYS).collect()
}

/// Draws ranks by Zipf's law.
struct Ranks(Vec<f64>);

impl Ranks {
    fn new(count: u64, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut sums: Vec<_> = (1..=count)
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        for part in &mut sums {
            *part /= sum;
        }
        Self(sums)
    }

    fn draw(&self, rng: &mut Rng) -> u64 {
        let unit = rng.unit();
        self.0.partition_point(|sum| *sum <= unit) as u64
    }
}
