use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn core(limit: u64, declared: Option<u64>) -> Core<()> {
    let mut core = Core::new(true, Budget::new(1 << 40));
    let first = core.join();
    assert_eq!(first, Some(0));
    core.answer((), declared, limit, true);
    core
}

fn read(core: &mut Core<()>, id: usize) -> Option<Result<Vec<u8>, ()>> {
    match core.poll_read(id, &mut cx()).0 {
        Poll::Ready(Piece::Data(bytes)) => Some(Ok(bytes.to_vec())),
        Poll::Ready(_) => Some(Err(())),
        Poll::Pending => None,
    }
}

fn push(core: &mut Core<()>, bytes: &'static [u8]) {
    core.push(Bytes::from_static(bytes)).unwrap();
}

/// Reads until there is no more to read.
fn drain(core: &mut Core<()>, id: usize) -> (Vec<u8>, Option<Result<(), FillError>>) {
    let mut all = Vec::new();
    loop {
        match core.poll_read(id, &mut cx()).0 {
            Poll::Ready(Piece::Data(bytes)) => all.extend_from_slice(&bytes),
            Poll::Ready(Piece::End(_)) => return (all, Some(Ok(()))),
            Poll::Ready(Piece::Broken(error)) => return (all, Some(Err(error))),
            Poll::Pending => return (all, None),
        }
    }
}

#[test]
fn readers_have_their_own_positions_and_latecomers_get_it_all() {
    let mut core = core(100, None);
    push(&mut core, b"ab");
    assert_eq!(read(&mut core, 0), Some(Ok(b"ab".to_vec())));
    assert_eq!(read(&mut core, 0), None);
    let late = core.join().unwrap();
    push(&mut core, b"c");
    core.end(Ok(None));
    let later = core.join().unwrap();
    assert_eq!(drain(&mut core, late).0, b"abc");
    assert_eq!(drain(&mut core, later).0, b"abc");
    assert_eq!(drain(&mut core, 0).0, b"c");
}

#[test]
fn a_range_is_read_before_it_has_come() {
    let mut core = core(100, Some(6));
    core.seek(0, &(3..5));
    push(&mut core, b"ab");
    assert_eq!(read(&mut core, 0), None);
    push(&mut core, b"cdef");
    let other = core.join().unwrap();
    core.seek(other, &(1..3));
    assert_eq!(drain(&mut core, 0).0, b"de");
    assert_eq!(drain(&mut core, other).0, b"bc");
}

#[test]
fn what_is_truncated_or_too_long_is_never_whole_and_readers_are_told() {
    let mut short = core(100, Some(3));
    push(&mut short, b"ab");
    assert!(short.whole().is_none());
    short.end(Ok(None));
    let (all, end) = drain(&mut short, 0);
    assert_eq!(all, b"ab");
    assert!(matches!(end, Some(Err(FillError::Truncated { received: 2, declared: 3 }))));
    assert!(short.join().is_none());

    let mut long = core(100, Some(3));
    assert!(matches!(long.push(Bytes::from_static(b"abcd")), Err(FillError::TooLong { declared: 3 })));

    let mut aborted = core(100, None);
    push(&mut aborted, b"ab");
    aborted.end(Err(FillError::Aborted));
    assert!(aborted.whole().is_none());
    assert!(matches!(drain(&mut aborted, 0), (all, Some(Err(FillError::Aborted))) if all == b"ab"));
}

#[test]
fn what_is_too_large_goes_on_without_being_kept() {
    let mut core = core(4, None);
    push(&mut core, b"abc");
    assert!(core.is_open());
    push(&mut core, b"def");
    assert!(!core.is_open() && core.whole().is_none());
    assert_eq!(drain(&mut core, 0).0, b"abcdef");
    assert_eq!(core.kept, 0);
    core.end(Ok(None));
    assert!(core.whole().is_none());
}

#[test]
fn a_lone_slow_reader_slows_the_origin_down() {
    let mut core = core(4, None);
    let piece = Bytes::from(vec![0; 100 * 1024]);
    let mut pushed = 0;
    while core.poll_room(&mut cx()) == Poll::Ready(true) {
        core.push(piece.clone()).unwrap();
        pushed += 1;
    }
    assert_eq!(pushed, 3);
    read(&mut core, 0);
    assert_eq!(core.poll_room(&mut cx()), Poll::Ready(true));
}

#[test]
fn a_slow_reader_holds_nobody_up() {
    let mut core = core(300 * 1024, None);
    let fast = core.join().unwrap();
    let piece = Bytes::from(vec![0; 100 * 1024]);
    for _ in 0..20 {
        assert_eq!(core.poll_room(&mut cx()), Poll::Ready(true));
        core.push(piece.clone()).unwrap();
        assert_eq!(drain(&mut core, fast).0.len(), piece.len());
        assert!(core.kept <= 400 * 1024, "{}", core.kept);
    }
    let (all, end) = drain(&mut core, 0);
    assert!(all.is_empty() && matches!(end, Some(Err(FillError::TooSlow))), "{end:?}");
}

#[test]
fn what_nobody_wants_goes_on_only_if_told() {
    let mut core = Core::<()>::new(false, Budget::new(100));
    let id = core.join().unwrap();
    assert!(core.poll_abandoned(&mut cx()).is_pending());
    assert!(core.leave(id).is_some());
    assert!(core.poll_abandoned(&mut cx()).is_ready());
    assert!(core.join().is_none());

    let mut core = self::core(100, Some(3));
    core.leave(0);
    assert!(core.poll_abandoned(&mut cx()).is_pending());
    push(&mut core, b"abc");
    assert!(core.whole().is_some());

    let mut core = self::core(100, None);
    core.go_on = false;
    core.leave(0);
    assert_eq!(core.poll_room(&mut cx()), Poll::Ready(false));
}

#[test]
fn what_nobody_reads_ends_when_it_cannot_be_kept() {
    let mut core = core(3, None);
    core.leave(0);
    push(&mut core, b"abc");
    assert_eq!(core.poll_room(&mut cx()), Poll::Ready(true));
    push(&mut core, b"d");
    assert_eq!(core.poll_room(&mut cx()), Poll::Ready(false));
}

#[test]
fn the_budget_of_all_is_kept_and_given_back() {
    let budget = Budget::new(10);
    let begin = || {
        let mut core = Core::new(true, Arc::clone(&budget));
        core.join();
        core.answer((), None, 100, true);
        core
    };
    let (mut one, mut other) = (begin(), begin());
    push(&mut one, b"12345678");
    push(&mut other, b"123");
    assert!(one.is_open() && !other.is_open());
    drain(&mut other, 0);
    drop(one);
    let mut third = begin();
    push(&mut third, b"1234567890");
    assert!(third.is_open());
    drop((third, other));
    assert!(budget.take(10) && !budget.take(1));
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Join(Option<(u64, u64)>),
    Read(usize),
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0usize..40).prop_map(Step::Push),
        1 => prop::option::of((0u64..200, 0u64..200)).prop_map(Step::Join),
        5 => (0usize..6).prop_map(Step::Read),
        1 => (0usize..6).prop_map(Step::Leave),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever happens, each reader sees a prefix of its range, in order; all of it unless it was cut off; and what is
    /// remembered is bounded.
    #[test]
    fn every_reader_sees_what_was_sent(steps in steps(), limit in 0u64..400, budget in 0u64..400) {
        let budget = Budget::new(budget);
        let total = budget.left.load(std::sync::atomic::Ordering::Relaxed);
        let mut core = Core::new(true, Arc::clone(&budget));
        let mut seen: HashMap<usize, (u64, u64, Vec<u8>)> = HashMap::new();
        let mut sent: Vec<u8> = Vec::new();
        let first = core.join().unwrap();
        seen.insert(first, (0, u64::MAX, Vec::new()));
        core.answer((), None, limit, true);
        let expect = |sent: &[u8], from: u64, to: u64| {
            let from = usize::try_from(from).unwrap().min(sent.len());
            let to = usize::try_from(to).unwrap().min(sent.len());
            sent[from..to.max(from)].to_vec()
        };
        for step in steps {
            match step {
                Step::Push(length) => {
                    let bytes: Vec<u8> = (0..length).map(|i| u8::try_from((sent.len() + i) % 251).unwrap()).collect();
                    if core.poll_room(&mut cx()) == Poll::Ready(true) {
                        core.push(bytes.clone().into()).unwrap();
                        sent.extend(bytes);
                    }
                }
                Step::Join(range) => {
                    let open = core.is_open();
                    let joined = core.join();
                    prop_assert_eq!(open, joined.is_some());
                    if let Some(id) = joined {
                        let (from, to) = range.map_or((0, u64::MAX), |(a, b)| (a.min(b), a.max(b)));
                        core.seek(id, &(from..to));
                        seen.insert(id, (from, to, Vec::new()));
                    }
                }
                Step::Read(id) => {
                    if let Some((.., all)) = seen.get_mut(&id)
                        && let Poll::Ready(Piece::Data(bytes)) = core.poll_read(id, &mut cx()).0
                    {
                        all.extend_from_slice(&bytes);
                    }
                }
                Step::Leave(id) => {
                    if seen.remove(&id).is_some() {
                        core.leave(id);
                    }
                }
            }
            let held: u64 = core.chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum();
            prop_assert_eq!(held, core.kept);
            let at: usize = core.chunks.iter().map(|chunk| chunk.readers).sum();
            prop_assert_eq!(at + core.at_tail, core.present);
            if core.is_open() {
                prop_assert!(core.kept <= limit && core.kept == sent.len() as u64);
                prop_assert_eq!(core.whole().unwrap().concat(), sent.clone());
            }
            for (from, to, all) in seen.values() {
                let wanted = expect(&sent, *from, *to);
                prop_assert!(wanted.starts_with(all));
            }
        }
        core.end(Ok(None));
        for (id, (from, to, mut all)) in seen {
            let (rest, end) = drain(&mut core, id);
            all.extend(rest);
            prop_assert!(matches!(end, Some(Ok(()))));
            prop_assert_eq!(all, expect(&sent, from, to));
        }
        drop(core);
        prop_assert_eq!(budget.left.load(std::sync::atomic::Ordering::Relaxed), total);
    }
}

#[test]
fn who_falls_behind_takes_no_more_than_there_is() {
    const CHUNK: &[u8] = &[0; 64 << 10];
    let mut core = Core::new(true, Budget::new(1 << 20));
    let (slow, fast) = (core.join().unwrap(), core.join().unwrap());
    core.answer((), None, 1 << 30, true);
    for _ in 0..1000 {
        if core.poll_room(&mut cx()).is_pending() {
            break;
        }
        push(&mut core, CHUNK);
        assert!(read(&mut core, fast).unwrap().is_ok());
        assert!(core.kept <= (1 << 20) + WINDOW, "{}", core.kept);
    }
    assert!(matches!(drain(&mut core, slow).1, Some(Err(FillError::TooSlow))));
}
