use proptest::{collection::vec, prelude::*};

use super::*;

/// What a body is: each of its bytes follows from its place.
const BODY: [u8; 64] = {
    let mut body = [0; 64];
    let mut at = 0;
    while at < 64 {
        #[allow(clippy::cast_possible_truncation, reason = "below 64")]
        let byte = at as u8;
        body[at] = byte;
        at += 1;
    }
    body
};

/// A part of the body in chunks, and the length if it is told.
fn part() -> impl Strategy<Value = (Parts, Range<usize>)> {
    (0..64_usize, 0..24_usize, vec(0..6_usize, 0..6), any::<bool>()).prop_map(|(start, len, cuts, told)| {
        let end = (start + len).min(64);
        let mut chunks = Vec::new();
        let mut at = start;
        for cut in cuts {
            let next = (at + cut).min(end);
            chunks.push(Bytes::copy_from_slice(&BODY[at..next]));
            at = next;
        }
        chunks.push(Bytes::copy_from_slice(&BODY[at..end]));
        (Parts::part(start as u64, chunks, told.then_some(64)).unwrap(), start..end)
    })
}

fn read(parts: &Parts, range: Range<u64>) -> Option<Vec<u8>> {
    let cursor = parts.cursor(range.clone())?;
    assert_eq!(cursor.left(), range.end - range.start);
    Some(cursor.flatten().collect())
}

proptest! {
    #[test]
    fn what_is_combined_is_the_union_and_reads_as_the_body(
        all in vec(part(), 1..8),
        from in 0..70_u64,
        len in 0..70_u64,
    ) {
        let mut model = [false; 64];
        let mut parts: Option<Parts> = None;
        for (part, range) in all {
            model[range].fill(true);
            parts = Some(match parts {
                None => part,
                Some(parts) => parts.combine(&part).unwrap(),
            });
            let parts = parts.as_ref().unwrap();
            prop_assert_eq!(parts.held(), model.iter().filter(|held| **held).count() as u64);
            prop_assert_eq!(parts.is_whole(), parts.length().is_some() && model.iter().all(|held| *held));
            prop_assert!(parts.pieces.windows(2).all(|two| two[0].end() <= two[1].start));
            prop_assert!(parts.pieces.iter().all(|piece| !piece.bytes.is_empty()));
            let mut ranges = [false; 64];
            let mut last = None;
            for range in parts.ranges() {
                prop_assert!(last < Some(range.start) && range.start < range.end);
                last = Some(range.end);
                ranges[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].fill(true);
            }
            prop_assert_eq!(ranges, model);
        }
        let parts = parts.unwrap();
        let range = from..from + len;
        let here = |at: u64| usize::try_from(at).ok().and_then(|at| model.get(at).copied()).unwrap_or(false);
        let expected: Option<Vec<u8>> =
            range.clone().map(|at| here(at).then(|| BODY[usize::try_from(at).unwrap()])).collect();
        // An empty range beyond the end of a body is none of it.
        if len > 0 || from <= 64 {
            prop_assert_eq!(read(&parts, range.clone()), expected);
        }
        let end = parts.length().unwrap_or(u64::MAX);
        let missing: Vec<u64> = parts.missing(range.clone()).into_iter().flatten().collect();
        let expected: Vec<u64> = range.filter(|at| *at < end && !here(*at)).collect();
        prop_assert_eq!(missing, expected);
    }

    #[test]
    fn a_whole_body_is_read_as_it_came_however_it_was_cut(
        chunks in vec(prop_oneof![vec(any::<u8>(), 0..20), vec(any::<u8>(), SHORT..SHORT + 9)], 0..30),
    ) {
        let body: Vec<u8> = chunks.concat();
        let parts = Parts::whole(chunks.into_iter().map(Bytes::from));
        prop_assert!(parts.is_whole());
        prop_assert_eq!(parts.length(), Some(body.len() as u64));
        prop_assert_eq!(read(&parts, 0..body.len() as u64), Some(body));
    }

    #[test]
    fn no_range_and_no_start_panics(start: u64, len in 0..5_usize, length: Option<u64>, range: Range<u64>) {
        if let Some(parts) = Parts::part(start, [Bytes::from(vec![0; len])], length) {
            prop_assert!(length.is_none_or(|length| len == 0 || start + len as u64 <= length));
            let _ = (parts.missing(range.clone()), parts.cursor(range), parts.combine(&Parts::whole([])));
        }
    }
}

#[test]
fn lengths_that_differ_are_not_of_one_body() {
    let part = |length| Parts::part(2, [Bytes::from_static(b"cd")], length).unwrap();
    assert!(part(Some(5)).combine(&part(Some(6))).is_none());
    assert!(part(Some(5)).combine(&part(None)).is_some_and(|parts| parts.length() == Some(5)));
    assert!(Parts::whole([Bytes::from_static(b"abc")]).combine(&part(None)).is_none(), "beyond the end");
    assert!(Parts::part(2, [Bytes::from_static(b"cd")], Some(3)).is_none());
    assert!(Parts::part(u64::MAX, [Bytes::from_static(b"cd")], None).is_none());
}

#[test]
fn a_hole_that_is_filled_makes_it_whole() {
    let part = |start, bytes| Parts::part(start, [Bytes::from_static(bytes)], Some(6)).unwrap();
    let ends = part(0, b"ab").combine(&part(4, b"ef")).unwrap();
    assert_eq!(ends.missing(0..u64::MAX), vec![2..4]);
    assert!(!ends.is_whole());
    let whole = ends.combine(&part(1, b"bcde")).unwrap();
    assert!(whole.is_whole());
    assert_eq!(read(&whole, 0..6).unwrap(), b"abcdef");
}

#[test]
fn bytes_that_are_read_are_those_that_came_not_copies() {
    let long = Bytes::from(vec![7; SHORT]);
    let parts = Parts::whole([long.clone()]);
    let read = parts.cursor(10..20).unwrap().next().unwrap();
    assert_eq!(read.as_ptr(), long[10..].as_ptr());
}

#[test]
fn single_bytes_do_not_cost_a_hundred_times_their_weight() {
    let parts = Parts::whole((0..1 << 20).map(|_| Bytes::from_static(b"x")));
    assert!(parts.weight() < (1 << 20) + (1 << 12), "{}", parts.weight());
}
