use super::*;
use crate::time::{Clock, ManualClock};

const SECOND: Duration = Duration::from_secs(1);

fn stamp(ttl: u32, took: Duration) -> Stamp {
    Stamp { loaded: ManualClock::new().now(), ttl: SECOND * ttl, took, dice: 7 }
}

fn at(stamp: &Stamp, seconds: u32) -> Instant {
    stamp.loaded + SECOND * seconds
}

/// Every combination of the options, at every second, against the rules as one would say them.
#[test]
fn each_moment_of_each_combination_of_options_has_its_advice() {
    let stamp = stamp(10, Duration::ZERO);
    for (ahead, swr, sie) in
        (0..=12).flat_map(|ahead| (0..6).flat_map(move |swr| (0..6).map(move |sie| (ahead, swr, sie))))
    {
        let freshness = Freshness {
            ttl: SECOND * 10,
            refresh_ahead: f64::from(ahead) / 10.0,
            while_revalidate: SECOND * swr,
            if_error: SECOND * sie,
            ..Freshness::FOREVER
        };
        for second in 0..20 {
            let now = at(&stamp, second);
            let fresh = second < 10;
            let expected = if fresh && second < ahead {
                Advice::Serve
            } else if fresh || second < 10 + swr {
                Advice::Refresh { stale: !fresh }
            } else {
                Advice::Load
            };
            let context = format!("{freshness:?} after {second} s");
            assert_eq!(freshness.advise(&stamp, now, false), expected, "{context}");
            let usable = second < 10 + swr.max(sie);
            assert_eq!(freshness.may_stand_in(&stamp, now), usable, "{context}");
            // After a failure nobody waits for the next one, as long as there is something to serve.
            let resting = if usable { Advice::Serve } else { Advice::Load };
            assert_eq!(freshness.advise(&stamp, now, true), resting, "{context}");
            assert_eq!(freshness.keep(&stamp), SECOND * (10 + swr.max(sie)));
        }
    }
}

#[test]
fn a_clock_before_the_load_makes_a_value_new() {
    let mut stamp = stamp(10, SECOND);
    let now = stamp.loaded;
    stamp.loaded += SECOND * 1000;
    assert_eq!(Freshness::FOREVER.advise(&stamp, now, false), Advice::Serve);
}

#[test]
fn times_without_end_and_without_length_are_what_they_say() {
    let mut rng = Rng::seeded(1);
    let now = ManualClock::new().now();
    let forever = Freshness { jitter: 0.5, while_revalidate: Duration::MAX, ..Freshness::FOREVER };
    let stamp = forever.stamp(now, Duration::MAX, &mut rng);
    assert_eq!((stamp.ttl, forever.keep(&stamp)), (Duration::MAX, Duration::MAX));
    assert_eq!(forever.advise(&stamp, now + SECOND * u32::MAX, false), Advice::Serve);

    let never = Freshness { ttl: Duration::ZERO, if_error: Duration::MAX, ..Freshness::FOREVER };
    let stamp = never.stamp(now, SECOND, &mut rng);
    assert_eq!(never.advise(&stamp, now, false), Advice::Load);
}

#[test]
fn jitter_takes_off_its_share_at_most_and_half_of_it_on_average() {
    let freshness = Freshness { ttl: SECOND * 100, jitter: 0.2, ..Freshness::FOREVER };
    let (mut rng, now) = (Rng::seeded(1), ManualClock::new().now());
    let ttls: Vec<_> =
        (0..10_000).map(|_| freshness.stamp(now, SECOND, &mut rng).ttl.as_secs_f64()).collect();
    assert!(ttls.iter().all(|ttl| (80.0..=100.0).contains(ttl)));
    let mean = ttls.iter().sum::<f64>() / 10_000.0;
    assert!((mean - 90.0).abs() < 0.5, "{mean}");
}

/// The time before expiry at which a value is first found to be early, asked so many times in each second.
fn first_early(freshness: &Freshness, stamp: &Stamp, per_second: u32) -> Option<f64> {
    let steps = u32::try_from(stamp.ttl.as_secs()).unwrap() * per_second;
    let early = (0..steps).find(|step| {
        let now = stamp.loaded + SECOND * *step / per_second;
        freshness.advise(stamp, now, false) == Advice::Refresh { stale: false }
    })?;
    Some(stamp.ttl.as_secs_f64() - f64::from(early) / f64::from(per_second))
}

#[test]
fn early_expiry_follows_the_time_of_a_load_and_not_the_rate_of_requests() {
    let freshness = Freshness { ttl: SECOND * 100, early: 1.0, ..Freshness::FOREVER };
    let mean = |took: u32, per_second: u32| {
        let mut rng = Rng::seeded(1);
        let mut sum = 0.0;
        for _ in 0..400 {
            let stamp = freshness.stamp(ManualClock::new().now(), SECOND * took, &mut rng);
            sum += first_early(&freshness, &stamp, per_second).unwrap_or_default();
        }
        sum / 400.0
    };
    let (rare, often, slow) = (mean(4, 2), mean(4, 50), mean(8, 2));
    assert!((2.0..6.0).contains(&rare), "{rare}");
    assert!((often / rare - 1.0).abs() < 0.25, "{often} {rare}");
    assert!((slow / rare - 2.0).abs() < 0.4, "{slow} {rare}");
}

#[test]
fn a_load_that_took_no_time_expires_when_it_should() {
    let freshness = Freshness { ttl: SECOND * 10, early: 1.0, ..Freshness::FOREVER };
    assert_eq!(first_early(&freshness, &stamp(10, Duration::ZERO), 100), None);
}
