use super::*;

const SECOND: u64 = 1_000_000_000;

fn life(expiry: &Expiry, now: u64, ttl: Option<Duration>) -> Option<(u64, u64)> {
    expiry.life(now, 7, ttl).map(|life| (life.deadline, life.limit))
}

#[test]
fn whichever_comes_first_ends_an_entry() {
    let (ttl, idle) = (Duration::from_secs(10), Duration::from_secs(3));
    let none = Expiry::new();
    assert_eq!(life(&none, 5, None), Some((NEVER, NEVER)));
    assert_eq!(life(&none, 5, Some(ttl)), Some((5 + 10 * SECOND, NEVER)));
    assert_eq!(life(&none.clone().ttl(ttl), 5, None), Some((5 + 10 * SECOND, NEVER)));
    assert_eq!(life(&none.clone().ttl(ttl), 5, Some(idle)), Some((5 + 3 * SECOND, NEVER)), "its own counts");
    assert_eq!(life(&none.clone().idle(idle), 5, None), Some((5 + 3 * SECOND, NEVER)));
    let both = none.ttl(ttl).idle(idle);
    assert_eq!(life(&both, 5, None), Some((5 + 3 * SECOND, 5 + 10 * SECOND)));
    let short = Some(Duration::from_secs(2));
    assert_eq!(life(&both, 5, short), Some((5 + 2 * SECOND, 5 + 2 * SECOND)));
    assert_eq!(life(&both, 5, Some(Duration::MAX)), Some((5 + 3 * SECOND, NEVER)));
}

#[test]
fn no_time_at_all_is_not_kept_and_endless_times_never_end() {
    let expiry = Expiry::new();
    assert_eq!(life(&expiry, 5, Some(Duration::ZERO)), None);
    assert_eq!(life(&expiry.clone().ttl(Duration::ZERO), 5, None), None);
    assert_eq!(life(&expiry.clone().ttl(Duration::ZERO), 5, Some(Duration::MAX)), Some((NEVER, NEVER)));
    assert_eq!(life(&expiry.clone().idle(Duration::ZERO), 5, Some(Duration::MAX)), None);
    assert_eq!(life(&expiry.clone().ttl(Duration::MAX).idle(Duration::MAX), 5, None), Some((NEVER, NEVER)));
    assert_eq!(life(&expiry, NEVER - 1, Some(Duration::from_secs(1))), Some((NEVER, NEVER)), "saturates");
}

#[test]
fn jitter_shortens_evenly_and_the_same_way_each_time() -> Result<(), InvalidJitter> {
    let ttl = Duration::from_secs(1000);
    let expiry = Expiry::new().ttl(ttl).jitter(0.25)?;
    let ends: Vec<u64> = (0..100_000).filter_map(|hash| Some(expiry.life(0, hash, None)?.deadline)).collect();
    let again: Vec<u64> =
        (0..100_000).filter_map(|hash| Some(expiry.life(0, hash, None)?.deadline)).collect();
    assert_eq!(ends, again);
    let (least, most) = (750 * SECOND, 1000 * SECOND);
    assert!(ends.iter().all(|end| (least..=most).contains(end)));
    // Ten parts of the range get a tenth each, to within five standard deviations.
    for part in 0..10 {
        let range = least + part * 25 * SECOND..least + (part + 1) * 25 * SECOND;
        let share = ends.iter().filter(|end| range.contains(end)).count();
        assert!((9_500..10_500).contains(&share), "{share} of 100000 in {range:?}");
    }
    Ok(())
}

#[test]
fn jitter_of_any_share_leaves_some_time_and_never_adds_any() -> Result<(), InvalidJitter> {
    for share in [0.0, 1e-9, 0.5, 1.0] {
        for ttl in [1, 2, 1_000, SECOND, u64::MAX / 2, NEVER - 1] {
            let expiry = Expiry::new().ttl(Duration::from_nanos(ttl)).jitter(share)?;
            for hash in 0..100 {
                let end = expiry.life(0, hash, None).map_or(0, |life| life.deadline);
                assert!(end >= 1 && end <= ttl, "{end} of {ttl} with {share}");
                assert!(share > 0.0 || end == ttl);
            }
        }
    }
    let endless = Expiry::new().jitter(1.0)?.life(0, 1, Some(Duration::MAX));
    assert_eq!(endless, Some(Life::ENDLESS), "nothing is cut from what never ends");
    Ok(())
}

#[test]
fn a_jitter_out_of_range_is_refused() {
    for share in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let refused = Expiry::new().jitter(share).unwrap_err().to_string();
        assert!(refused.contains("from 0 to 1"), "{refused}");
    }
}

#[test]
fn a_use_puts_the_end_off_but_not_beyond_the_limit() {
    let idle = 10 * SECOND;
    let mut timers = Timers::new();
    timers.set(0, Life { deadline: idle, limit: 25 * SECOND });
    timers.set(1, Life { deadline: idle, limit: NEVER });
    for (used, ends) in [(9, [19, 19]), (18, [25, 28]), (24, [25, 34])] {
        for slot in 0..2 {
            timers.touch(slot, used * SECOND, idle);
            assert_eq!(timers.deadline(slot), ends[slot as usize] * SECOND);
        }
    }
    assert_eq!(timers.expired(26 * SECOND, &mut 100), Some(0));
    assert_eq!(timers.expired(26 * SECOND, &mut 100), None);
    assert_eq!(timers.expired(35 * SECOND, &mut 100), Some(1));
}

#[test]
fn uses_close_together_write_once() {
    let mut timers = Timers::new();
    timers.set(0, Life { deadline: SECOND, limit: NEVER });
    timers.touch(0, 1_000_000, SECOND);
    assert_eq!(timers.deadline(0), SECOND, "less than a tick");
    timers.touch(0, 1_100_000, SECOND);
    assert_eq!(timers.deadline(0), SECOND + 1_100_000);
    // The slot's next entry is another one, with another limit.
    timers.set(0, Life { deadline: SECOND, limit: SECOND });
    timers.touch(0, SECOND / 2, SECOND);
    assert_eq!(timers.deadline(0), SECOND);
    timers.set(0, Life::ENDLESS);
    timers.touch(0, SECOND / 2, SECOND);
    assert_eq!(timers.deadline(0), NEVER, "what is endless stays so");
}

#[test]
fn timers_take_no_memory_until_an_entry_can_expire() {
    let mut timers = Timers::new();
    timers.set(1000, Life::ENDLESS);
    timers.clear(1000);
    timers.touch(1000, 1, 1);
    assert_eq!((timers.expired(NEVER - 1, &mut 100), timers.next_deadline()), (None, None));
}
