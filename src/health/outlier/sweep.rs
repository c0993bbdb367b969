//! Who stands out among the others, at the end of an interval.

use super::{
    Cause,
    core::{Census, Detector, Fleet},
};
use crate::cluster::nanos;

/// By how much a success rate has to be below the mean, whatever the deviation: where all but one node are perfect, that
/// one is many deviations off with its first failure.
const LEAST_GAP: f64 = 0.02;
/// By how much a latency has to be above the median, in seconds.
const LEAST_EXCESS: f32 = 0.010;

/// The nodes that stand out, the worst first, and why. Begins the next interval.
pub(super) fn outliers(detector: &mut Detector, now: u64, fleet: &impl Fleet) -> Vec<(usize, Cause)> {
    let age = now.saturating_sub(detector.swept_at);
    let is_stale = age >= nanos(detector.rules.interval).saturating_mul(2);
    let mut outliers = Vec::new();
    if !is_stale {
        outliers.extend(failing_more(detector, fleet).into_iter().map(|node| (node, Cause::SuccessRate)));
    }
    let slow = if is_stale { Vec::new() } else { slower(detector, fleet) };
    for (node, record) in detector.records.iter_mut().enumerate() {
        let is_slow = slow.contains(&node);
        if is_slow && record.was_slow {
            outliers.push((node, Cause::Latency));
        }
        record.was_slow = is_slow;
        record.census = Census { sent_before: fleet.sent(node), failed: 0, is_whole: record.is_in() };
    }
    detector.swept_at = now;
    outliers
}

/// The nodes whose success rate is too far below the mean, the lowest first.
fn failing_more(detector: &Detector, fleet: &impl Fleet) -> Vec<usize> {
    let Some(deviations) = detector.rules.success_rate else { return Vec::new() };
    let mut rates = Vec::new();
    for (node, record) in detector.records.iter().enumerate() {
        let Census { sent_before, failed, is_whole } = record.census;
        let volume = fleet.sent(node).saturating_sub(sent_before).max(failed);
        if is_whole && record.is_in() && volume >= detector.rules.min_volume.max(1) {
            rates.push((1.0 - failed as f64 / volume as f64, node));
        }
    }
    if rates.len() < detector.rules.min_nodes {
        return Vec::new();
    }
    let n = rates.len() as f64;
    let mean = rates.iter().map(|(rate, _)| rate).sum::<f64>() / n;
    let variance = rates.iter().map(|(rate, _)| (rate - mean).powi(2)).sum::<f64>() / n;
    let limit = mean - (deviations * variance.sqrt()).max(LEAST_GAP);
    rates.retain(|(rate, _)| *rate < limit);
    rates.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    rates.into_iter().map(|(_, node)| node).collect()
}

/// The nodes that take too much longer than the median of the others. One that had nothing to do has only an old
/// estimate, and is left out.
fn slower(detector: &Detector, fleet: &impl Fleet) -> Vec<usize> {
    let Some(factor) = detector.rules.latency else { return Vec::new() };
    let mut latencies: Vec<(f32, usize)> = Vec::new();
    for (node, record) in detector.records.iter().enumerate() {
        if record.is_in() && fleet.sent(node) > record.census.sent_before {
            latencies.extend(fleet.latency(node).map(|seconds| (seconds, node)));
        }
    }
    if latencies.len() < detector.rules.min_nodes {
        return Vec::new();
    }
    latencies.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let middle = (latencies.len() - 1) / 2;
    let is_slow = |rank: usize, seconds: f32| {
        let (median, _) = latencies[if middle < rank { middle } else { middle + 1 }];
        f64::from(seconds) > f64::from(median) * factor && seconds > median + LEAST_EXCESS
    };
    let ranked = latencies.iter().enumerate();
    ranked.filter(|(rank, (seconds, _))| is_slow(*rank, *seconds)).map(|(_, &(_, node))| node).rev().collect()
}
