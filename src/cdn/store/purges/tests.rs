use std::collections::HashMap;

use proptest::{collection::vec, prelude::*};

use super::*;

const URLS: [&[u8]; 7] = [
    b"http://a/",
    b"http://a/x",
    b"http://a/x/y",
    b"http://a/xy",
    b"http://b/x/y/z",
    b"http://b/",
    b"http://ab/x",
];

fn path(url: &[u8]) -> &[u8] {
    let host = "http://".len();
    let at = url[host..].iter().position(|byte| *byte == b'/').unwrap();
    &url[host + at..]
}

#[derive(Clone, Debug)]
enum Step {
    All,
    Name(u64),
    Prefix(Vec<u8>),
    /// Looks at a URL with these names that was stored so many purges ago.
    Look(usize, Vec<u64>, usize),
}

fn prefix() -> impl Strategy<Value = Vec<u8>> {
    let of_url =
        (0..URLS.len(), 7..14_usize).prop_map(|(url, len)| URLS[url][..len.min(URLS[url].len())].to_vec());
    let of_path = (0..URLS.len(), 1..5_usize).prop_map(|(url, len)| {
        let path = path(URLS[url]);
        path[..len.min(path.len())].to_vec()
    });
    prop_oneof![of_url, of_path]
}

fn step() -> impl Strategy<Value = (Step, bool)> {
    let step = prop_oneof![
        1 => Just(Step::All),
        4 => (0..5_u64).prop_map(Step::Name),
        4 => prefix().prop_map(Step::Prefix),
        8 => (0..URLS.len(), vec(0..5_u64, 0..3), 0..12_usize).prop_map(|(url, names, ago)| Step::Look(url, names, ago)),
    ];
    (step, any::<bool>())
}

proptest! {
    #[test]
    fn every_purge_and_no_other_tells(steps in vec(step(), 1..60)) {
        let purges = Purges::new(0);
        let mut noted: Vec<(Step, bool)> = Vec::new();
        for (step, soft) in steps {
            match &step {
                Step::All => _ = purges.note(Target::All, soft),
                Step::Name(name) => _ = purges.note(Target::Name(*name), soft),
                Step::Prefix(prefix) => _ = purges.note(Target::Prefix(prefix), soft),
                Step::Look(url, names, ago) => {
                    let since = noted.len().saturating_sub(*ago);
                    let url = URLS[*url];
                    let expected = noted[since..]
                        .iter()
                        .filter(|(step, _)| match step {
                            Step::All => true,
                            Step::Name(name) => names.contains(name),
                            Step::Prefix(prefix) => url.starts_with(prefix) || path(url).starts_with(prefix),
                            Step::Look(..) => false,
                        })
                        .map(|(_, soft)| if *soft { Verdict::SoftPurged } else { Verdict::Purged })
                        .max()
                        .unwrap_or(Verdict::Live);
                    let verdict = purges.verdict(url, path(url), names.iter().copied(), since as u64);
                    prop_assert_eq!(verdict, expected, "{:?} since {}", url, since);
                    continue;
                }
            }
            noted.push((step, soft));
            prop_assert_eq!(purges.last(), noted.len() as u64);
        }
    }

    #[test]
    fn prefixes_that_are_merged_purge_too_much_rather_than_too_little(
        prefixes in vec((vec(prop_oneof![Just(b'a'), Just(b'b')], 1..12), any::<bool>()), 1..60),
        url in vec(prop_oneof![Just(b'a'), Just(b'b')], 1..14),
        since in 0..60_u64,
    ) {
        let mut all = Prefixes::default();
        let mut expected = Verdict::Live;
        for (number, (prefix, soft)) in (1..).zip(&prefixes) {
            all.note(prefix, number, *soft);
            while all.0.len() > 4 {
                all.merge_closest();
            }
            if url.starts_with(prefix) && number > since {
                expected = expected.max(if *soft { Verdict::SoftPurged } else { Verdict::Purged });
            }
        }
        prop_assert!(all.verdict(&url, since) >= expected);
    }
}

#[test]
fn many_tags_and_prefixes_take_bounded_memory_and_none_of_them_is_lost() {
    let purges = Purges::new(0);
    let name = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for n in 0..300_000 {
        purges.note(Target::Name(name(n)), false);
        if n % 500 == 0 {
            purges.note(Target::Prefix(format!("http://a/{}", name(n)).as_bytes()), false);
        }
    }
    assert!(purges.names.iter().all(|bucket| bucket.read().unwrap().names.len() <= NAMES));
    assert!(purges.prefixes.read().unwrap().0.len() <= PREFIXES);
    for n in (0..300_000).step_by(999) {
        assert_eq!(purges.verdict(b"http://b/", b"/", [name(n)], 0), Verdict::Purged);
    }
    for n in (0..300_000).step_by(500) {
        let url = format!("http://a/{}/x", name(n));
        assert_eq!(purges.verdict(url.as_bytes(), &url.as_bytes()[8..], [], 0), Verdict::Purged);
    }
    // What came after all of them is none of theirs.
    assert_eq!(purges.verdict(b"http://a/0", b"/0", [name(1)], purges.last()), Verdict::Live);
}

#[test]
fn as_many_names_as_usual_are_told_apart() {
    let purges = Purges::new(0);
    let mut rng = crate::rng::Rng::seeded(1);
    let names: Vec<_> = (0..20_000).map(|_| rng.next_u64()).collect();
    for name in &names {
        purges.note(Target::Name(*name), false);
    }
    let wrong =
        (0..20_000).filter(|_| purges.verdict(b"", b"", [rng.next_u64()], 0) != Verdict::Live).count();
    assert_eq!(wrong, 0);
}

#[test]
fn a_url_is_compared_with_few_prefixes_however_many_there_are() {
    let mut prefixes = Prefixes::default();
    for n in 0..PREFIXES as u64 {
        prefixes.note(format!("http://a/{n:04}/").as_bytes(), n + 1, false);
    }
    assert_eq!(prefixes.0.len(), PREFIXES);
    assert_eq!(prefixes.verdict(b"http://a/0512/x", 0), Verdict::Purged);
    assert_eq!(prefixes.verdict(b"http://a/0512/x", 513), Verdict::Live);
    assert_eq!(prefixes.verdict(b"http://a/2000/x", 0), Verdict::Live);
}

#[test]
fn a_hard_purge_settles_longer_prefixes() {
    let mut prefixes = Prefixes::default();
    let all: HashMap<&[u8], bool> = [(&b"/a/b"[..], true), (b"/a/c", false), (b"/ab", false)].into();
    (1..).zip(&all).for_each(|(number, (prefix, soft))| prefixes.note(prefix, number, *soft));
    prefixes.note(b"/a/", 9, false);
    assert_eq!(prefixes.0.keys().map(|prefix| &**prefix).collect::<Vec<_>>(), [&b"/a/"[..], b"/ab"]);
    assert_eq!(prefixes.verdict(b"/a/b", 8), Verdict::Purged);
}
