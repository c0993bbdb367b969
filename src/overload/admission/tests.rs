use super::*;
use crate::{
    rng::Rng,
    time::{Clock, ManualClock},
};

const MS: Duration = Duration::from_millis(1);

fn at(priority: Priority) -> Terms {
    Terms::new(priority)
}

/// One is in flight, and nobody else can be.
fn full(queue: Queue, now: Instant) -> Admission<u32> {
    let mut admission = Admission::new(1, queue);
    assert_eq!(admission.arrive(Terms::default(), now, || 0), Arrival::Admitted);
    admission
}

fn wait(admission: &mut Admission<u32>, terms: Terms, now: Instant, name: u32) -> Place<u32> {
    match admission.arrive(terms, now, || name) {
        Arrival::Waiting(place) => place,
        other => panic!("{name} does not wait: {other:?}"),
    }
}

fn released(admission: &mut Admission<u32>, now: Instant) -> Option<(u32, Result<(), Reason>)> {
    admission.release(None);
    admission.next(now)
}

#[test]
fn those_who_matter_most_are_served_first_and_in_order() {
    let now = ManualClock::new().now();
    let mut admission = full(Queue::default(), now);
    let order = [2, 0, 3, 1, 2, 3, 0];
    for (name, priority) in order.into_iter().enumerate() {
        wait(&mut admission, at(Priority::ALL[priority]), now, name as u32);
    }
    let served: Vec<_> = (0..7).map(|_| released(&mut admission, now).unwrap().0).collect();
    assert_eq!(served, [2, 5, 0, 4, 3, 1, 6]);
    assert_eq!(released(&mut admission, now), None);
}

#[test]
fn under_pressure_the_newest_comes_first_and_waits_for_less() {
    let clock = ManualClock::new();
    let mut admission = full(Queue::new(100, 100 * MS), clock.now());
    let first = wait(&mut admission, Terms::default(), clock.now(), 1);
    assert_eq!(first.until - clock.now(), 100 * MS);
    clock.advance(50 * MS);
    wait(&mut admission, Terms::default(), clock.now(), 2);
    assert_eq!(admission.expire(first.ticket), Some((1, Reason::Waited)));
    clock.advance(50 * MS);
    // Somebody has been waiting for 100 ms, though not the same one.
    let third = wait(&mut admission, Terms::default(), clock.now(), 3);
    assert_eq!(third.until - clock.now(), 5 * MS);
    assert_eq!(released(&mut admission, clock.now()), Some((3, Ok(()))));
    assert_eq!(released(&mut admission, clock.now()), Some((2, Ok(()))));
    // Nobody waits: the pressure is over.
    let fourth = wait(&mut admission, Terms::default(), clock.now(), 4);
    assert_eq!(fourth.until - clock.now(), 100 * MS);
}

#[test]
fn one_who_takes_the_place_of_another_is_no_break() {
    let clock = ManualClock::new();
    let mut admission = full(Queue::new(1, 100 * MS), clock.now());
    for name in 1..4 {
        let place = wait(&mut admission, Terms::default(), clock.now(), name);
        assert_eq!(place.until - clock.now(), 100 * MS);
        clock.advance(40 * MS);
    }
    let place = wait(&mut admission, Terms::default(), clock.now(), 4);
    assert_eq!((place.until - clock.now(), place.displaced), (5 * MS, Some(3)));
}

#[test]
fn those_who_matter_more_feel_no_pressure_from_below() {
    let clock = ManualClock::new();
    let mut admission = full(Queue::new(100, 100 * MS), clock.now());
    let low = wait(&mut admission, at(Priority::Sheddable), clock.now(), 1);
    clock.advance(100 * MS);
    let high = wait(&mut admission, Terms::default(), clock.now(), 2);
    assert_eq!(high.until - clock.now(), 100 * MS);
    let next = wait(&mut admission, at(Priority::Sheddable), clock.now(), 3);
    assert_eq!(next.until - clock.now(), 5 * MS);
    // One above keeps it up for those below.
    admission.leave(low.ticket);
    admission.leave(next.ticket);
    let next = wait(&mut admission, at(Priority::Sheddable), clock.now(), 4);
    assert_eq!(next.until - clock.now(), 5 * MS);
}

#[test]
fn a_full_queue_gives_up_the_oldest_of_those_who_matter_least() {
    let now = ManualClock::new().now();
    let mut admission = full(Queue::new(3, 100 * MS), now);
    wait(&mut admission, Terms::default(), now, 1);
    wait(&mut admission, at(Priority::Sheddable), now, 2);
    wait(&mut admission, at(Priority::Sheddable), now, 3);
    assert_eq!(wait(&mut admission, at(Priority::Sheddable), now, 4).displaced, Some(2));
    assert_eq!(wait(&mut admission, at(Priority::CriticalPlus), now, 5).displaced, Some(3));
    assert_eq!(wait(&mut admission, Terms::default(), now, 6).displaced, Some(4));
    assert_eq!(wait(&mut admission, Terms::default(), now, 7).displaced, Some(1));
    assert_eq!(admission.arrive(at(Priority::SheddablePlus), now, || 8), Arrival::Shed(Reason::Full));
    assert_eq!(admission.waiting(), 3);
}

#[test]
fn without_a_queue_nobody_waits() {
    let now = ManualClock::new().now();
    let mut admission = full(Queue::none(), now);
    assert_eq!(admission.arrive(at(Priority::CriticalPlus), now, || 1), Arrival::Shed(Reason::Full));
}

#[test]
fn a_deadline_that_would_be_missed_costs_nothing() {
    let clock = ManualClock::new();
    let start = clock.now();
    clock.advance(10 * MS);
    let now = clock.now();
    let mut idle = Admission::new(1, Queue::default());
    assert_eq!(idle.arrive(Terms::default().deadline(start), now, || 1), Arrival::Shed(Reason::Deadline));
    assert_eq!(idle.arrive(Terms::default().deadline(now), now, || 1), Arrival::Shed(Reason::Deadline));
    // 20 ms is what even quick requests take.
    assert_eq!(idle.arrive(Terms::default().deadline(now + MS), now, || 1), Arrival::Admitted);
    idle.release(Some(20 * MS));
    assert_eq!(
        idle.arrive(Terms::default().deadline(now + MS), now, || 1),
        Arrival::Admitted,
        "it may be quicker"
    );
    let hopeless = idle.arrive(Terms::default().deadline(now + 20 * MS), now, || 2);
    assert_eq!(hopeless, Arrival::Shed(Reason::Deadline));
    let place = wait(&mut idle, Terms::default().deadline(now + 30 * MS), now, 3);
    assert_eq!(place.until, now + 10 * MS);
    clock.advance(10 * MS);
    assert_eq!(released(&mut idle, clock.now()), Some((3, Err(Reason::Deadline))), "no permit for it");
    assert_eq!((idle.in_flight(), idle.waiting()), (0, 0));
}

#[test]
fn a_limit_that_falls_lets_those_in_flight_go_on() {
    let now = ManualClock::new().now();
    let mut admission = Admission::new(5, Queue::default());
    assert!((0..5).all(|name| admission.arrive(Terms::default(), now, || name) == Arrival::Admitted));
    wait(&mut admission, Terms::default(), now, 6);
    admission.set_limit(2);
    assert_eq!(admission.in_flight(), 5);
    assert!((0..3).all(|_| released(&mut admission, now).is_none()));
    assert_eq!(released(&mut admission, now), Some((6, Ok(()))));
    admission.set_limit(0);
    assert_eq!(admission.limit(), 1);
}

#[test]
fn no_time_is_too_long() {
    let now = ManualClock::new().now();
    let mut admission = full(Queue::new(9, Duration::MAX).target(Duration::MAX), now);
    wait(&mut admission, Terms::default(), now, 1);
    admission.release(Some(Duration::MAX));
    assert_eq!(admission.next(now), Some((1, Ok(()))));
    let far = now + Duration::from_secs(1_000_000_000);
    assert!(matches!(
        admission.arrive(Terms::default().deadline(far), now, || 2),
        Arrival::Shed(Reason::Deadline)
    ));
}

/// Any sequence of what can happen, beside a list of who waits.
#[test]
fn in_any_history_the_rules_hold() {
    for seed in 0..300 {
        let (mut rng, clock) = (Rng::seeded(seed), ManualClock::new());
        let bound = rng.below(8);
        let mut admission = Admission::new(1 + rng.below(4), Queue::new(bound, 20 * MS).target(5 * MS));
        let mut waiting: Vec<(Ticket, u32, Instant)> = Vec::new();
        let mut in_flight = 0_usize;
        for name in 0..400 {
            clock.advance(Duration::from_micros(rng.below(5000) as u64));
            let now = clock.now();
            match rng.below(6) {
                0..3 => {
                    let terms = at(Priority::ALL[rng.below(4)]);
                    let deadline = now + Duration::from_micros(rng.below(30_000) as u64);
                    let terms = if rng.below(2) == 0 { terms.deadline(deadline) } else { terms };
                    match admission.arrive(terms, now, || name) {
                        Arrival::Admitted => {
                            assert!(waiting.is_empty(), "nobody overtakes those who wait");
                            in_flight += 1;
                        }
                        Arrival::Waiting(Place { ticket, until, displaced }) => {
                            if let Some(displaced) = displaced {
                                let least = waiting.iter().map(|(ticket, ..)| *ticket).min();
                                let index =
                                    waiting.iter().position(|(_, name, _)| *name == displaced).unwrap();
                                let (victim, ..) = waiting.remove(index);
                                assert_eq!(Some(victim), least);
                                assert!(victim.priority <= terms.priority);
                            }
                            assert!(until > now && until <= now + 20 * MS);
                            assert!(terms.deadline.is_none_or(|deadline| until <= deadline));
                            waiting.push((ticket, name, until));
                        }
                        Arrival::Shed(Reason::Full) => {
                            assert_eq!(waiting.len(), bound);
                            assert!(waiting.iter().all(|(ticket, ..)| ticket.priority > terms.priority));
                        }
                        Arrival::Shed(reason) => assert_eq!(reason, Reason::Deadline),
                    }
                }
                3 if in_flight > 0 => {
                    in_flight -= 1;
                    let served = Duration::from_micros(rng.below(10_000) as u64);
                    admission.release((rng.below(2) == 0).then_some(served));
                }
                4 if !waiting.is_empty() => {
                    let (ticket, name, _) = waiting.swap_remove(rng.below(waiting.len()));
                    if rng.below(2) == 0 {
                        assert_eq!(admission.leave(ticket), Some(name));
                    } else {
                        assert_eq!(admission.expire(ticket).map(|(expired, _)| expired), Some(name));
                    }
                    assert!(admission.leave(ticket).is_none() && admission.expire(ticket).is_none());
                }
                5 => admission.set_limit(rng.below(6)),
                _ => {}
            }
            while let Some((name, verdict)) = admission.next(now) {
                let index = waiting.iter().position(|(_, other, _)| *other == name).unwrap();
                let (ticket, _, until) = waiting.remove(index);
                assert!(waiting.iter().all(|(other, ..)| other.priority <= ticket.priority));
                assert_eq!(verdict.is_ok(), until > now);
                in_flight += usize::from(verdict.is_ok());
                assert!(in_flight <= admission.limit());
            }
            assert_eq!((admission.in_flight(), admission.waiting()), (in_flight, waiting.len()));
            assert!(waiting.len() <= bound);
            assert!(
                waiting.is_empty() || in_flight >= admission.limit(),
                "somebody waits though there is room"
            );
        }
    }
}
